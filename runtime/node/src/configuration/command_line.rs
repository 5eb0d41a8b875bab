//! The command line, with a configuration file below it.

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf};

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, parser::ValueSource};
use palisade_policy::Diagnostic;

use super::{
    definition::{definitions, settable},
    file::{self, Values},
};
use crate::arguments::{NodeArguments, Palisade};

/// Commands that read no configuration: a broken file must keep nobody from asking what is wrong with it, nor any container from starting.
const WITHOUT_FILE: [&str; 12] = [
    "config",
    "completion",
    "man",
    "version",
    "hook",
    "responder",
    "policy",
    "certificate",
    "simulate",
    "trace",
    "replay",
    "rehearse",
];

/// Commands by what they are for, as `palisade --help` shows them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Begin", &["doctor", "probe", "node"]),
    ("See what happens", &["top", "logs", "tree", "nodes"]),
    ("Write policies and configuration", &["policy", "config", "certificate"]),
    ("Record, replay, rehearse", &["record", "trace", "replay", "rehearse"]),
    ("More", &["simulate", "unload", "hook", "completion", "man", "version", "help"]),
];

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The command line.
    Flag,
    /// An environment variable.
    Environment,
    /// The configuration file.
    File,
    /// Nobody said otherwise.
    Default,
}

/// What a node runs with: for each setting by name its values (none: it is not set) and where they come from.
pub type Effective = BTreeMap<String, (Vec<String>, Source)>;

/// The file that was looked for.
#[derive(Debug, Clone, Default)]
pub struct FileFound {
    /// Where.
    pub path: PathBuf,
    /// It must be there: somebody named it.
    pub named: bool,
    /// What it sets.
    pub values: Values,
    /// What is wrong with it.
    pub problems: Vec<Diagnostic>,
    /// It cannot be read at all.
    pub unreadable: Option<String>,
}

impl FileFound {
    /// Whether it counts.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.unreadable.is_none() && !self.problems.iter().any(|problem| problem.severity.refuses())
    }

    /// What is wrong, a line for each problem.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        self.problems.iter().map(ToString::to_string).chain(self.unreadable.clone()).collect()
    }
}

/// A command line and how it was come by, so that it can be read again when the file changes.
#[derive(Debug, Clone)]
pub struct CommandLine {
    words: Vec<OsString>,
    matches: ArgMatches,
    /// Below it.
    pub file: FileFound,
}

impl CommandLine {
    /// Reads `words`, the first being the program's name, and the file that they, or the environment, name.
    ///
    /// # Errors
    /// clap's, which may also be an answer: help, version.
    pub fn read(words: Vec<OsString>) -> Result<Self, clap::Error> {
        let matches = command(&Values::default()).try_get_matches_from(&words)?;
        let path = matches.get_one::<PathBuf>("config").cloned().unwrap_or_default();
        let named = matches.value_source("config").is_some_and(|source| source != ValueSource::DefaultValue);
        let file = FileFound { path, named, ..FileFound::default() };
        let line = Self { words, matches, file };
        let needs = line.matches.subcommand_name().is_some_and(|name| !WITHOUT_FILE.contains(&name));
        if needs || line.is_config_show() { line.again() } else { Ok(line) }
    }

    /// The same words over the file as it is now.
    ///
    /// # Errors
    /// clap's. None, as long as each value of the file went through its flag's parser.
    pub fn again(&self) -> Result<Self, clap::Error> {
        let content = match file::content(&self.file.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.file.named => Ok(Vec::new()),
            other => other,
        };
        self.over(content)
    }

    /// The same words over a file of this content.
    ///
    /// # Errors
    /// See [`CommandLine::again`].
    pub fn over(&self, content: io::Result<Vec<u8>>) -> Result<Self, clap::Error> {
        let shown = self.file.path.display().to_string();
        let mut file = FileFound { path: self.file.path.clone(), named: self.file.named, ..FileFound::default() };
        match content {
            Ok(content) => (file.values, file.problems) = file::read(&shown, &content),
            Err(error) => file.unreadable = Some(format!("{shown}: {error}")),
        }
        let matches = command(&file.values).try_get_matches_from(&self.words)?;
        Ok(Self { words: self.words.clone(), matches, file })
    }

    /// As values.
    ///
    /// # Errors
    /// clap's: a bug, since the same definition has read them.
    pub fn palisade(&self) -> Result<Palisade, clap::Error> {
        Palisade::from_arg_matches(&self.matches)
    }

    /// The flags of `palisade node`, where that is the command.
    #[must_use]
    pub fn node(&self) -> Option<NodeArguments> {
        NodeArguments::from_arg_matches(self.matches.subcommand_matches("node")?).ok()
    }

    fn is_config_show(&self) -> bool {
        self.matches.subcommand_matches("config").is_some_and(|config| config.subcommand_name() == Some("show"))
    }

    /// What a node runs with; empty for other commands than `node` and `config show`.
    #[must_use]
    pub fn effective(&self) -> Effective {
        let of_show = || self.matches.subcommand_matches("config")?.subcommand_matches("show");
        let Some(matches) = self.matches.subcommand_matches("node").or_else(of_show) else { return Effective::new() };
        let one = |definition: super::definition::Definition| {
            let raw = matches.get_raw(&definition.id);
            let values = raw.into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect();
            let source = match matches.value_source(&definition.id) {
                Some(ValueSource::CommandLine) => Source::Flag,
                Some(ValueSource::EnvVariable) => Source::Environment,
                _ if self.file.values.contains_key(&definition.id) => Source::File,
                _ => Source::Default,
            };
            (definition.name, (values, source))
        };
        definitions().into_iter().map(one).collect()
    }
}

/// The definition of the whole command line, a file's values as the defaults of their flags: of the node's, and of what other commands
/// share with it (where its socket is), so that they find the node that the file describes.
#[must_use]
pub fn command(values: &Values) -> Command {
    let mut command = Palisade::command()
        .mut_subcommand("node", settable)
        .mut_subcommand("config", |config| config.mut_subcommand("show", settable_but_output));
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names.iter().filter(|name| !WITHOUT_FILE.contains(&name.as_str())) {
        command = command.mut_subcommand(name, |sub| over(sub, values));
    }
    command = command.mut_subcommand("config", |config| config.mut_subcommand("show", |show| over(show, values)));
    let help = grouped(&command);
    command.help_template(help)
}

fn settable_but_output(show: Command) -> Command {
    // Its own flag is no setting.
    settable(show).mut_arg("output", |arg| arg.env(None::<&'static str>).help_heading("How to print"))
}

fn over(command: Command, values: &Values) -> Command {
    command.mut_args(|arg| match values.get(arg.get_id().as_str()) {
        Some(values) => arg.default_values(values.clone()),
        None => arg,
    })
}

/// clap has no groups of commands.
fn grouped(command: &Command) -> String {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("{about}\n\n{{usage-heading}} {{usage}}\n");
    for (heading, names) in GROUPS {
        text += &format!("\n{heading}:\n");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let about =
                about.map_or_else(|| "Print this message or the help of a command".to_owned(), ToString::to_string);
            text += &format!("  {name:<11} {about}\n");
        }
    }
    text + "\nOptions:\n{options}{after-help}"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str], content: &str) -> CommandLine {
        let words = std::iter::once("palisade").chain(words.iter().copied()).map(OsString::from).collect::<Vec<_>>();
        let matches = command(&Values::default()).try_get_matches_from(&words).expect("understood");
        let line = CommandLine { words, matches, file: FileFound { path: "c.yaml".into(), ..FileFound::default() } };
        line.over(Ok(content.as_bytes().to_vec())).expect("understood")
    }

    #[test]
    fn unit_configuration_prefers_flags_to_the_file_and_the_file_to_defaults() {
        let content = "maxWorkloads: 7\npolicyDir: /file\nhostPolicy: true\nhostLabels: { a: b }\n";
        let line = line(&["node", "--policy-dir", "/flag", "--host-policy=false"], content);
        let node = line.node().expect("the command");
        assert_eq!((node.max_workloads, node.policy_dir.to_str(), node.host_policy), (7, Some("/flag"), false));
        assert_eq!(node.host_labels, [("a".to_owned(), "b".to_owned())]);
        let effective = line.effective();
        assert_eq!(effective["maxWorkloads"], (vec!["7".into()], Source::File));
        assert_eq!(effective["policyDir"], (vec!["/flag".into()], Source::Flag));
        assert_eq!(effective["hostPolicy"], (vec!["false".into()], Source::Flag));
        assert_eq!(effective["hostLabels"], (vec!["a=b".into()], Source::File));
        assert_eq!(effective["onUnknownPath"], (vec!["block".into()], Source::Default));
        assert_eq!(effective["alertFile"], (vec![], Source::Default));
    }

    #[test]
    fn unit_configuration_says_on_and_off_by_flags_with_and_without_value() {
        for (words, expected) in
            [(&["node"][..], false), (&["node", "--host-policy"], true), (&["node", "--host-policy=true"], true)]
        {
            assert_eq!(line(words, "").node().expect("the command").host_policy, expected, "{words:?}");
        }
    }

    #[test]
    fn unit_configuration_tells_other_commands_where_the_node_is() {
        let line = line(&["tree"], "adminSocket: /x.sock\nmaxWorkloads: 7\n");
        let Ok(Palisade { command: crate::arguments::Command::Tree(tree), .. }) = line.palisade() else {
            panic!("tree")
        };
        assert_eq!(tree.admin.admin_socket.to_str(), Some("/x.sock"));
    }

    #[test]
    fn unit_help_shows_every_command_in_exactly_one_group() {
        let command = Palisade::command();
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name).chain(["help"]);
        let shown: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let (mut visible, mut sorted) = (visible.collect::<Vec<_>>(), shown.clone());
        visible.sort_unstable();
        sorted.sort_unstable();
        assert_eq!(visible, sorted);
    }

    #[test]
    fn unit_command_line_is_defined_soundly() {
        command(&Values::default()).debug_assert();
    }
}

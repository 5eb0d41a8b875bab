//! One configuration file, read and checked.

use std::{collections::BTreeMap, fs::File, io, io::Read as _, path::Path};

use clap::{Args as _, Command, error::ErrorKind};
use palisade_policy::{
    Diagnostic, Severity,
    settings::{self, Setting, SettingValue},
};

use super::definition::{Definition, Kind, definitions, settable};
use crate::arguments::NodeArguments;

/// A configuration is a page of text.
pub const MAX_BYTES: u64 = 1 << 20;

/// What a file sets: values by the setting's id, as the command line takes them.
pub type Values = BTreeMap<String, Vec<String>>;

/// The whole content.
///
/// # Errors
/// The operating system's, and files past [`MAX_BYTES`]: a device has no end.
pub fn content(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {MAX_BYTES} bytes")));
    }
    Ok(content)
}

/// Reads a file's content: what is sound of it, and what is wrong.
#[must_use]
pub fn read(file: &str, content: &[u8]) -> (Values, Vec<Diagnostic>) {
    let all = definitions();
    let names: Vec<&str> = all.iter().map(|definition| definition.name.as_str()).collect();
    let (found, mut problems) = settings::read(file, content, &names);
    let mut values = Values::new();
    for setting in found {
        let Some(definition) = all.iter().find(|definition| definition.name == setting.name) else { continue };
        match checked(definition, &setting) {
            Ok(value) => drop(values.insert(definition.id.clone(), value)),
            Err(Wrong { what, why, instead }) => {
                let (file, severity) = (file.to_owned(), Severity::Error);
                let (line, column) = (setting.at.line, setting.at.column);
                problems.push(Diagnostic { file, line, column, severity, what, why, instead });
            }
        }
    }
    problems.sort_by_key(|problem| (problem.line, problem.column));
    (values, problems)
}

struct Wrong {
    what: String,
    why: String,
    instead: String,
}

/// The values of a setting as its flag takes them, if its flag takes them.
fn checked(definition: &Definition, setting: &Setting) -> Result<Vec<String>, Wrong> {
    let name = &definition.name;
    let shape = |what: &str, instead: &str| Wrong {
        what: format!("`{name}` is {what}"),
        why: format!("{} is wanted", wanted(&definition.kind)),
        instead: instead.to_owned(),
    };
    let values = match (&definition.kind, &setting.value) {
        (Kind::Map, SettingValue::Map(entries)) => {
            entries.iter().map(|(key, value)| format!("{key}={value}")).collect()
        }
        (Kind::Map, _) => return Err(shape("no mapping", "write `key: value` lines, indented below it")),
        (Kind::List, SettingValue::List(items)) => items.clone(),
        (Kind::List, _) => return Err(shape("no list", "write each item on its own line after `- `")),
        (Kind::Boolean, SettingValue::One(text)) if !["true", "false"].contains(&text.as_str()) => {
            return Err(shape(&quoted(text), "write `true` or `false`"));
        }
        (_, SettingValue::One(text)) => vec![text.clone()],
        (_, SettingValue::List(_)) => return Err(shape("a list", "write one value")),
        (_, SettingValue::Map(_)) => return Err(shape("a mapping", "write one value")),
    };
    values.iter().try_for_each(|value| by_its_flag(definition, value))?;
    Ok(values)
}

/// A value goes through the very parser of its flag.
fn by_its_flag(definition: &Definition, value: &str) -> Result<(), Wrong> {
    let command = settable(NodeArguments::augment_args(Command::new("node").no_binary_name(true)));
    // The environment is not what is checked here.
    let command = command.mut_args(|arg| arg.env(None::<&'static str>));
    let Err(error) = command.try_get_matches_from([format!("{}={value}", definition.flag)]) else { return Ok(()) };
    let reason = std::error::Error::source(&error).map(ToString::to_string);
    let why = match error.kind() {
        ErrorKind::InvalidValue => format!("{} is wanted", wanted(&definition.kind)),
        _ => reason.unwrap_or_else(|| format!("{} is wanted", wanted(&definition.kind))),
    };
    let near = match &definition.kind {
        Kind::OneOf(values) => settings::nearest(value, values.iter().map(String::as_str)),
        _ => None,
    };
    let instead = match (near, &definition.default) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, Some(default)) => format!("write such a value; unset it is `{default}`"),
        (None, None) => "write such a value, or remove the line".to_owned(),
    };
    Err(Wrong { what: format!("`{}` is {}", definition.name, quoted(value)), why, instead })
}

fn wanted(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Integer => "a whole number".to_owned(),
        Kind::Seconds => "a number of seconds".to_owned(),
        Kind::Text => "text".to_owned(),
        Kind::OneOf(values) => values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" or "),
        Kind::List => "a list".to_owned(),
        Kind::Map => "a mapping of names to values".to_owned(),
    }
}

/// In backticks, escaped, cut: a file may hold anything.
fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let cut = if text.chars().nth(MAX_CHARS).is_some() { "…" } else { "" };
    format!("`{}{cut}`", crate::render::printable(&text.chars().take(MAX_CHARS).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        read("c.yaml", text.as_bytes()).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unit_configuration_file_sets_what_flags_set() {
        let text = "policyDir: /p\nhostPolicy: true\nmaxWorkloads: 7\npolicyInterval: 0.5\nhostLabels: { env: prod, zone: 1 }\n\
                    defaultFilePosture: block\nadminAddress: '127.0.0.1:9180'\nlogLevel: info,palisade_kernel=debug\n";
        let (values, problems) = read("c.yaml", text.as_bytes());
        assert_eq!(problems, []);
        let expected = [
            ("admin_address", vec!["127.0.0.1:9180"]),
            ("default_file_posture", vec!["block"]),
            ("host_labels", vec!["env=prod", "zone=1"]),
            ("host_policy", vec!["true"]),
            ("log_level", vec!["info,palisade_kernel=debug"]),
            ("max_workloads", vec!["7"]),
            ("policy_dir", vec!["/p"]),
            ("policy_interval", vec!["0.5"]),
        ];
        let found: Vec<(&str, Vec<&str>)> =
            values.iter().map(|(id, values)| (id.as_str(), values.iter().map(String::as_str).collect())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn unit_configuration_file_is_refused_with_place_reason_and_what_to_write() {
        let cases = [
            (
                "polcyDir: /p\n",
                "c.yaml:1:1: unknown field `polcyDir`, there is no such setting, did you mean `policyDir`?",
            ),
            (
                "maxWorkloads: 0\n",
                "c.yaml:1:15: `maxWorkloads` is `0`, 0 is not in 1..=4094, write such a value; unset it is `1024`",
            ),
            (
                "maxWorkloads: many\n",
                "c.yaml:1:15: `maxWorkloads` is `many`, invalid digit found in string, write such a value; unset it is `1024`",
            ),
            (
                "\nonUnknownPath: blokc\n",
                "c.yaml:2:16: `onUnknownPath` is `blokc`, `audit` or `block` is wanted, did you mean `block`?",
            ),
            (
                "hostPolicy: yes\n",
                "c.yaml:1:13: `hostPolicy` is `yes`, `true` or `false` is wanted, write `true` or `false`",
            ),
            (
                "hostLabels: [a]\n",
                "c.yaml:1:13: `hostLabels` is no mapping, a mapping of names to values is wanted, write `key: value` lines, indented below it",
            ),
            ("policyDir: [a]\n", "c.yaml:1:12: `policyDir` is a list, text is wanted, write one value"),
            (
                "policyInterval: 0.001\n",
                "c.yaml:1:17: `policyInterval` is `0.001`, 0.01 or more, write such a value; unset it is `0.25`",
            ),
            (
                "adminAddress: \"\\e[2J\"\n",
                "c.yaml:1:15: `adminAddress` is `\\u{1b}[2J`, an address and a port, such as 127.0.0.1:9180 or [::1]:9180, write such a value, or remove the line",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(problems(text), [expected], "{text}");
        }
    }

    #[test]
    fn unit_configuration_file_tells_all_problems_in_order_and_keeps_what_is_sound() {
        let (values, problems) = read("c.yaml", b"maxWorkloads: 0\nx: 1\npolicyDir: /p\nhostPolicy: 3\n");
        let lines: Vec<u32> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [1, 2, 4]);
        assert_eq!(values.keys().collect::<Vec<_>>(), ["policy_dir"]);
        assert_eq!(read("c.yaml", b"a: [").1.len(), 1, "no YAML");
        assert!(content(Path::new("/dev/zero")).expect_err("no end").to_string().contains("more than 1048576 bytes"));
    }
}

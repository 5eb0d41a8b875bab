//! A rule in words.

use std::fmt::Write as _;

use palisade_domain::{Action, text::printable};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, SocketMatch, Specificity};

pub(super) fn place(rule: &Rule) -> String {
    format!("{} {}", rule.policy, rule.place)
}

/// Where it stands in the verdict order.
pub(super) fn rank_words(specificity: Specificity, matcher: &Matcher) -> String {
    let kind = match (matcher, specificity.kind) {
        (Matcher::Socket(_), _) => "a socket".to_owned(),
        (Matcher::Destination(_), _) => "a destination".to_owned(),
        (Matcher::Dns(_), _) => format!("a domain of {} bytes", specificity.length),
        (Matcher::Device(_), _) => format!("a device of specificity {}", specificity.length),
        (Matcher::Capability(_) | Matcher::Preset(_), _) => "a name".to_owned(),
        (Matcher::Syscall(call), _) if call.path.is_none() => "a system call".to_owned(),
        (_, 2) => "an exact path".to_owned(),
        (_, 1) => "a bare name".to_owned(),
        (
            Matcher::Process(PathRule { path: PathMatch::Pattern(_), .. })
            | Matcher::File(PathRule { path: PathMatch::Pattern(_), .. }),
            _,
        ) => {
            format!("a pattern with {} literal bytes first", specificity.length)
        }
        _ => format!("a directory of {} bytes", specificity.length),
    };
    if specificity.has_source { format!("{kind}, with a source") } else { kind }
}

/// What the rule says, in one line: a path may hold a line feed.
pub(super) fn rule_words(rule: &Rule) -> String {
    let (object, modifiers) = matcher_words(&rule.matcher);
    let mut words = format!("{:?} {object}", rule.action);
    if !rule.sources.is_empty() || !rule.source_directories.is_empty() {
        let paths = rule.sources.iter().cloned();
        let directories = rule.source_directories.iter().map(|source| match source.recursive {
            true => format!("anything below {}", source.directory),
            false => format!("anything in {}", source.directory),
        });
        let _ = write!(words, " by {}", paths.chain(directories).collect::<Vec<_>>().join(" or "));
    }
    if !modifiers.is_empty() {
        let lead = if rule.action == Action::Allow { "only" } else { "unless" };
        let _ = write!(words, ", {lead} {}", modifiers.join(" and "));
    }
    printable(&words)
}

fn matcher_words(matcher: &Matcher) -> (String, Vec<String>) {
    let plain = |words: String| (words, Vec::new());
    match matcher {
        Matcher::Process(path) => (format!("execution of {}", path_words(&path.path)), modifier_words(path)),
        Matcher::File(path) => (format!("opening of {}", path_words(&path.path)), modifier_words(path)),
        Matcher::Ptrace(path) => plain(format!("tracing of {}", path_words(path))),
        Matcher::Socket(SocketMatch { name, pts, .. }) => {
            let modifiers = if *pts == Some(false) { vec!["without a terminal".to_owned()] } else { Vec::new() };
            (format!("{name} sockets"), modifiers)
        }
        Matcher::Destination(destination) => {
            let to =
                destination.cidr.map_or_else(|| "anywhere".to_owned(), |(address, bits)| format!("{address}/{bits}"));
            let ports = match destination.ports {
                None => String::new(),
                Some((low, high)) if low == high => format!(" port {low}"),
                Some((low, high)) => format!(" ports {low} to {high}"),
            };
            let over =
                destination.protocol.map(|protocol| format!(" over {protocol:?}").to_lowercase()).unwrap_or_default();
            plain(format!("connections to {to}{ports}{over}"))
        }
        Matcher::Capability(capability) => plain(format!("use of the capability {}", capability.name)),
        Matcher::Syscall(call) => {
            let on = call.path.as_ref().map(|path| format!(" on {}", path_words(path))).unwrap_or_default();
            plain(format!("system calls {}{on}", call.names.join(", ")))
        }
        Matcher::Dns(dns) => plain(format!("questions for {} and below", dns.domain)),
        Matcher::Preset(preset) => plain(format!("what the preset {} names", preset.name())),
        Matcher::Device(device) => {
            let number =
                |name: &str, number: Option<u32>| number.map(|number| format!(" {name} {number}")).unwrap_or_default();
            let class = device.class.map_or_else(|| "any class".to_owned(), |class| format!("class {class:#04x}"));
            let sub_class = number("subclass", device.sub_class.map(u32::from));
            let protocol = number("protocol", device.protocol.map(u32::from));
            plain(format!("USB devices of {class}{sub_class}{protocol}{}", number("level", device.level)))
        }
    }
}

fn path_words(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) => path.clone(),
        PathMatch::Name(name) => format!("anything called {name}"),
        PathMatch::Directory { directory, recursive: true } => format!("anything below {directory}"),
        PathMatch::Directory { directory, recursive: false } => format!("anything in {directory}"),
        PathMatch::Pattern(pattern) => format!("what matches {pattern}"),
        PathMatch::Any => "anything".to_owned(),
    }
}

fn modifier_words(path: &PathRule) -> Vec<String> {
    let arguments = || {
        let list: Vec<String> = path.allowed_arguments.iter().map(|argument| format!("{argument:?}")).collect();
        format!("with arguments that are all of {}", list.join(", "))
    };
    let words = [
        path.owner_only.then(|| "by the file's owner".to_owned()),
        path.read_only.then(|| "for reading".to_owned()),
        (path.pts == Some(false)).then(|| "without a terminal".to_owned()),
        (!path.allowed_arguments.is_empty()).then(arguments),
    ];
    words.into_iter().flatten().collect()
}

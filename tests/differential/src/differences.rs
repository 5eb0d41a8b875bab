//! What backends are known not to see: `differences.yaml`, read strictly, and what may be decided instead.

use std::collections::BTreeSet;

use palisade_kernel_abi::blob::{Effect, Endpoint, Family, Modifiers};
use palisade_policy::ir::{Matcher, WorkloadRules};
use palisade_policy_compiler::naive::evaluate;

use crate::{Part, act::Named, ground, yaml::Tree};

/// The list, as it lies in the repository.
const LIST: &str = include_str!("../differences.yaml");
/// Backends that a test runs: an entry of another would never be stale.
pub const BACKENDS: [&str; 9] =
    ["rust-walker", "kernel-walker", "fanotify", "cgroup-bpf", "kill", "bpf-lsm", "fmod-ret", "apparmor", "selinux"];

/// A circumstance that a backend is blind to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blind {
    /// Who executes: it permits what any executable may do.
    FromSource,
    /// Whether there is a terminal: it permits what either may do.
    Pts,
    /// Arguments: it permits what any may be given.
    AllowedArgs,
    /// Whether an open writes: each is taken for one that reads.
    ReadOnly,
    /// A socket's protocol: it permits what any protocol of domain and type may.
    Protocol,
    /// Sockets of one class: it permits what any of them may.
    SocketClass,
    /// Who is traced: it permits what may trace anybody.
    Target,
    /// Sockets that are neither IPv4's nor IPv6's, where the posture decides: they are made.
    OtherSockets,
    /// Capabilities: their use is seen and not prevented.
    Denial,
}

impl Blind {
    /// Each.
    pub const ALL: [Self; 9] = [
        Self::FromSource,
        Self::Pts,
        Self::AllowedArgs,
        Self::ReadOnly,
        Self::Protocol,
        Self::SocketClass,
        Self::Target,
        Self::OtherSockets,
        Self::Denial,
    ];

    /// As the list has it: where it is a word of the policy language, that.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::FromSource => "fromSource",
            Self::Pts => "pts",
            Self::AllowedArgs => "allowedArgs",
            Self::ReadOnly => "readOnly",
            Self::Protocol => "protocol",
            Self::SocketClass => "socket class",
            Self::Target => "target",
            Self::OtherSockets => "other sockets by posture",
            Self::Denial => "denial",
        }
    }

    /// The mildest that the rules say of the part over all that the backend cannot tell apart.
    #[must_use]
    pub fn mildest(blinds: &[Self], rules: &WorkloadRules, part: &Part) -> Effect {
        let mut variants = vec![part.clone()];
        for blind in blinds {
            if blind.lets_pass(rules, part) {
                return Effect::Permit;
            }
            variants = variants.iter().flat_map(|part| blind.variants(rules, part)).collect();
        }
        let effects = variants.iter().map(|part| part.with(|act| evaluate(rules, act).effect));
        effects.min().unwrap_or(Effect::Permit)
    }

    fn lets_pass(self, rules: &WorkloadRules, part: &Part) -> bool {
        match (self, &part.object) {
            (Self::Denial, _) => true,
            (Self::OtherSockets, Named::Endpoint(endpoint)) => {
                endpoint.destination.is_none()
                    && !matches!(endpoint.domain, 2 | 10)
                    && part.with(|act| evaluate(rules, act).by_posture)
            }
            _ => false,
        }
    }

    /// The acts that it takes for one, the part among them unless it is taken for another.
    fn variants(self, rules: &WorkloadRules, part: &Part) -> Vec<Part> {
        let with = |modifiers: Modifiers| Part { modifiers, ..part.clone() };
        match self {
            Self::FromSource => {
                let named = rules.rules.iter().flat_map(|rule| rule.sources.iter().cloned().map(Some));
                let executables: BTreeSet<Option<String>> = named.chain([None, part.executable.clone()]).collect();
                executables.into_iter().map(|executable| Part { executable, ..part.clone() }).collect()
            }
            Self::Pts => [false, true].map(|tty| with(part.modifiers.at_terminal(tty))).into(),
            Self::AllowedArgs => {
                arguments_of(rules).into_iter().map(|arguments| Part { arguments, ..part.clone() }).collect()
            }
            Self::ReadOnly => vec![with(Modifiers(part.modifiers.0 & !Modifiers::WRITE.0))],
            Self::Protocol => protocols_of(rules, part),
            Self::SocketClass => sockets_of_class(rules, part),
            Self::Target => {
                let targets =
                    ground::TRACED.iter().map(|path| (*path).to_owned()).chain(["/no/rule/names/it".to_owned()]);
                targets.map(|path| Part { object: Named::Path(path), ..part.clone() }).collect()
            }
            Self::OtherSockets | Self::Denial => vec![part.clone()],
        }
    }

    /// What is decided instead, for people.
    const fn instead(self) -> &'static str {
        match self {
            Self::FromSource => "permits what any executable may do",
            Self::Pts => "permits what is permitted with or without a terminal",
            Self::AllowedArgs => "permits the execution, if any arguments may be given",
            Self::ReadOnly => "takes each open for one that reads",
            Self::Protocol => "permits what any protocol of domain and type may",
            Self::SocketClass => "permits what any socket of its class may",
            Self::Target => "denies only where every target is blocked",
            Self::OtherSockets => "permits the socket",
            Self::Denial => "permits, and tells of it",
        }
    }
}

/// None, one that no rule lists, and each that some rule lists.
fn arguments_of(rules: &WorkloadRules) -> BTreeSet<Vec<String>> {
    let listed = rules.rules.iter().filter_map(|rule| match &rule.matcher {
        Matcher::Process(path) => Some(path.allowed_arguments.iter().map(|argument| vec![argument.clone()])),
        _ => None,
    });
    listed.flatten().chain([Vec::new(), vec!["-unlisted".to_owned()]]).collect()
}

fn protocols_of(rules: &WorkloadRules, part: &Part) -> Vec<Part> {
    let Named::Endpoint(endpoint) = &part.object else { return vec![part.clone()] };
    let named = rules.rules.iter().filter_map(|rule| match &rule.matcher {
        Matcher::Socket(socket) => Some(socket.any_of.iter().filter_map(|shape| shape.protocol)),
        _ => None,
    });
    let protocols: BTreeSet<u8> = named.flatten().chain([endpoint.protocol, 255]).collect();
    let each = protocols.into_iter();
    each.map(|protocol| {
        let mut endpoint = *endpoint;
        endpoint.protocol = protocol;
        Part { object: Named::Endpoint(endpoint), ..part.clone() }
    })
    .collect()
}

/// What SELinux takes a socket for (security/selinux/hooks.c): domain, and type or protocol where they matter. Written here a second time, so that
/// what lowers policies is held to it.
const fn class_of(domain: u8, kind: u8, protocol: u8) -> (u8, u8) {
    match (domain, kind, protocol) {
        (1, 1 | 5, _) => (1, 1),
        (1, 2 | 3, _) => (1, 2),
        (2 | 10, 1 | 5, 0 | 6) => (2, 6),
        (2 | 10, 1 | 5, 132) => (2, 132),
        (2 | 10, 2, 0 | 17) => (2, 17),
        (2 | 10, 2, 1 | 58) => (2, 1),
        (2 | 10, 6, _) => (2, 33),
        (2 | 10, ..) => (2, 255),
        (16, ..) => (16, protocol),
        _ => (domain, 0),
    }
}

/// Sockets of the part's class, whether a kernel makes such or not: those that rules tell apart, and one that none names.
fn sockets_of_class(rules: &WorkloadRules, part: &Part) -> Vec<Part> {
    let Named::Endpoint(of) = &part.object else { return vec![part.clone()] };
    let shapes = rules.rules.iter().filter_map(|rule| match &rule.matcher {
        Matcher::Socket(socket) => Some(socket.any_of.iter()),
        _ => None,
    });
    let named = shapes.flatten().filter_map(|shape| shape.protocol);
    let protocols: BTreeSet<u8> = named.chain([of.protocol, 0, 1, 6, 17, 58, 132, 254, 255]).collect();
    let domains = if matches!(of.domain, 2 | 10) { vec![2, 10] } else { vec![of.domain] };
    let all = domains.into_iter().flat_map(|domain| (1..=10).map(move |kind| (domain, kind)));
    let all = all.flat_map(|(domain, kind)| protocols.iter().map(move |protocol| (domain, kind, *protocol)));
    let class = class_of(of.domain, of.kind, of.protocol);
    let of_class = all.filter(|(domain, kind, protocol)| class_of(*domain, *kind, *protocol) == class);
    of_class
        .map(|(domain, kind, protocol)| {
            let object = Named::Endpoint(Endpoint { domain, kind, protocol, destination: of.destination });
            Part { object, ..part.clone() }
        })
        .collect()
}

/// One declared difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose: one of [`BACKENDS`].
    pub backend: String,
    /// In which tables.
    pub families: Vec<Family>,
    /// To what it is blind.
    pub blind: Blind,
    /// Why.
    pub reason: String,
    /// The gap of the tier that tells a user of it, by the word that gaps have; of a profile and of constraints, what it makes weaker or leaves
    /// unsaid of the policy tells it.
    pub told: Option<String>,
}

/// A difference that generated acts do not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apart {
    /// Whose: one of [`BACKENDS`].
    pub backend: String,
    /// In what.
    pub what: String,
    /// What it decides.
    pub instead: String,
    /// Why.
    pub reason: String,
    /// The test that shows it; `None`: by reading of the kernel's source, which nobody tried.
    pub shown_by: Option<String>,
}

/// Why a text is no list.
#[derive(Debug, thiserror::Error)]
#[error("differences.yaml: {0}")]
pub struct DifferencesError(pub(crate) String);

/// The list.
#[derive(Debug, Clone, Default)]
pub struct Differences {
    /// Those that cases meet.
    pub met: Vec<Difference>,
    /// The others.
    pub apart: Vec<Apart>,
}

impl Differences {
    /// The repository's.
    ///
    /// # Errors
    /// Where its text is none.
    pub fn declared() -> Result<Self, DifferencesError> {
        Self::parse(LIST)
    }

    /// Reads a list. The head says how many entries there are, so that one more is two edits.
    ///
    /// # Errors
    /// Where a field is missing, unknown or wrong, or where the number of entries is not the head's.
    pub fn parse(text: &str) -> Result<Self, DifferencesError> {
        let mut list = Tree::parse(text)?.map("the list")?;
        let entries = list.take("entries")?.text("entries")?;
        let differences = list.take("differences")?.list("differences")?;
        let apart = list.take("apart")?.list("apart")?;
        list.end()?;
        let all = differences.into_iter().map(Difference::parse).collect::<Result<Vec<_>, _>>()?;
        let apart = apart.into_iter().map(Apart::parse).collect::<Result<Vec<_>, _>>()?;
        let found = all.len() + apart.len();
        if entries.parse() != Ok(found) {
            return Err(DifferencesError(format!("the head says {entries} entries, and there are {found}")));
        }
        for (place, one) in all.iter().enumerate() {
            let overlaps = |other: &Difference| {
                (&other.backend, other.blind) == (&one.backend, one.blind)
                    && other.families.iter().any(|family| one.families.contains(family))
            };
            if all[..place].iter().any(overlaps) {
                return Err(DifferencesError(format!("{} of {} is there twice", one.blind.word(), one.backend)));
            }
        }
        Ok(Self { met: all, apart })
    }

    /// What is declared of a backend, as a table for people.
    #[must_use]
    pub fn table(&self, backend: &str) -> String {
        let mut rows = String::new();
        for entry in self.met.iter().filter(|entry| entry.backend == backend) {
            let families: Vec<String> =
                entry.families.iter().map(|family| format!("{family:?}").to_lowercase()).collect();
            let (word, instead) = (entry.blind.word(), entry.blind.instead());
            rows += &format!("| `{word}` ({}) | {instead} | {} |\n", families.join(", "), entry.reason);
        }
        for Apart { what, instead, reason, shown_by, .. } in self.apart.iter().filter(|entry| entry.backend == backend)
        {
            let untried = if shown_by.is_none() { " (by the kernel's source; not tried)" } else { "" };
            rows += &format!("| {what} | {instead}{untried} | {reason} |\n");
        }
        rows
    }

    /// Places and blindness of a backend in a family.
    pub fn of<'a>(&'a self, backend: &'a str, family: Family) -> impl Iterator<Item = (usize, Blind)> + 'a {
        let of = move |entry: &Difference| entry.backend == backend && entry.families.contains(&family);
        self.met.iter().enumerate().filter(move |(_, entry)| of(entry)).map(|(place, entry)| (place, entry.blind))
    }
}

impl Difference {
    fn parse(tree: Tree) -> Result<Self, DifferencesError> {
        let mut entry = tree.map("an entry")?;
        let backend = entry.take("backend")?.text("backend")?;
        let families = entry.take("families")?.list("families")?;
        let word = entry.take("blind")?.text("blind")?;
        let reason = entry.take("reason")?.text("reason")?;
        let told = entry.take_if_there("told").map(|tree| tree.text("told")).transpose()?;
        entry.end()?;
        ensure_sound(&backend, &word, &reason)?;
        if told.is_none() != matches!(backend.as_str(), "apparmor" | "selinux") {
            let why = "a tier's gap tells of it; of a profile and of constraints what each policy is weakened in does";
            return Err(DifferencesError(format!("{backend} {word}: {why}")));
        }
        let family = |tree: Tree| {
            let name = tree.text("a family")?;
            let found = Family::ALL.into_iter().find(|family| format!("{family:?}").to_lowercase() == name);
            found.ok_or_else(|| DifferencesError(format!("`{name}` is no family")))
        };
        let families = families.into_iter().map(family).collect::<Result<Vec<_>, _>>()?;
        let blind = Blind::ALL.into_iter().find(|blind| blind.word() == word);
        let blind = blind.ok_or_else(|| DifferencesError(format!("`{word}` is nothing that a backend is blind to")))?;
        Ok(Self { backend, families, blind, reason, told })
    }
}

impl Apart {
    fn parse(tree: Tree) -> Result<Self, DifferencesError> {
        let mut entry = tree.map("an entry")?;
        let mut text = |key: &str| entry.take(key).and_then(|tree| tree.text(key));
        let (backend, what, instead) = (text("backend")?, text("what")?, text("instead")?);
        let reason = text("reason")?;
        let shown_by = entry.take_if_there("shown by").map(|tree| tree.text("shown by")).transpose()?;
        entry.end()?;
        ensure_sound(&backend, &what, &reason)?;
        Ok(Self { backend, what, instead, reason, shown_by })
    }
}

fn ensure_sound(backend: &str, what: &str, reason: &str) -> Result<(), DifferencesError> {
    if !BACKENDS.contains(&backend) {
        return Err(DifferencesError(format!("no test runs a backend `{backend}`")));
    }
    if reason.trim().len() < 10 {
        return Err(DifferencesError(format!("{backend} {what}: a reason is missing")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Differences::parse(text).expect_err("no list").to_string()
    }

    #[test]
    fn unit_differences_of_the_repository_are_read_and_each_has_a_reason() {
        let list = Differences::declared().expect("the list");
        assert!(list.met.iter().all(|entry| !entry.families.is_empty()));
        assert!(list.of("rust-walker", Family::File).next().is_none(), "a walker has no excuse");
    }

    #[test]
    fn unit_differences_cannot_grow_without_an_edit_of_their_number() {
        let entry =
            "- {backend: fanotify, families: [file], blind: readOnly, reason: no mode is told, told: readOnly}\n";
        assert_eq!(
            Differences::parse(&format!("entries: 1\napart: []\ndifferences:\n{entry}")).expect("a list").met.len(),
            1
        );
        assert!(
            error(&format!("entries: 0\napart: []\ndifferences:\n{entry}"))
                .contains("the head says 0 entries, and there are 1")
        );
        assert!(error(&format!("entries: 2\napart: []\ndifferences:\n{entry}{entry}")).contains("twice"));
        assert!(error("entries: 0\napart: []\ndifferences: []\nmore: 1\n").contains("more"));
        for (from, to) in [
            ("fanotify", "telepathy"),
            ("readOnly", "everything"),
            ("[file]", "[files]"),
            ("no mode is told", "x"),
            (", told: readOnly", ""),
        ] {
            error(&format!("entries: 1\napart: []\ndifferences:\n{}", entry.replace(from, to)));
        }
    }
}

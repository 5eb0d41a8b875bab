//! Rules and paths to measure with: made from a seed, shaped like those of real policies.
//!
//! Of ten rules five name a file, three a directory and two a pattern. Paths have seven components and half of them are
//! near a rule, so that walks go deep: paths that fail in the first component would flatter every matcher.

use std::{collections::BTreeSet, sync::Arc};

use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};

const WORDS: [&str; 16] = [
    "usr",
    "lib",
    "share",
    "nginx",
    "conf",
    "cache",
    "python3",
    "site-packages",
    "var",
    "data",
    "worker",
    "logs",
    "tenant",
    "static",
    "internal",
    "assets",
];
const COMPONENTS: usize = 7;

/// xorshift64*: a sequence that is the same everywhere.
pub struct Random(u64);

impl Random {
    /// From a seed that is not 0.
    pub fn from_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

/// `count` different path matches.
pub fn path_matches(count: usize, random: &mut Random) -> Vec<PathMatch> {
    let mut matches = BTreeSet::new();
    while matches.len() < count {
        let stem = stem(3 + random.below(3), random);
        matches.insert(match matches.len() % 10 {
            0..=4 => PathMatch::Exact(format!("{stem}/file-{}", random.below(1000))),
            5..=7 => PathMatch::Directory { directory: format!("{stem}/"), recursive: true },
            8 => PathMatch::Pattern(format!("{stem}/*.conf")),
            _ => PathMatch::Pattern(format!("{stem}/**/*.key")),
        });
    }
    matches.into_iter().collect()
}

/// The forms that path rules are written in.
pub const FORMS: [&str; 4] = ["exact", "names", "directories", "patterns"];
/// How many rules of each form are measured.
pub const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// `count` different path matches of one form, each with an end of its own: what large tables are made of.
pub fn path_matches_of(form: &str, count: usize, random: &mut Random) -> Vec<PathMatch> {
    let path_match = |number: usize| {
        let path = format!("{}/entry-{number}", stem(4, random));
        match form {
            "names" => PathMatch::Name(format!("name-{number}.so")),
            "directories" => PathMatch::Directory { directory: format!("{path}/"), recursive: true },
            "patterns" => PathMatch::Pattern(format!("{path}/*.conf")),
            _ => PathMatch::Exact(path),
        }
    };
    (0..count).map(path_match).collect()
}

/// A workload's rules: each match blocks.
pub fn workload_rules(matches: &[PathMatch]) -> WorkloadRules {
    let policy =
        Arc::new(PolicyRef { kind: PolicyKind::KubeArmorPolicy, namespace: "bench".into(), name: "bench".into() });
    let rule = |(number, path): (usize, &PathMatch)| {
        Arc::new(Rule {
            policy: Arc::clone(&policy),
            place: format!("file[{number}]"),
            matcher: Matcher::File(PathRule::of(path.clone())),
            sources: BTreeSet::new(),
            source_directories: BTreeSet::new(),
            action: Action::Block,
            severity: None,
            tags: Vec::new(),
            message: None,
        })
    };
    WorkloadRules { rules: matches.iter().enumerate().map(rule).collect(), ..WorkloadRules::default() }
}

/// Paths of seven components.
pub fn paths(count: usize, matches: &[PathMatch], random: &mut Random) -> Vec<String> {
    (0..count)
        .map(|number| {
            let mut path = if number % 2 == 0 {
                stem(COMPONENTS - 1, random)
            } else {
                literal(&matches[random.below(matches.len())])
            };
            while path.matches('/').count() < COMPONENTS - 1 {
                path = format!("{path}/{}", WORDS[random.below(WORDS.len())]);
            }
            format!("{path}/file-{}", random.below(1000))
        })
        .collect()
}

/// The pattern as a glob of the syntax that `globset` reads with literal separators.
pub fn glob(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(text) | PathMatch::Pattern(text) => text.clone(),
        PathMatch::Directory { directory, .. } => format!("{directory}**"),
        PathMatch::Name(name) => format!("/**/{name}"),
        PathMatch::Any => "/**".to_owned(),
    }
}

fn stem(components: usize, random: &mut Random) -> String {
    (0..components).map(|_| format!("/{}-{}", WORDS[random.below(WORDS.len())], random.below(4))).collect()
}

/// The directories before the first wildcard.
fn literal(path: &PathMatch) -> String {
    let glob = glob(path);
    let prefix = glob.split('*').next().unwrap_or_default();
    prefix.rsplit_once('/').map_or("", |(directory, _)| directory).to_owned()
}

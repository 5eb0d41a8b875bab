//! One rule set and acts near its rules, from a seed and a number.

use std::collections::BTreeSet;

use palisade_kernel_abi::blob::Endpoint;
use palisade_policy::ir::{Matcher, WorkloadRules};

use crate::{
    Act, Actor, Deed,
    act::arguments,
    corpus::{self, Random},
    ground,
};

/// Of one case.
const ACTS: usize = 40;
const FILES: usize = 12;
const NAMES: [&str; 8] = ["a.com", "A.com", "x.www.a.com", "aa.com", "com", "org", "xa.com", "b.a.com"];

/// Rules, and what is done under them.
#[derive(Debug, Clone)]
pub struct Case {
    /// Which of its seed.
    pub number: u64,
    /// On the ground.
    pub rules: WorkloadRules,
    /// Near them.
    pub acts: Vec<Act>,
}

impl Case {
    /// The case of the seed that has the number. Three of four are about files and executions, two of these made to overlap on one path.
    #[must_use]
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed ^ (number + 1).wrapping_mul(0xd129_0d6c_53f9_f51b));
        // The generator's first numbers are like those of its neighbours.
        for _ in 0..8 {
            random.number();
        }
        match number % 4 {
            0 => Self::of_paths(&mut random, number, false),
            1 | 2 => Self::of_paths(&mut random, number, true),
            _ => Self::of_others(&mut random, number),
        }
    }

    fn of_paths(random: &mut Random, number: u64, contested: bool) -> Self {
        let (generated, target) =
            if contested { corpus::contested(random) } else { (corpus::rules(random, 24), corpus::path(random)) };
        let rules = ground::of_paths(&generated);
        let mut files = BTreeSet::new();
        let mut add = |path: String| {
            if ground::can_be(&path, &files) {
                files.insert(path);
            }
        };
        add(format!("{}{target}", ground::BELOW));
        for _ in 0..4 * FILES {
            // All of their paths are text.
            let path = String::from_utf8_lossy(&corpus::path_near(random, &generated)).into_owned();
            if path.starts_with('/') {
                add(format!("{}{path}", ground::BELOW));
            }
        }
        let files: Vec<String> = files.into_iter().take(FILES).collect();
        let acts = (0..ACTS).map(|_| Act { actor: random.pick(&Actor::ALL), deed: to_file(random, &files) }).collect();
        Self { number, rules, acts }
    }

    fn of_others(random: &mut Random, number: u64) -> Self {
        let mut rules = ground::of_others(&corpus::rules(random, 24));
        while rules.rules.is_empty() {
            rules = ground::of_others(&corpus::rules(random, 24));
        }
        let acts = (0..ACTS).map(|_| Act { actor: random.pick(&Actor::ALL), deed: near(random, &rules) }).collect();
        Self { number, rules, acts }
    }

    /// Files that must be there.
    #[must_use]
    pub fn files(&self) -> BTreeSet<&str> {
        let named: BTreeSet<&str> = self.acts.iter().filter_map(Act::file).collect();
        // What is only a directory is there because a file in it is, and that is acted on as well: see `to_file`.
        let is_directory =
            |path: &str| named.iter().any(|other| other.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')));
        named.iter().filter(|path| !is_directory(path)).copied().collect()
    }

    /// With some rules and one act alone, by their places.
    #[must_use]
    pub fn reduced(&self, rules: &[usize], act: usize) -> Self {
        let rules = rules.iter().filter_map(|at| self.rules.rules.get(*at).cloned()).collect();
        let rules = WorkloadRules { rules, ..self.rules.clone() };
        Self { number: self.number, rules, acts: self.acts.get(act).cloned().into_iter().collect() }
    }
}

fn to_file(random: &mut Random, files: &[String]) -> Deed {
    let file = random.pick(files);
    match random.below(8) {
        0 => Deed::Read(ground::directory_of(random, &file)),
        1 | 2 => Deed::Read(file),
        3 | 4 => Deed::Write(file),
        _ => Deed::Exec(file, arguments(random)),
    }
}

/// A deed of a family that one of the rules counts in.
fn near(random: &mut Random, rules: &WorkloadRules) -> Deed {
    match &random.pick(&rules.rules).matcher {
        Matcher::Ptrace(_) => Deed::Trace(random.pick(&ground::TRACED).to_owned()),
        Matcher::Capability(_) => Deed::Use(random.pick(&ground::CAPABILITIES)),
        Matcher::Dns(_) => Deed::Ask(random.pick(&NAMES).to_owned()),
        Matcher::Socket(_) if random.one_in(2) => {
            let (domain, kind, protocol) = random.pick(&ground::SOCKETS);
            Deed::Socket { domain, kind, protocol }
        }
        matcher => {
            let Endpoint { destination, .. } = corpus::endpoint_near(random, matcher);
            let (address, port) = destination.unwrap_or((std::net::Ipv4Addr::LOCALHOST.into(), 80));
            Deed::Connect(random.pick(&[1, 2]), (ground::near(address), port.max(1)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_differential_a_case_is_a_function_of_seed_and_number() {
        for number in 0..40 {
            let (one, again) = (Case::of(7, number), Case::of(7, number));
            assert_eq!((&one.rules, &one.acts), (&again.rules, &again.acts));
            assert_ne!(one.rules, Case::of(8, number).rules);
            assert_eq!(one.acts.len(), ACTS);
            let files = one.files();
            assert!(files.iter().all(|file| file.starts_with(ground::BELOW)), "{files:?}");
        }
    }
}

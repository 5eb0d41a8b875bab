//! Generated rule sets: this kernel's AppArmor against the Rust walker of the same blob.
//!
//! The sets are those of the compiler's tests, moved below one directory. Differences that are declared, each with its reason in
//! `messages/apparmor/differences.md`: what depends on the acting executable, its terminal or its arguments is permitted; all else must agree.

use std::{collections::BTreeSet, fs, sync::Arc};

use libtest_mimic::Failed;
use palisade_domain::{Action, PolicyKind, PolicyRef};
use palisade_kernel_abi::blob::{Blob, Effect, Family, Modifiers, SourceId};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Rule, WorkloadRules};
use palisade_policy_compiler::{CompileError, automaton::AutomatonLimits, compile};

use self::corpus::Random;
use super::{
    Checked, ensure,
    fixture::{DENIED, Profiled},
};
use crate::judged::{Call, Judged};

#[path = "../../../../actors/policy-compiler/src/tests/corpus.rs"]
#[expect(dead_code, reason = "the corpus serves other tests as well")]
mod corpus;
use palisade_policy_compiler as compiler;

const SETS: u32 = 24;
const CALLS: u32 = 24;
const BELOW: &str = "/judged";
/// Whose every other file is.
const OTHER_USER: u32 = 4321;

fn rule(action: Action, matcher: Matcher, sources: &[&str]) -> Rule {
    let policy = PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "n".into(), name: "generated".into() };
    Rule {
        policy: Arc::new(policy),
        place: "generated".into(),
        matcher,
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        source_directories: BTreeSet::new(),
        action,
        severity: None,
        tags: vec![],
        message: None,
    }
}

fn workload(rules: Vec<Rule>) -> WorkloadRules {
    WorkloadRules { rules: rules.into_iter().map(Arc::new).collect(), ..WorkloadRules::default() }
}

fn moved(path: PathMatch) -> PathMatch {
    match path {
        PathMatch::Exact(path) => PathMatch::Exact(format!("{BELOW}{path}")),
        PathMatch::Directory { directory, recursive } => {
            PathMatch::Directory { directory: format!("{BELOW}{directory}"), recursive }
        }
        PathMatch::Pattern(pattern) => PathMatch::Pattern(format!("{BELOW}{pattern}")),
        PathMatch::Any => PathMatch::Pattern(format!("{BELOW}/**")),
        name @ PathMatch::Name(_) => name,
    }
}

/// The rules of process and file, below the directory. What is outside stays allowed, for the programs' sake.
fn below(generated: &WorkloadRules) -> WorkloadRules {
    let mut rules: Vec<Rule> = Vec::new();
    for known in &generated.rules {
        let whole = |path: &PathRule| PathRule { path: moved(path.path.clone()), ..path.clone() };
        let matcher = match &known.matcher {
            Matcher::Process(path) => Matcher::Process(whole(path)),
            Matcher::File(path) => Matcher::File(whole(path)),
            _ => continue,
        };
        rules.push(Rule { matcher, ..(**known).clone() });
    }
    for directory in ["/bin/", "/lib/", "/lib64/", "/dev/", "/proc/"] {
        let path = || PathRule::of(PathMatch::Directory { directory: directory.into(), recursive: true });
        rules
            .extend([Matcher::Process(path()), Matcher::File(path())].map(|matcher| rule(Action::Allow, matcher, &[])));
    }
    WorkloadRules { postures: generated.postures, ..workload(rules) }
}

/// The mildest that the walker says, whoever acts, at a terminal or not, with whatever arguments.
fn walked(blob: &Blob, path: &str, call: Call, is_owner: bool) -> Effect {
    let family = if call == Call::Exec { Family::Process } else { Family::File };
    let accept = blob.path_accept(path.as_bytes());
    let sources = blob.head().family[family as usize].sources.max(1);
    let each = (0..sources).flat_map(|source| [false, true].map(|tty| (SourceId(source), tty)));
    let effect = |(source, tty)| {
        let modifiers = Modifiers::new(is_owner, call == Call::Append).at_terminal(tty);
        blob.decide(family, accept, source, modifiers).settled(true).effect
    };
    each.map(effect).min().unwrap_or(Effect::Permit)
}

/// A file of that name that is a program, as far as no directory has it; `None` where the name cannot be.
fn made(path: &str) -> Option<()> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() || name == "." || name == ".." || name.len() > 255 {
        return None;
    }
    fs::create_dir_all(parent).ok()?;
    if fs::symlink_metadata(path).is_err() {
        let of_other = path.bytes().fold(0u8, u8::wrapping_add) % 2 == 1;
        fs::hard_link(if of_other { "/programs/other" } else { "/programs/own" }, path).ok()?;
    }
    Some(())
}

fn programs() -> Checked {
    fs::create_dir_all("/programs")?;
    for name in ["own", "other"] {
        fs::copy("/bin/vm_actor", format!("/programs/{name}"))?;
    }
    std::os::unix::fs::chown("/programs/other", Some(OTHER_USER), None)?;
    Ok(())
}

#[derive(Default, Debug)]
struct Seen {
    denied: u32,
    permitted: u32,
    directories: u32,
    of_others: u32,
    /// Blocked by nobody's executable, and permitted because another's may.
    declared: u32,
}

pub fn agrees() -> Checked {
    programs()?;
    let mut random = Random::new(corpus::seed());
    let mut seen = Seen::default();
    for round in 0..SETS {
        let generated = if round % 3 == 0 { corpus::rules(&mut random, 30) } else { corpus::contested(&mut random).0 };
        let rules = below(&generated);
        let policy = match compile(&rules, &AutomatonLimits::default(), &mut || false) {
            // Random rules may ask for different things by different arguments, which is refused.
            Err(CompileError::ArgumentActions { .. }) => continue,
            other => other?,
        };
        let confined = Profiled::start("generated", &policy)?;
        let mut process = confined.judged()?;
        for _ in 0..CALLS {
            act(&mut random, &rules, &policy.blob, &mut process, &mut seen)?;
        }
        fs::remove_dir_all(BELOW)?;
    }
    println!("{seen:?}");
    let Seen { denied, permitted, directories, of_others, declared } = seen;
    let enough = denied > 100 && permitted > 100 && directories > 10 && of_others > 50 && declared > 10;
    ensure(enough, || {
        format!("too little was seen: {seen:?}", seen = (denied, permitted, directories, of_others, declared))
    })
}

fn act(random: &mut Random, rules: &WorkloadRules, blob: &Blob, process: &mut Judged, seen: &mut Seen) -> Checked {
    let near = String::from_utf8(corpus::path_near(random, rules))?;
    let path = if near.starts_with(BELOW) { near } else { format!("{BELOW}{near}") };
    let canonical = !path.contains("//") && !path.ends_with('/') && !path.contains('\n');
    fs::create_dir_all(BELOW)?;
    if !canonical || made(&path).is_none() {
        return Ok(());
    }
    let is_directory = fs::metadata(&path)?.is_dir();
    let call = if is_directory { Call::Read } else { random.pick(&[Call::Read, Call::Append, Call::Exec]) };
    let is_owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(&path)?) == 0;
    let wanted = walked(blob, &path, call, is_owner);
    let errno = process.call(call, &path)?;
    // A program that runs cannot be written: that is no denial.
    let is_denied = errno == DENIED;
    ensure(is_denied == (wanted == Effect::Block), || {
        let rules: Vec<String> =
            rules.rules.iter().map(|rule| format!("{:?} {:?} {:?}", rule.action, rule.matcher, rule.sources)).collect();
        format!(
            "{call:?} {path}, owner {is_owner}: errno {errno}, and the walker says {wanted:?}\n{}",
            rules.join("\n")
        )
    })?;
    let family = if call == Call::Exec { Family::Process } else { Family::File };
    let modifiers = Modifiers::new(is_owner, call == Call::Append);
    let nobody = blob.decide(family, blob.path_accept(path.as_bytes()), SourceId::NONE, modifiers).settled(false);
    seen.denied += u32::from(is_denied);
    seen.permitted += u32::from(!is_denied);
    seen.directories += u32::from(is_directory);
    seen.of_others += u32::from(!is_owner);
    seen.declared += u32::from(!is_denied && nobody.effect == Effect::Block);
    Ok::<(), Failed>(())
}

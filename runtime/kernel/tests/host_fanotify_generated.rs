//! Real opens and execs under generated rule sets get the verdict that an evaluator gives which was written from the specification
//! alone. The sets are those of the compiler's and the kernel walker's tests, moved below one directory, so that the programs that act can
//! still be loaded.
//!
//! Left out are the modifiers that this tier cannot hold or that other tests hold: writing, terminals, arguments.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![allow(dead_code, reason = "the corpus and the bed serve other tests as well")]

#[path = "../../../actors/policy-compiler/src/tests/corpus.rs"]
mod corpus;
mod fanotify_bed;

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, sync::Arc};

use corpus::Random;
use fanotify_bed::Bed;
use palisade_domain::{Action, Generation, PolicyKind, PolicyRef, Posture};
use palisade_kernel::fanotify::BlobDecides;
use palisade_kernel_abi::blob::{Effect, Family, Modifiers};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Postures, Rule, WorkloadRules};
use palisade_policy_compiler as compiler;
use palisade_policy_compiler::{
    automaton::AutomatonLimits,
    compile,
    naive::{Act, Object, evaluate},
};

const SETS: u32 = 24;
const DIRECTORIES: [&str; 4] = ["a", "ab", "b", "etc"];
const FILES: [&str; 5] = ["a", "ab", "x", "a.so", "b"];

#[test]
#[ignore = "the responder's process, started by the bed"]
fn responder_process() {
    fanotify_bed::responder_process(BlobDecides);
}

#[test]
#[ignore = "the container's init, started by the bed"]
fn container_init() {
    fanotify_bed::container_init();
}

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

/// The same below `/gen`.
fn moved(path: PathMatch) -> PathMatch {
    match path {
        PathMatch::Exact(path) => PathMatch::Exact(format!("/gen{path}")),
        PathMatch::Directory { directory, recursive } => {
            PathMatch::Directory { directory: format!("/gen{directory}"), recursive }
        }
        PathMatch::Pattern(pattern) => PathMatch::Pattern(format!("/gen{pattern}")),
        PathMatch::Any => PathMatch::Pattern("/gen/**".to_owned()),
        name @ PathMatch::Name(_) => name,
    }
}

/// The programs that act, as sources that rules may name.
struct Programs {
    cat: String,
    head: String,
    shell: String,
}

impl Programs {
    fn find() -> Self {
        let real = |path: &str| fs::canonicalize(path).unwrap().to_str().unwrap().to_owned();
        Self { cat: real("/bin/cat"), head: real("/usr/bin/head"), shell: real("/bin/sh") }
    }
}

/// The rules of process and file that this tier holds whole.
fn held(random: &mut Random, generated: &WorkloadRules, programs: &Programs) -> WorkloadRules {
    let mut rules = Vec::new();
    for known in &generated.rules {
        let whole =
            |path: &PathRule| PathRule { owner_only: path.owner_only, ..PathRule::of(moved(path.path.clone())) };
        let matcher = match &known.matcher {
            Matcher::Process(path) => Matcher::Process(whole(path)),
            Matcher::File(path) => Matcher::File(whole(path)),
            _ => continue,
        };
        let source = random.pick(&[&programs.cat, &programs.head, &programs.shell]);
        let sources: &[&str] = if known.sources.is_empty() { &[] } else { &[source] };
        rules.push(rule(known.action, matcher, sources));
    }
    // A posture that blocked would keep the programs from their libraries.
    let postures = Postures { file: Posture::Audit, ..Postures::default() };
    WorkloadRules { postures, ..workload(rules) }
}

/// The files that are acted on: each is a program, so that it can be opened and executed.
fn fill(bed: &Bed) -> Vec<String> {
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        for name in FILES {
            let file = format!("/gen/{directory}/{name}");
            let place = bed.root().join(&file[1..]);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy("/bin/true", &place).unwrap();
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
            files.push(file);
        }
    }
    files
}

/// What the container's programs are told: for each file whether cat and head can open it, and whether the shell can execute it.
fn act_on(bed: &Bed, files: &[String]) -> Vec<[bool; 3]> {
    let each = files.iter().map(|file| {
        format!("cat {file} >/dev/null; c=$?; head -c 1 {file} >/dev/null; h=$?; {file}; echo said $c $h $?; ")
    });
    let said = bed.sh(&each.collect::<String>());
    let answers: Vec<[bool; 3]> = said
        .lines()
        .filter_map(|line| line.strip_prefix("said "))
        .map(|codes| {
            let mut codes = codes.split(' ').map(|code| code == "0");
            [(); 3].map(|()| codes.next().unwrap())
        })
        .collect();
    assert_eq!(answers.len(), files.len(), "{said}");
    answers
}

#[test]
fn host_fanotify_answers_real_opens_and_execs_as_generated_rules_say() {
    let bed = Bed::new();
    let files = fill(&bed);
    let programs = Programs::find();
    let mut random = Random::new(corpus::seed());
    let (mut denied, mut permitted, mut contested) = (0, 0, 0);
    for round in 0..SETS {
        let generated = if round % 3 == 0 { corpus::rules(&mut random, 30) } else { corpus::contested(&mut random).0 };
        let rules = held(&mut random, &generated, &programs);
        let policy = compile(&rules, &AutomatonLimits::default(), &mut || false).unwrap();
        bed.responder.install(bed.slot, Generation(round + 1), Some((7, &policy.blob))).unwrap();
        for (file, said) in files.iter().zip(act_on(&bed, &files)) {
            let acts =
                [(Family::File, &programs.cat), (Family::File, &programs.head), (Family::Process, &programs.shell)];
            for ((family, program), succeeded) in acts.into_iter().zip(said) {
                let (object, executable) = (Object::Path(file.as_bytes()), Some(program.as_bytes()));
                let act = Act { family, object, executable, modifiers: Modifiers::OWNER, arguments: &[] };
                let expected = evaluate(&rules, &act);
                let is_denied = expected.effect == Effect::Block;
                assert_eq!(
                    succeeded, !is_denied,
                    "round {round}: {family:?} {file} by {program}: {expected:?} of {rules:#?}"
                );
                denied += u32::from(is_denied);
                permitted += u32::from(!is_denied);
                let [opposed, ..] = corpus::overlap_of(&rules, &act);
                contested += u32::from(opposed);
            }
        }
    }
    println!("{denied} acts denied, {permitted} permitted, an Allow and a Block met on {contested}");
    assert!(denied > 50 && permitted > 500 && contested > 20, "{denied} {permitted} {contested}");
}

//! The kernel's walker and the Rust walker are equal, on random automata, tables, paths, endpoints and ids, in each size
//! class; and on random rules both say what the rules say, as an evaluator does that was written from the specification alone.
//! On this kernel, by test runs of the very functions that the hooks call.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use kernel_bed::{Check, Checks, Random, adapter, pin_root, random_blob};
use palisade_domain::{Action, Generation, PolicyKind, PolicyRef, Posture, Slot};
use palisade_kernel::fanotify::FailMode;
use palisade_kernel_abi::blob::{AcceptId, Blob, Decision, Effect, Endpoint, Family, Modifiers, SizeClass, SourceId};
use palisade_policy::ir::{Matcher, PathMatch, PathRule, Postures, Rule, WorkloadRules};
use palisade_policy_compiler::{
    automaton::AutomatonLimits,
    compile,
    naive::{Act, Object, evaluate},
};
use palisade_world::{Enforcement as _, Membership};

const HOST: Membership = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 0, root: None };

/// States of the path automaton that make blobs of each class.
fn states_of(class: SizeClass) -> u32 {
    match class {
        SizeClass::K16 => 30,
        SizeClass::K128 => 400,
        SizeClass::M1 => 6_000,
        SizeClass::M8 => 50_000,
    }
}

/// Most random blobs of so many states are of the class.
fn random_blob_of(random: &mut Random, class: SizeClass) -> Blob {
    let mut tries = (0..50).map(|_| random_blob(random, states_of(class)));
    tries.find(|blob| blob.size_class() == class).unwrap()
}

/// A path of any length up to the longest, more often a short one; also every length around the walk's 8-byte steps.
fn random_path(random: &mut Random, case: u32) -> Vec<u8> {
    let length = match case % 4 {
        0 => case / 4 % 40,
        1 => random.below(200),
        2 => random.below(1000),
        _ => random.below(4097),
    };
    let mut path = random.bytes(length as usize);
    if let Some(first) = path.first_mut() {
        *first = b'/';
    }
    path
}

/// By the whole path or endpoint, by a path's last component, and what follows from both.
type Said = (u32, u32, Decision);

struct Compared {
    kernel: Said,
    rust: Said,
}

fn said(check: &Check) -> Said {
    (check.accept, check.accept_name, Decision::from_word(check.word))
}

fn compare_path(checks: &mut Checks, random: &mut Random, blob: &Blob, policy: u32, case: u32) -> Compared {
    let path = random_path(random, case);
    let family = [Family::Process, Family::File, Family::Ptrace][random.below(3) as usize];
    let (source, modifiers) = (random.below(12), random.below(8));
    checks.set(&Check::new(&path, source));
    assert_eq!(checks.run("check_decision", &[policy.into(), family as u64, modifiers.into()]), 0);
    let accept = blob.path_accept(&path);
    let decided = blob.decide(family, accept, SourceId(source), Modifiers(modifiers));
    Compared { kernel: said(&checks.get()), rust: (accept.whole.0, accept.name.0, decided) }
}

fn random_endpoint(random: &mut Random) -> (Vec<u8>, Endpoint) {
    let few = |random: &mut Random| [0, 1, 127, 255, 10][random.below(5) as usize];
    let [kind, protocol] = [(); 2].map(|()| u8::try_from(random.below(20)).unwrap());
    let port = u16::try_from(random.below(65536)).unwrap();
    let address = match random.below(6) {
        0 => None,
        1 => Some(IpAddr::from([few(random), few(random), few(random), few(random)])),
        2 => Some(IpAddr::from([0; 4])),
        3 => Some(IpAddr::from([0; 16])),
        4 => Some(IpAddr::from(std::net::Ipv4Addr::from(random.below(5)).to_ipv6_mapped())),
        _ => Some(IpAddr::from([(); 16].map(|()| few(random)))),
    };
    let domain = match address {
        None => u8::try_from(random.below(40)).unwrap(),
        Some(IpAddr::V4(_)) => 2,
        Some(IpAddr::V6(_)) => 10,
    };
    let mut bytes = vec![domain, kind, protocol];
    if let Some(address) = address {
        bytes.extend(port.to_be_bytes());
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    (bytes, Endpoint { domain, kind, protocol, destination: address.map(|address| (address, port)) })
}

fn compare_endpoint(checks: &mut Checks, random: &mut Random, blob: &Blob, policy: u32) -> Compared {
    let (bytes, endpoint) = random_endpoint(random);
    let family = if endpoint.destination.is_some() { Family::Connect } else { Family::Socket };
    let source = random.below(12);
    checks.set(&Check::new(&bytes, source));
    assert_eq!(checks.run("check_other_decision", &[policy.into(), family as u64, 0]), 0);
    let accept: AcceptId = blob.network_accept(endpoint.encode().as_ref());
    let decided = blob.decide(family, accept, SourceId(source), Modifiers::NONE);
    Compared { kernel: said(&checks.get()), rust: (accept.0, 0, decided) }
}

#[test]
fn host_kernel_walker_equals_the_rust_walker_on_random_blobs_in_each_size_class() {
    let Some(pins) = pin_root() else { return };
    let mut random = Random::seeded();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    adapter.admit(&HOST).unwrap();
    let mut checks = Checks::load(&pins.0);
    let (mut cases, mut matched, mut blocked) = (0, 0, 0);
    for class in SizeClass::ALL {
        for round in 0..if class == SizeClass::M8 { 1 } else { 6 } {
            let blob = Arc::new(random_blob_of(&mut random, class));
            adapter.install(Slot::HOST, Generation(round + 1), Some(&blob)).unwrap();
            let (generation, policy) = adapter.in_force(Slot::HOST).unwrap();
            assert_eq!(generation, Generation(round + 1));
            for case in 0..600 {
                let network = case % 4 == 3;
                let Compared { kernel, rust } = if network {
                    compare_endpoint(&mut checks, &mut random, &blob, policy.0)
                } else {
                    compare_path(&mut checks, &mut random, &blob, policy.0, case)
                };
                assert_eq!(kernel, rust, "class {class:?} round {round} case {case}, length {}", checks.get().length);
                cases += 1;
                matched += u32::from(rust.0 != 0);
                blocked += u32::from(rust.2.effect == Effect::Block);
            }
        }
    }
    println!("{cases} cases equal; {matched} matched something, {blocked} were blocked");
    // Otherwise equality would mean nothing.
    assert!(matched > cases / 2 && blocked > cases / 10);
}

/// Few names and alike, so that rules meet on the same paths.
const NAMES: [&str; 6] = ["a", "ab", "b", "etc", "a.so", "x"];
const EXECUTABLES: [&str; 3] = ["/a", "/ab", "/etc/x"];

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(u32::try_from(from.len()).unwrap()) as usize]
}

fn near_path(random: &mut Random) -> String {
    (0..=random.below(4)).map(|_| format!("/{}", pick(random, &NAMES))).collect()
}

fn random_match(random: &mut Random) -> PathMatch {
    let path = near_path(random);
    match random.below(6) {
        0 => PathMatch::Exact(path),
        1 => PathMatch::Name(pick(random, &NAMES).to_owned()),
        2 => PathMatch::Directory { directory: format!("{path}/"), recursive: random.below(2) == 0 },
        3 => PathMatch::Pattern(format!("{path}/**")),
        4 => PathMatch::Pattern(format!("/**/{}", pick(random, &["a*", "?", "*.so", "[ab]*", "{a,x}"]))),
        _ => PathMatch::Pattern(format!("{path}/*{}", pick(random, &["", "b", "/x"]))),
    }
}

fn random_rules(random: &mut Random) -> WorkloadRules {
    let policy = Arc::new(PolicyRef { kind: PolicyKind::PalisadePolicy, namespace: "n".into(), name: "random".into() });
    let rule = |number: u32, random: &mut Random| {
        let path = random_match(random);
        let (owner_only, read_only) = (random.below(4) == 0, random.below(4) == 0);
        let matcher = match random.below(5) {
            0 => Matcher::Process(PathRule { owner_only, ..PathRule::of(path) }),
            1 => Matcher::Ptrace(path),
            _ => Matcher::File(PathRule { owner_only, read_only, ..PathRule::of(path) }),
        };
        let sources = if random.below(3) == 0 {
            BTreeSet::from([pick(random, &EXECUTABLES).to_owned()])
        } else {
            BTreeSet::new()
        };
        let action = pick(random, &[Action::Allow, Action::Audit, Action::Block]);
        let place = format!("rule[{number}]");
        Arc::new(Rule {
            policy: Arc::clone(&policy),
            place,
            matcher,
            sources,
            source_directories: BTreeSet::new(),
            action,
            severity: None,
            tags: vec![],
            message: None,
        })
    };
    let posture = pick(random, &[Posture::Audit, Posture::Block]);
    let count = 1 + random.below(20);
    WorkloadRules {
        rules: (0..count).map(|number| rule(number, random)).collect(),
        postures: Postures { file: posture, network: posture, capabilities: posture },
        ..WorkloadRules::default()
    }
}

#[test]
fn host_kernel_walker_says_what_random_rules_say() {
    let Some(pins) = pin_root() else { return };
    let mut random = Random::seeded();
    let adapter = adapter(&pins.0, FailMode::Refuse);
    adapter.admit(&HOST).unwrap();
    let mut checks = Checks::load(&pins.0);
    let (mut by_rule, mut blocked, mut by_posture) = (0, 0, 0);
    for round in 0..60 {
        let rules = random_rules(&mut random);
        let policy = compile(&rules, &AutomatonLimits::default(), &mut || false).unwrap();
        adapter.install(Slot::HOST, Generation(round + 1), Some(&policy.blob)).unwrap();
        let number = adapter.in_force(Slot::HOST).unwrap().1;
        for _ in 0..100 {
            let path = near_path(&mut random);
            let executable = pick(&mut random, &EXECUTABLES);
            let family = pick(&mut random, &[Family::Process, Family::File, Family::File, Family::Ptrace]);
            let modifiers = Modifiers(random.below(4));
            let source = policy.blob.source_id(executable.as_bytes());
            checks.set(&Check::new(path.as_bytes(), source.0));
            assert_eq!(checks.run("check_decision", &[number.0.into(), family as u64, modifiers.0.into()]), 0);
            let kernel = Decision::from_word(checks.get().word);
            let rust = policy.blob.decide(family, policy.blob.path_accept(path.as_bytes()), source, modifiers);
            assert_eq!(kernel, rust, "round {round}: {family:?} {path} by {executable} {modifiers:?}");
            let object = Object::Path(path.as_bytes());
            let expected =
                evaluate(&rules, &Act { family, object, executable: Some(executable.as_bytes()), modifiers });
            let named = kernel.rule.map(|index| &policy.rules[index as usize]);
            assert_eq!(
                (kernel.effect, kernel.by_posture, named.is_some()),
                (expected.effect, expected.by_posture, !expected.rules.is_empty()),
                "round {round}: {family:?} {path} by {executable} {modifiers:?}: {named:?} and {expected:?}"
            );
            assert!(named.is_none_or(|named| expected.rules.contains(named)), "{named:?} and {expected:?}");
            by_rule += u32::from(named.is_some());
            blocked += u32::from(kernel.effect == Effect::Block);
            by_posture += u32::from(kernel.by_posture);
        }
    }
    println!("{by_rule} decided by a rule, {by_posture} by posture, {blocked} blocked");
    assert!(by_rule > 1000 && blocked > 500 && by_posture > 200);
}

//! The kernel's walker and the Rust walker are equal, on random automata, tables, paths, endpoints and ids, in each size
//! class; and on random rules both say what the rules say, as an evaluator does that was written from the specification alone.
//! On this kernel, by test runs of the very functions that the hooks call.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::{net::IpAddr, sync::Arc};

use kernel_bed::{Check, Checks, Random, adapter, pin_root, random_blob};
use palisade_differential::{Backend, BackendError, corpus, ring, walked};
use palisade_domain::{Generation, Slot};
use palisade_kernel::fanotify::FailMode;
use palisade_kernel_abi::blob::{
    AcceptId, Blob, Decision, Effect, Endpoint, Family, Form, Modifiers, PathAccepts, SizeClass, SourceId, domain_path,
};
use palisade_policy::ir::{Rule, WorkloadRules};
use palisade_policy_compiler::{
    CompileError,
    automaton::AutomatonLimits,
    compile,
    naive::{Act, Object, evaluate},
};
use palisade_protocol::CompiledPolicy;
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
    let kernel = said(&checks.get());
    compare_below(checks, blob, policy, &path);
    let accept = blob.path_accept(&path);
    let decided = blob.decide(family, accept, SourceId(source), Modifiers(modifiers));
    Compared { kernel, rust: (accept.whole.0, accept.name.0, decided) }
}

/// Where the path were a directory.
fn compare_below(checks: &mut Checks, blob: &Blob, policy: u32, directory: &[u8]) {
    checks.set(&Check::new(directory, 0));
    assert_eq!(checks.run("check_below", &[policy.into()]), 0);
    let (below, denied) = blob.below(directory);
    let kernel = checks.get();
    assert_eq!((kernel.word, kernel.accept), (below.word_offset(), denied.0), "{directory:?}");
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
    kernel_bed::without_networks(&pins.0);
    let adapter = adapter(&pins.0, FailMode::Refuse);
    adapter.admit(&HOST).unwrap();
    let mut checks = Checks::load(&pins.0);
    let (mut cases, mut matched, mut blocked, mut combs) = (0, 0, 0, 0);
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
                combs += u32::from(!network && blob.head().automaton[0].form == Form::Comb as u32);
                matched += u32::from(rust.0 != 0);
                blocked += u32::from(rust.2.effect == Effect::Block);
            }
        }
    }
    println!("{cases} cases equal; {matched} matched something, {blocked} were blocked, {combs} by paths in comb form");
    // Otherwise equality would mean nothing.
    assert!(matched > cases / 2 && blocked > cases / 10 && combs > cases / 4);
}

/// The bytes of the endpoint as hooks pass them: before they are made canonical.
fn endpoint_bytes(endpoint: &Endpoint) -> Vec<u8> {
    let mut bytes = vec![endpoint.domain, endpoint.kind, endpoint.protocol];
    if let Some((address, port)) = endpoint.destination {
        bytes[0] = if address.is_ipv4() { 2 } else { 10 };
        bytes.extend(port.to_be_bytes());
        match address {
            IpAddr::V4(v4) => bytes.extend(v4.octets()),
            IpAddr::V6(v6) => bytes.extend(v6.octets()),
        }
    }
    bytes
}

/// What the kernel judges of an act: the program, the bytes, and the accept id of what has a number.
fn asked(act: &Act<'_>) -> (&'static str, Vec<u8>, AcceptId) {
    let number = |accept| ("check_other_decision", Vec::new(), accept);
    match act.object {
        Object::Path(path) => ("check_decision", path.to_vec(), AcceptId(0)),
        Object::Endpoint(endpoint) => ("check_other_decision", endpoint_bytes(&endpoint), AcceptId(0)),
        Object::Domain(name) => ("check_other_decision", domain_path(name.as_bytes()), AcceptId(0)),
        Object::Capability(capability) => number(AcceptId::of_capability(capability)),
        Object::Syscall { number: call, compat: false } => number(AcceptId::of_syscall(call.into())),
        Object::Syscall { number: call, compat: true } => number(AcceptId::of_compat_syscall(call.into())),
        Object::Preset(preset) => number(AcceptId(preset as u32 + 1)),
    }
}

/// The kernel's decision and, where the word waits for them, its judgement of the arguments.
fn kernel_says(checks: &mut Checks, policy: u32, act: &Act<'_>, source: SourceId) -> Decision {
    let (program, bytes, accept) = asked(act);
    checks.set(&Check { accept: accept.0, ..Check::new(&bytes, source.0) });
    assert_eq!(checks.run(program, &[policy.into(), act.family as u64, act.modifiers.0.into()]), 0);
    let word = checks.get().word;
    let decision = Decision::from_word(word);
    if decision.arguments == 0 {
        return decision;
    }
    let mut left = u32::MAX;
    for argument in act.arguments {
        checks.set(&Check { word, ..Check::new(argument.as_bytes(), source.0) });
        assert_eq!(checks.run("check_argument", &[policy.into()]), 0);
        left &= checks.get().accept;
    }
    decision.settled(left != 0 && !act.arguments.is_empty())
}

/// The Rust walker's, as [`kernel_says`].
fn rust_says(blob: &Blob, act: &Act<'_>, source: SourceId) -> Decision {
    let accept: PathAccepts = match act.object {
        Object::Path(path) => blob.path_accept(path),
        Object::Endpoint(endpoint) => blob.network_accept(endpoint.encode().as_ref()).into(),
        Object::Domain(name) => blob.name_accept(&domain_path(name.as_bytes())).into(),
        _ => asked(act).2.into(),
    };
    let decision = blob.decide(act.family, accept, source, act.modifiers);
    decision.settled(blob.arguments_meet(decision.arguments, act.arguments.iter().map(|text| text.as_bytes())))
}

#[derive(Debug, Default)]
struct Seen {
    by_rule: [u32; Family::ALL.len()],
    blocked: u32,
    by_posture: u32,
    by_arguments: u32,
    overlapping_sets: u32,
    sets: u32,
}

fn compare_all(
    checks: &mut Checks,
    number: u32,
    rules: &WorkloadRules,
    (blob, named_by): (&Blob, &[Arc<Rule>]),
    act: &Act<'_>,
    seen: &mut Seen,
) {
    let source = blob.source_id(act.executable.unwrap_or_default());
    let kernel = kernel_says(checks, number, act, source);
    assert_eq!(kernel, rust_says(blob, act, source), "{act:?} under {rules:?}");
    let expected = evaluate(rules, act);
    let named = kernel.rule.map(|index| &named_by[index as usize]);
    assert_eq!(
        (kernel.effect, kernel.by_posture, named.is_some()),
        (expected.effect, expected.by_posture, !expected.rules.is_empty()),
        "{act:?} under {rules:?}: {named:?} and {expected:?}"
    );
    seen.by_rule[act.family as usize] += u32::from(named.is_some());
    seen.blocked += u32::from(kernel.effect == Effect::Block);
    seen.by_posture += u32::from(kernel.by_posture);
    let raw = blob.decide(act.family, asked_path(blob, act), source, act.modifiers);
    seen.by_arguments += u32::from(raw.arguments != 0);
}

fn asked_path(blob: &Blob, act: &Act<'_>) -> PathAccepts {
    if let Object::Path(path) = act.object { blob.path_accept(path) } else { PathAccepts::default() }
}

#[test]
fn host_kernel_walker_says_what_random_rules_say_in_every_family() {
    let Some(pins) = pin_root() else { return };
    let mut random = corpus::Random::new(corpus::seed());
    kernel_bed::without_networks(&pins.0);
    let adapter = adapter(&pins.0, FailMode::Refuse);
    adapter.admit(&HOST).unwrap();
    let mut checks = Checks::load(&pins.0);
    let mut seen = Seen::default();
    for round in 0..150 {
        // Two of three sets are made to overlap on one path; what overlaps is measured below.
        let (rules, target) = if round % 3 == 0 {
            let count = 8 + random.below(30);
            (corpus::rules(&mut random, count), corpus::path(&mut random))
        } else {
            corpus::contested(&mut random)
        };
        let policy = match compile(&rules, &AutomatonLimits::default(), &mut || false) {
            Err(CompileError::ArgumentActions { .. }) => continue,
            other => other.unwrap(),
        };
        adapter.install(Slot::HOST, Generation(round + 1), Some(&policy.blob)).unwrap();
        let number = adapter.in_force(Slot::HOST).unwrap().1.0;
        let mut overlaps = false;
        for case in 0..80 {
            let path = if case % 4 == 0 { target.clone().into_bytes() } else { corpus::path_near(&mut random, &rules) };
            let act = corpus::act(&mut random, &rules, &path);
            compare_all(&mut checks, number, &rules, (&policy.blob, &policy.rules), &act, &mut seen);
            overlaps |= corpus::overlap_of(&rules, &act) == [true; 4];
        }
        seen.sets += 1;
        seen.overlapping_sets += u32::from(overlaps);
    }
    println!("{seen:?}");
    assert!(seen.by_rule.iter().all(|decided| *decided > 20), "every family was decided by rules: {seen:?}");
    assert!(seen.blocked > 500 && seen.by_posture > 500 && seen.by_arguments > 50, "{seen:?}");
    assert!(seen.overlapping_sets * 3 >= seen.sets, "Allow, Block, source, pattern and name meet in a third: {seen:?}");
}

/// The walker that hooks call, by test runs, on the cases that every backend is asked.
struct KernelWalker {
    checks: Checks,
    adapter: palisade_kernel::KernelAdapter,
    policy: Option<CompiledPolicy>,
    number: u32,
    generation: u32,
}

impl Backend for KernelWalker {
    fn name(&self, _: Family) -> Option<&'static str> {
        Some("kernel-walker")
    }

    fn install(&mut self, policy: &CompiledPolicy) -> Result<(), BackendError> {
        self.generation += 1;
        self.adapter.install(Slot::HOST, Generation(self.generation), Some(&policy.blob)).unwrap();
        self.number = self.adapter.in_force(Slot::HOST).unwrap().1.0;
        self.policy = Some(policy.clone());
        Ok(())
    }

    fn act(&mut self, act: &palisade_differential::Act) -> Result<palisade_differential::Said, BackendError> {
        let policy = self.policy.clone().unwrap();
        let (checks, number) = (&mut self.checks, self.number);
        Ok(walked(act, &policy, |part| {
            part.with(|act| {
                let source = policy.blob.source_id(act.executable.unwrap_or_default());
                kernel_says(checks, number, act, source)
            })
        }))
    }
}

#[test]
fn host_kernel_walker_decides_the_common_cases_as_the_naive_evaluator() {
    let Some(pins) = pin_root() else { return };
    kernel_bed::without_networks(&pins.0);
    let adapter = adapter(&pins.0, FailMode::Refuse);
    adapter.admit(&HOST).unwrap();
    let checks = Checks::load(&pins.0);
    let mut walker = KernelWalker { checks, adapter, policy: None, number: 0, generation: 0 };
    let report = ring::run(&mut walker, 240).unwrap_or_else(|error| panic!("{error}"));
    assert!(report.told > 1000, "{report:?}");
}

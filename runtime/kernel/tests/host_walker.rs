//! The kernel's walker and the Rust walker are equal, on random automata, tables, paths, endpoints and ids, in each size
//! class. On this kernel, by test runs of the very functions that the hooks call.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;

use std::{net::IpAddr, sync::Arc};

use kernel_bed::{Check, Checks, Random, adapter, pin_root, random_blob};
use palisade_domain::{Generation, Slot};
use palisade_kernel::fanotify::FailMode;
use palisade_kernel_abi::blob::{AcceptId, Blob, Decision, Endpoint, Family, Modifiers, SizeClass, SourceId};
use palisade_world::{Enforcement as _, Membership};

const HOST: Membership = Membership { slot: Slot::HOST, cgroup: None, cgroup_path: None, pid: 0, root: None };

/// States of the path automaton that make blobs of each class.
fn states_of(class: SizeClass) -> u32 {
    match class {
        SizeClass::K16 => 30,
        SizeClass::K128 => 700,
        SizeClass::M1 => 6_000,
        SizeClass::M8 => 50_000,
    }
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

struct Compared {
    kernel: (u32, Decision),
    rust: (u32, Decision),
}

fn compare_path(checks: &mut Checks, random: &mut Random, blob: &Blob, policy: u32, case: u32) -> Compared {
    let path = random_path(random, case);
    let family = [Family::Process, Family::File, Family::Ptrace][random.below(3) as usize];
    let (source, modifiers) = (random.below(12), random.below(4));
    checks.set(&Check::new(&path, source));
    assert_eq!(checks.run("check_decision", &[policy.into(), family as u64, modifiers.into()]), 0);
    let said = checks.get();
    let accept = blob.path_accept(&path);
    let decided = blob.decide(family, accept, SourceId(source), Modifiers(modifiers));
    Compared { kernel: (said.accept, Decision::from_word(said.word)), rust: (accept.0, decided) }
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
    assert_eq!(checks.run("check_decision", &[policy.into(), family as u64, 0]), 0);
    let said = checks.get();
    let accept: AcceptId = blob.network_accept(endpoint.encode().as_ref());
    let decided = blob.decide(family, accept, SourceId(source), Modifiers::NONE);
    Compared { kernel: (said.accept, Decision::from_word(said.word)), rust: (accept.0, decided) }
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
            let blob = Arc::new(random_blob(&mut random, states_of(class)));
            assert_eq!(blob.size_class(), class);
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
                blocked += u32::from(rust.1.effect == palisade_kernel_abi::blob::Effect::Block);
            }
        }
    }
    println!("{cases} cases equal; {matched} matched something, {blocked} were blocked");
    // Otherwise equality would mean nothing.
    assert!(matched > cases / 2 && blocked > cases / 10);
}

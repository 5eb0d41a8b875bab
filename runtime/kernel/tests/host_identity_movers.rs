//! Host ring: a workload that no policy holds, and that can write the host's cgroups, makes nobody another one. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;
mod openers;
mod probe_bed;
mod puppet;

use std::{fs, path::PathBuf};

use kernel_bed::{
    Pins,
    cgroups::{Cgroup, unified},
    pin_root,
};
use openers::Openers;
use palisade_domain::{Slot, Visibility};
use palisade_kernel::{KernelAdapter, KernelConfig};
use palisade_kernel_abi::record::Phase;
use palisade_world::Enforcement as _;
use probe_bed::{ALL_KINDS, Directory};
use puppet::Puppet;

/// Of the workload that moves.
const OWN: u32 = 5;
/// Of the container that it moves into.
const OTHER: u32 = 6;
const AS_BEFORE: Option<(u32, Phase)> = Some((OWN, Phase::Workload));

/// Two containers without policy, side by side.
struct Bed {
    own: Cgroup,
    other: Cgroup,
    _place: Cgroup,
    files: Directory,
    openers: Openers,
    node: KernelAdapter,
    _pins: Pins,
}

impl Bed {
    /// The second is admitted, the first not yet.
    fn new(name: &str) -> Option<Self> {
        let pins = pin_root()?;
        let config = KernelConfig { pin_root: pins.0.clone(), responder: None, ..KernelConfig::default() };
        let node = KernelAdapter::open(config).unwrap();
        let place = Cgroup::new(name);
        let (own, other) = (place.child("own"), place.child("other"));
        node.admit(&other.membership(OTHER)).unwrap();
        for slot in [OWN, OTHER] {
            node.set_visibility(Slot(slot), Visibility::NONE, ALL_KINDS);
        }
        let openers = Openers::watch(&pins);
        Some(Self { own, other, _place: place, files: Directory::new(name), openers, node, _pins: pins })
    }

    fn admit(&self) {
        self.node.admit(&self.own.membership(OWN)).unwrap();
        self.node.set_visibility(Slot(OWN), Visibility::NONE, ALL_KINDS);
    }

    /// Who opens a new file by this act, which gives 0 or errno.
    fn opener(&mut self, name: &str, open: impl FnOnce(&PathBuf) -> i32) -> Option<(u32, Phase)> {
        let file = self.files.file(name, "x");
        assert_eq!(open(&file), 0);
        self.openers.opener(file.to_str().unwrap())
    }
}

#[test]
fn host_identity_a_workload_without_policy_stays_itself_in_another_containers_cgroup_and_back_in_its_own() {
    let Some(mut bed) = Bed::new("itself") else { return };
    bed.admit();
    let mut mover = Puppet::in_cgroup(&bed.own.0);
    let stations = [&bed.other, &bed.own, &bed.other, &bed.own].map(|cgroup| cgroup.0.clone());
    for (number, cgroup) in stations.iter().enumerate() {
        assert_eq!(mover.enter(cgroup), 0);
        let opener = bed.opener(&format!("f{number}"), |file| mover.open(file));
        assert_eq!(opener, AS_BEFORE, "in {}", cgroup.display());
    }
    mover.end();
}

#[test]
fn host_identity_who_a_workload_puts_into_another_containers_cgroup_is_that_workloads_and_no_runtime_there() {
    let Some(mut bed) = Bed::new("puts") else { return };
    bed.admit();
    let mut mover = Puppet::in_cgroup(&bed.own.0);
    let other = bed.other.0.clone();
    assert_eq!(bed.opener("moved", |file| mover.open_by_child_moved_into(file, &other)), AS_BEFORE);
    assert_eq!(bed.opener("born", |file| mover.open_by_child_born_into(file, &other)), AS_BEFORE);
    // Its children that are put back home are what they were, too.
    assert_eq!(mover.enter(&other), 0);
    let own = bed.own.0.clone();
    assert_eq!(bed.opener("back", |file| mover.open_by_child_moved_into(file, &own)), AS_BEFORE);
    assert_eq!(bed.opener("born-back", |file| mover.open_by_child_born_into(file, &own)), AS_BEFORE);
    mover.end();
}

#[test]
fn host_identity_who_was_there_before_its_container_was_admitted_and_never_acted_is_the_containers() {
    let Some(mut bed) = Bed::new("unseen") else { return };
    let below = bed.own.child("below");
    let mut others = [&bed.own, &bed.own, &below].map(|cgroup| Puppet::in_cgroup(&cgroup.0));
    bed.admit();
    let mut mover = Puppet::in_cgroup(&bed.own.0);
    let other = bed.other.0.clone();
    let [moved, parent, inner] = &mut others;
    assert_eq!(mover.put(moved, &other), 0);
    assert_eq!(bed.opener("moved", |file| moved.open(file)), AS_BEFORE);
    assert_eq!(bed.opener("born", |file| parent.open_by_child_born_into(file, &other)), AS_BEFORE);
    // Nor is it the host's where it is nobody's cgroup.
    let outside = unified();
    assert_eq!(inner.enter(&outside), 0);
    assert_eq!(bed.opener("outside", |file| inner.open(file)), AS_BEFORE);
    mover.end();
    others.into_iter().for_each(Puppet::end);
}

#[test]
fn host_identity_a_thread_of_before_that_its_workload_moves_is_what_its_process_is() {
    let Some(mut bed) = Bed::new("thread") else { return };
    let mut thread = Puppet::thread_in_cgroup(&bed.own.0);
    bed.admit();
    let below = bed.own.child("threads");
    fs::write(below.0.join("cgroup.type"), "threaded").unwrap();
    let mut mover = Puppet::in_cgroup(&bed.own.0);
    assert_eq!(mover.put_thread(&thread, &below.0), 0);
    assert_eq!(bed.opener("moved", |file| thread.open(file)), AS_BEFORE);
    assert_eq!(bed.opener("child", |file| thread.open_by_child(file)), AS_BEFORE);
    mover.end();
    thread.end();
}

#[test]
fn host_identity_a_process_of_the_host_that_a_workload_puts_into_a_cgroup_stays_the_hosts() {
    const HOSTS: Option<(u32, Phase)> = Some((0, Phase::None));
    let Some(mut bed) = Bed::new("hosts") else { return };
    bed.admit();
    bed.node.set_visibility(Slot::HOST, Visibility::NONE, ALL_KINDS);
    let mut runtime = Puppet::in_cgroup(&unified());
    let mut mover = Puppet::in_cgroup(&bed.own.0);
    let (own, other) = (bed.own.0.clone(), bed.other.0.clone());
    assert_eq!(mover.put(&runtime, &own), 0);
    assert_eq!(bed.opener("moved", |file| runtime.open(file)), HOSTS);
    assert_eq!(bed.opener("child", |file| runtime.open_by_child(file)), HOSTS);
    assert_eq!(mover.put(&runtime, &other), 0);
    assert_eq!(bed.opener("moved-again", |file| runtime.open(file)), HOSTS);
    // It goes on with its work: of containers that it starts it is the runtime.
    let starts = |bed: &mut Bed, name: &str, runtime: &mut Puppet| {
        let own = own.clone();
        bed.opener(name, |file| runtime.open_by_child_moved_into(file, &own))
    };
    assert_eq!(starts(&mut bed, "started", &mut runtime), Some((OWN, Phase::Runtime)));
    assert_eq!(bed.opener("born", |file| runtime.open_by_child_born_into(file, &own)), Some((OWN, Phase::Runtime)));
    mover.end();
    runtime.end();
}

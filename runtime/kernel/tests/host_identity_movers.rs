//! Host ring: a workload that no policy holds, and that can write the host's cgroups, makes nobody another one. Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;
mod openers;
mod probe_bed;
mod puppet;

use std::path::PathBuf;

use kernel_bed::{Pins, cgroups::Cgroup, pin_root};
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

/// Nothing is kept of a task that was there before its container was admitted, until it acts.
#[test]
fn host_identity_who_was_never_looked_at_is_its_movers_and_bears_its_cgroups() {
    let Some(mut bed) = Bed::new("unseen") else { return };
    let [mut moved, mut parent] = [Puppet::in_cgroup(&bed.own.0), Puppet::in_cgroup(&bed.own.0)];
    bed.admit();
    let mut mover = Puppet::in_cgroup(&bed.own.0);
    let other = bed.other.0.clone();
    assert_eq!(mover.put(&moved, &other), 0);
    assert_eq!(bed.opener("moved", |file| moved.open(file)), AS_BEFORE);
    assert_eq!(bed.opener("born", |file| parent.open_by_child_born_into(file, &other)), AS_BEFORE);
    for puppet in [mover, moved, parent] {
        puppet.end();
    }
}

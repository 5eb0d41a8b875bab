//! Host ring: who is in a place of containers and was not admitted, with a node and without; and what is left of policy when no node comes.
//! Needs root and Linux 6.1.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod kernel_bed;
mod openers;
mod probe_bed;
mod puppet;

use std::{fs, net::TcpListener, os::unix::fs::MetadataExt as _, sync::Arc, time::Duration};

use aya::maps::{HashMap as BpfHash, Map, MapData};
use kernel_bed::{
    Pins,
    cgroups::{Cgroup, unified},
    pin_root,
};
use openers::Openers;
use palisade_domain::{Action, Generation, Slot, Visibility};
use palisade_kernel::{
    KernelAdapter, KernelConfig,
    layout::{self, Counter},
};
use palisade_kernel_abi::{blob::Blob, record::Phase};
use palisade_policy::ir::{DestinationMatch, Matcher, PathMatch};
use palisade_world::{ContainerPlace, Enforcement as _, EnforcementError, Membership};
use probe_bed::{ALL_KINDS, Directory, rule, start};
use puppet::Puppet;

const UNKNOWN: u32 = layout::SLOTS - 1;
/// Of the container that is admitted.
const OWN: u32 = 5;
/// Of another one.
const OTHER: u32 = 6;

/// A place of containers, and a node that may come and go.
struct Bed {
    place: Cgroup,
    files: Directory,
    pins: Pins,
    node: Option<KernelAdapter>,
    port: u16,
    _listener: TcpListener,
}

fn open(pins: &Pins, holds_unknown: bool) -> KernelAdapter {
    let config = KernelConfig { pin_root: pins.0.clone(), responder: None, holds_unknown, ..KernelConfig::default() };
    KernelAdapter::open(config).unwrap()
}

/// Nothing may connect there, and nobody may be traced.
fn blocks(port: u16) -> Arc<Blob> {
    let to = DestinationMatch { cidr: None, ports: Some((port, port)), protocol: None };
    probe_bed::blob(vec![
        rule(Action::Block, Matcher::Destination(to)),
        rule(Action::Block, Matcher::Ptrace(PathMatch::Exact("/nothing".into()))),
    ])
}

impl Bed {
    /// Who is unknown in the place may not connect to the port.
    fn new(name: &str) -> Option<Self> {
        let pins = pin_root()?;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let node = open(&pins, true);
        let place = Cgroup::new(name);
        let unknown = Membership { cgroup: None, cgroup_path: None, ..place.membership(UNKNOWN) };
        node.admit(&unknown).unwrap();
        node.install(Slot::UNKNOWN, Generation(1), Some(&blocks(port))).unwrap();
        node.hold_unknown_in(&[place_of(&place, false)]).unwrap();
        Some(Self { place, files: Directory::new(name), pins, node: Some(node), port, _listener: listener })
    }

    fn node(&self) -> &KernelAdapter {
        self.node.as_ref().unwrap()
    }

    /// No node from now on.
    fn leave(&mut self) {
        self.node = None;
    }

    fn come_back(&mut self) {
        self.node = Some(open(&self.pins, true));
    }

    /// What is opened in the bed's cgroups is told from now on.
    fn watch(&self) -> Openers {
        for slot in [UNKNOWN, OWN, OTHER] {
            self.node().set_visibility(Slot(slot), Visibility::NONE, ALL_KINDS);
        }
        Openers::watch(&self.pins)
    }

    /// (slot, phase) by which an open of a new file is told.
    fn opens(&self, watch: &mut Openers, name: &str, puppet: &mut Puppet) -> Option<(u32, Phase)> {
        let file = self.files.file(name, "x");
        assert_eq!(puppet.open(&file), 0);
        watch.opener(file.to_str().unwrap())
    }
}

fn place_of(cgroup: &Cgroup, mixed: bool) -> ContainerPlace {
    let membership = cgroup.membership(0);
    let (cgroup, path) = (membership.cgroup.unwrap(), membership.cgroup_path.unwrap());
    ContainerPlace { cgroup, path, mixed, below: Vec::new() }
}

/// `PAL_CGROUP_SLOT`, `PAL_CGROUP_SEEN`: of a value of the table.
const SLOT_BITS: u32 = 0xffff;
const SEEN: u32 = 0x2000_0000;

/// The table itself.
fn registered(pins: &Pins) -> BpfHash<MapData, u64, u32> {
    let data = MapData::from_pin(pins.0.join("cgroup_slots")).unwrap();
    Map::from_map_data(data).unwrap().try_into().unwrap()
}

/// More cgroups than there is room for, which any workload with a cgroup of its own could make.
#[test]
fn host_unknown_tasks_stay_unknown_where_the_admission_of_their_cgroup_fails() {
    let Some(bed) = Bed::new("crowded") else { return };
    let mut watch = bed.watch();
    let container = bed.place.child("container");
    let mut own = Puppet::in_cgroup(&container.0);
    assert_eq!(bed.opens(&mut watch, "a", &mut own), Some((UNKNOWN, Phase::Workload)));
    let below: Vec<_> = (0..layout::CGROUPS).map(|number| container.0.join(number.to_string())).collect();
    below.iter().for_each(|directory| fs::create_dir(directory).unwrap());
    let refused = bed.node().admit(&container.membership(OWN)).unwrap_err();
    assert!(matches!(refused, EnforcementError::Full { what: "cgroups", .. }), "{refused}");
    below.iter().for_each(|directory| fs::remove_dir(directory).unwrap());
    assert_eq!(bed.opens(&mut watch, "b", &mut own), Some((UNKNOWN, Phase::Workload)));
    let mut next = Puppet::in_cgroup(&container.0);
    assert_eq!(bed.opens(&mut watch, "c", &mut next), Some((UNKNOWN, Phase::Workload)));
    [own, next].into_iter().for_each(Puppet::end);
}

#[test]
fn host_unknown_tasks_are_the_workloads_once_their_cgroup_is_admitted_and_as_far_in_their_life_as_they_were() {
    let Some(bed) = Bed::new("sticky") else { return };
    let mut watch = bed.watch();
    let container = bed.place.child("container");
    let mut runtime = Puppet::moved_into(&container.0);
    let mut own = Puppet::in_cgroup(&container.0);
    assert_eq!(bed.opens(&mut watch, "a", &mut runtime), Some((UNKNOWN, Phase::Runtime)));
    assert_eq!(bed.opens(&mut watch, "b", &mut own), Some((UNKNOWN, Phase::Workload)));
    bed.node().admit(&container.membership(OWN)).unwrap();
    bed.node().install(Slot(OWN), Generation(2), Some(&blocks(1))).unwrap();
    bed.node().set_visibility(Slot(OWN), Visibility::NONE, ALL_KINDS);
    assert_eq!(bed.opens(&mut watch, "c", &mut runtime), Some((OWN, Phase::Runtime)), "it began before the admission");
    assert_eq!(bed.opens(&mut watch, "d", &mut own), Some((OWN, Phase::Workload)));
    let file = bed.files.file("e", "x");
    assert_eq!(runtime.open_by_child(&file), 0);
    assert_eq!(watch.opener(file.to_str().unwrap()), Some((OWN, Phase::Runtime)), "a child of it");
    // Known now, it is not unknown again by going where unknown ones are.
    let beside = bed.place.child("beside");
    assert_eq!(own.enter(&beside.0), 0);
    assert_eq!(bed.opens(&mut watch, "f", &mut own), Some((OWN, Phase::Workload)));
    runtime.end();
    own.end();
}

#[test]
fn host_unknown_a_child_that_was_never_looked_at_before_the_admission_is_the_runtimes_too() {
    let Some(bed) = Bed::new("unseen") else { return };
    let mut watch = bed.watch();
    let container = bed.place.child("container");
    let mut runtime = Puppet::moved_into(&container.0);
    bed.node().admit(&container.membership(OWN)).unwrap();
    bed.node().set_visibility(Slot(OWN), Visibility::NONE, ALL_KINDS);
    let file = bed.files.file("a", "x");
    assert_eq!(runtime.open_by_child(&file), 0);
    assert_eq!(watch.opener(file.to_str().unwrap()), Some((OWN, Phase::Runtime)));
    runtime.end();
}

#[test]
fn host_unknown_nobody_is_another_containers_by_moving_into_its_cgroup() {
    let Some(bed) = Bed::new("mover") else { return };
    let mut watch = bed.watch();
    let (container, other) = (bed.place.child("container"), bed.place.child("other"));
    bed.node().admit(&other.membership(OTHER)).unwrap();
    bed.node().set_visibility(Slot(OTHER), Visibility::NONE, ALL_KINDS);
    // In the host's mounts a runtime would move others; a container is in mounts of its own.
    let mut unknown = Puppet::in_mounts_of_its_own(&container.0);
    assert_eq!(unknown.enter(&other.0), 0);
    for name in ["a", "b"] {
        assert_eq!(bed.opens(&mut watch, name, &mut unknown), Some((UNKNOWN, Phase::Workload)));
    }
    assert_eq!(unknown.connect(bed.port), libc::EPERM, "and is judged so");
    bed.node().admit(&container.membership(OWN)).unwrap();
    bed.node().set_visibility(Slot(OWN), Visibility::NONE, ALL_KINDS);
    assert_eq!(
        bed.opens(&mut watch, "c", &mut unknown),
        Some((OWN, Phase::Workload)),
        "what it was unknown in is known"
    );
    unknown.end();
}

#[test]
fn host_unknown_a_runtime_in_a_place_of_containers_starts_containers_from_there() {
    let Some(bed) = Bed::new("shim") else { return };
    let mut watch = bed.watch();
    let (pod, container) = (bed.place.child("pod"), bed.place.child("container"));
    bed.node().admit(&container.membership(OWN)).unwrap();
    bed.node().install(Slot(OWN), Generation(2), Some(&blocks(1))).unwrap();
    bed.node().set_visibility(Slot(OWN), Visibility::NONE, ALL_KINDS);
    // A shim in its pod's cgroup: `kubectl exec` comes from there.
    let mut shim = Puppet::moved_into(&pod.0);
    let file = bed.files.file("a", "x");
    assert_eq!(shim.open_by_child_moved_into(&file, &container.0), 0);
    assert_eq!(watch.opener(file.to_str().unwrap()), Some((OWN, Phase::Runtime)));
    shim.end();
}

#[test]
fn host_unknown_made_while_no_node_runs_is_judged_and_the_next_node_admits_it_with_its_tasks() {
    let Some(mut bed) = Bed::new("gap") else { return };
    bed.leave();
    let pod = bed.place.child("pod");
    let container = pod.child("container");
    let mut task = Puppet::in_cgroup(&container.0);
    let mut outside = Puppet::in_cgroup(&unified());
    assert_eq!(task.connect(bed.port), libc::EPERM, "from its first act, with nobody there");
    assert_eq!(outside.connect(bed.port), 0);
    // Leaving changes nothing, as for those that are known.
    assert_eq!(task.enter(&unified()), 0);
    assert_eq!(task.connect_by_old_socket(bed.port), libc::EPERM);
    assert_eq!(task.enter(&container.0), 0);
    bed.come_back();
    assert_eq!(bed.node().strangers(), [], "who is unknown is nobody's stranger");
    assert_eq!(bed.node().left_behind(), []);
    assert_eq!(task.connect(bed.port), libc::EPERM, "before anybody was told anything");
    bed.node().admit(&container.membership(OWN)).unwrap();
    assert_eq!(task.connect(bed.port), libc::EPERM, "until its own policy is in force");
    bed.node().install(Slot(OWN), Generation(2), None).unwrap();
    assert_eq!(task.connect(bed.port), 0, "its own: none");
    let sibling = Puppet::in_cgroup(&pod.0).connect_and_end(bed.port);
    assert_eq!(sibling, libc::EPERM, "beside it nobody is known");
    // The container is over for its runtime, but not its last task.
    bed.node().release(Slot(OWN)).unwrap();
    assert_eq!(task.connect(bed.port), libc::EPERM, "never the host's");
    task.end();
    outside.end();
}

#[test]
fn host_unknown_a_node_that_is_told_to_know_nobody_forgets_the_places() {
    let Some(mut bed) = Bed::new("ignored") else { return };
    let mut before = Puppet::in_cgroup(&bed.place.0);
    assert_eq!(before.connect(bed.port), libc::EPERM);
    bed.node = None;
    bed.node = Some(open(&bed.pins, false));
    assert_eq!(before.connect(bed.port), 0);
    assert_eq!(registered(&bed.pins).keys().count(), 0);
    assert_eq!(fs::read_dir(bed.pins.0.join("cgroup")).map_or(0, Iterator::count), 0, "links are gone");
    before.end();
}

#[test]
fn host_unknown_churn_fills_no_table_and_a_full_table_makes_nobody_the_hosts() {
    let Some(bed) = Bed::new("full") else { return };
    let mut watch = bed.watch();
    let mut table = registered(&bed.pins);
    // More than one workload may make.
    let made: Vec<_> = (0..1_100).map(|number| bed.place.0.join(format!("churned-{number}"))).collect();
    made.iter().for_each(|path| fs::create_dir(path).unwrap());
    assert_eq!(table.keys().count(), 1_101, "each of them, and the place");
    made.iter().for_each(|path| fs::remove_dir(path).unwrap());
    assert_eq!(table.keys().count(), 1, "the place alone");
    assert_eq!(bed.node().counters()[&Counter::CgroupsFull], 0);
    // Ids that no cgroup has.
    for id in 0..u64::from(layout::CGROUPS) - 1 {
        table.insert((1 << 60) + id, 7, 0).unwrap();
    }
    let pod = bed.place.child("pod");
    let container = pod.child("container");
    assert!(table.get(&inode(&container.0), 0).is_err(), "it found no room");
    assert!(bed.node().counters()[&Counter::CgroupsFull] >= 2);
    let mut task = Puppet::in_cgroup(&container.0);
    assert_eq!(bed.opens(&mut watch, "a", &mut task), Some((UNKNOWN, Phase::Workload)));
    assert_eq!(task.connect(bed.port), libc::EPERM);
    let mut outside = Puppet::in_cgroup(&unified());
    assert_eq!(bed.opens(&mut watch, "b", &mut outside), None, "the host, of which nothing is told");
    assert_eq!(outside.connect(bed.port), 0);
    task.end();
    outside.end();
}

fn inode(path: &std::path::Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Between its move and the word of it a task is in its cgroup and keeps nothing. Here nobody gives the word, so that it stays so.
#[test]
fn host_unknown_who_is_on_the_way_into_a_cgroup_is_the_runtimes_and_who_was_there_before_is_not() {
    let Some(bed) = Bed::new("arriving") else { return };
    let mut watch = bed.watch();
    let container = Cgroup::new("not-registered");
    let mut there = Puppet::moved_into(&container.0);
    bed.node().admit(&container.membership(OWN)).unwrap();
    bed.node().install(Slot(OWN), Generation(2), Some(&blocks(1))).unwrap();
    bed.node().set_visibility(Slot(OWN), Visibility::NONE, ALL_KINDS);
    let mut table = registered(&bed.pins);
    assert_eq!(table.get(&inode(&container.0), 0).unwrap(), OWN, "somebody was in it");
    table.remove(&inode(&container.0)).unwrap();
    let [mut beside, mut comes] = [Puppet::moved_into(&container.0), Puppet::moved_into(&container.0)];
    table.insert(inode(&container.0), OWN, 0).unwrap();
    assert_eq!(bed.opens(&mut watch, "there", &mut there), Some((OWN, Phase::Workload)));
    assert_eq!(bed.opens(&mut watch, "beside", &mut beside), Some((OWN, Phase::Workload)));
    table.insert(inode(&container.0), OWN | SEEN, 0).unwrap();
    assert_eq!(bed.opens(&mut watch, "comes", &mut comes), Some((OWN, Phase::Runtime)));
    for (name, puppet) in [("again", &mut there), ("beside-again", &mut beside)] {
        assert_eq!(bed.opens(&mut watch, name, puppet), Some((OWN, Phase::Workload)));
    }
    for puppet in [there, beside, comes] {
        puppet.end();
    }
    let empty = Cgroup::new("empty");
    bed.node().admit(&empty.membership(OWN + 1)).unwrap();
    assert_eq!(table.get(&inode(&empty.0), 0).unwrap(), (OWN + 1) | SEEN);
}

#[test]
fn host_unknown_beside_others_are_those_that_are_named_as_containers() {
    let Some(bed) = Bed::new("mixed") else { return };
    let mixed = Cgroup::new("system.slice");
    bed.node().hold_unknown_in(&[place_of(&mixed, true)]).unwrap();
    bed.node().hold_unknown_in(&[place_of(&mixed, true)]).unwrap();
    let id = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
    let table = registered(&bed.pins);
    let slot_of_new = |name: &str| {
        let made = Cgroup(mixed.0.join(name));
        fs::create_dir(&made.0).unwrap();
        table.get(&inode(&made.0), 0).ok().map(|value| value & SLOT_BITS)
    };
    for name in ["docker-ID.scope", "libpod-ID.scope", "crio-ID.scope", "cri-containerd-ID.scope", "ID"] {
        assert_eq!(slot_of_new(&name.replace("ID", id)), Some(UNKNOWN), "{name}");
    }
    for name in [
        "docker.service",
        "crio.service",
        "crio-conmon-ID.scope",
        "libpod-conmon-ID.scope",
        "cron.service",
        "docker-xyz.scope",
    ] {
        assert_eq!(slot_of_new(&name.replace("ID", id)), None, "{name}");
    }
    let mut service = Puppet::in_cgroup(&mixed.0);
    assert_eq!(service.connect(bed.port), 0, "the place itself is the host's");
    service.end();
}

/// A container that may not connect, on a node that stays for as long as a test wants.
fn held(bed: &Bed) -> (Cgroup, Puppet) {
    let container = bed.place.child("held");
    bed.node().admit(&container.membership(OWN)).unwrap();
    bed.node().install(Slot(OWN), Generation(2), Some(&blocks(bed.port))).unwrap();
    let task = Puppet::in_cgroup(&container.0);
    (container, task)
}

#[test]
fn host_unattended_policy_lapses_once_no_node_was_there_for_as_long_as_it_may_and_stands_again_with_the_next() {
    let Some(mut bed) = Bed::new("lapse") else { return };
    let (_container, mut task) = held(&bed);
    let span = Duration::from_secs(2);
    bed.node().attend(Some(span));
    assert_eq!(task.connect(bed.port), libc::EPERM);
    assert_eq!(bed.node().absence(), None, "this node was the first");
    bed.leave();
    assert_eq!(task.connect(bed.port), libc::EPERM, "it stands");
    std::thread::sleep(span + Duration::from_millis(100));
    assert_eq!((task.connect(bed.port), task.connect(bed.port)), (0, 0), "it has lapsed");
    let unknown = Puppet::in_cgroup(&bed.place.0).connect_and_end(bed.port);
    assert_eq!(unknown, 0, "for the unknown as well");
    bed.come_back();
    let absence = bed.node().absence().unwrap();
    let lapsed = absence.lapsed.unwrap();
    assert_eq!(lapsed.0 - absence.since.0, u64::try_from(span.as_nanos()).unwrap());
    assert!(absence.until > lapsed);
    // Each connect passes two hooks: the socket's creation is judged by nobody here, as no rule is about it.
    assert!(absence.passed >= 3, "{absence:?}");
    assert_eq!(task.connect(bed.port), 0, "until the first sign of life");
    bed.node().attend(Some(span));
    assert_eq!(task.connect(bed.port), libc::EPERM, "the same policy, without an installation");
    bed.node().attend(None);
    std::thread::sleep(span + Duration::from_millis(100));
    assert_eq!(task.connect(bed.port), libc::EPERM, "for ever, where nobody said how long");
    task.end();
}

#[test]
fn host_unattended_kills_lapse_as_denials_do() {
    let Some(bed) = Bed::new("lapse-kill") else { return };
    let container = bed.place.child("held");
    bed.node().admit(&container.membership(OWN)).unwrap();
    let own = fs::read_link("/proc/self/exe").unwrap();
    let traced = rule(Action::Block, Matcher::Ptrace(PathMatch::Exact(own.to_str().unwrap().into())));
    bed.node().install(Slot(OWN), Generation(2), Some(&probe_bed::blob(vec![traced]))).unwrap();
    let traces = || {
        let target = start(probe_bed::calls::pause);
        let tracer = Puppet::in_cgroup(&container.0).trace_and_end(target.pid);
        probe_bed::calls::kill(target.pid, libc::SIGKILL);
        target.wait();
        tracer
    };
    assert_ne!(traces(), 0, "denied, or killed");
    bed.node().attend(Some(Duration::from_millis(1)));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(traces(), 0);
    bed.node().attend(None);
    assert_ne!(traces(), 0);
}

#[test]
fn host_unattended_decisions_are_counted_for_the_next_node() {
    let Some(mut bed) = Bed::new("counted") else { return };
    let (_container, mut task) = held(&bed);
    for _ in 0..5 {
        assert_eq!(task.connect(bed.port), libc::EPERM);
    }
    bed.node().attend(None);
    bed.leave();
    for _ in 0..7 {
        assert_eq!(task.connect(bed.port), libc::EPERM);
    }
    assert_eq!(task.connect(1), libc::ECONNREFUSED, "judged, and permitted");
    bed.come_back();
    let absence = bed.node().absence().unwrap();
    assert_eq!((absence.denied, absence.passed), (7, 0), "{absence:?}");
    // What BPF LSM permits comes by the cgroup's programs as well.
    assert!((8..=9).contains(&absence.decided), "{absence:?}");
    assert_eq!(absence.lapsed, None);
    task.end();
}

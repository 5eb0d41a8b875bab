//! Host ring: the same test bodies against the simulated kernel and against this one, through the ports that the actors have. Needs root.
//!
//! What is proved of actors over the simulated kernel holds for production as far as these bodies pass on both. Tiers differ (the simulated
//! kernel has BPF LSM for everything) and are left out; what was decided, by which rule, in which generation and under which number is not.
#![forbid(unsafe_code)]

mod real;
mod simulated;

use std::{net::SocketAddr, sync::Arc};

use palisade_domain::{CgroupId, Generation, Slot, Workload, WorkloadKind};
use palisade_kernel_abi::{
    blob::{Blob, Decision, Effect},
    record::{Body, FailReason, Family, Outcome, Record, RecordReader},
};
use palisade_policy::{PolicyFile, PolicySet, ir::Postures};
use palisade_policy_compiler::{automaton::AutomatonLimits, compile};
use palisade_world::{Enforcement, EnforcementError, Loss, Membership, RecordBatch};

/// What a process of a workload does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A TCP connection.
    Connect(SocketAddr),
    /// A datagram socket of IPv4.
    DatagramSocket,
    /// Executes a program of the image.
    Execute(&'static str),
    /// Executes `cat` on a file of the image.
    Read(&'static str),
}

/// A decision as its record tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    slot: Slot,
    number: u32,
    generation: u32,
    family: Family,
    effect: Effect,
    rule: Option<u32>,
    by_posture: bool,
    denied: bool,
    fail_reason: FailReason,
    /// The path or the destination.
    object: String,
}

impl Decided {
    /// `None`: an observation.
    pub fn of(record: &Record<'_>) -> Option<Self> {
        let taken = record.decision?;
        let decision = Decision::from_word(taken.word);
        let object = match &record.body {
            Body::Open(open) => String::from_utf8_lossy(open.path.bytes).into_owned(),
            Body::Exec(exec) => String::from_utf8_lossy(exec.path.bytes).into_owned(),
            Body::Connect(network) => network.destination.map(|to| format!("{to:?}")).unwrap_or_default(),
            Body::Socket(network) => format!("{}/{}", network.domain, network.socket_type),
            other => format!("{other:?}"),
        };
        Some(Self {
            slot: Slot(record.header.slot),
            number: taken.policy,
            generation: taken.generation,
            family: taken.family,
            effect: decision.effect,
            rule: decision.rule,
            by_posture: decision.by_posture,
            denied: matches!(taken.outcome, Outcome::Denied),
            fail_reason: taken.fail_reason,
            object,
        })
    }
}

/// One kernel, simulated or real, and a node's process on it.
pub trait Bed {
    /// The port of whoever enforces.
    fn enforcement(&self) -> &dyn Enforcement;
    /// The node's process crashes, and another one opens the ports.
    fn restart(&mut self);
    /// A cgroup of a container that has not run yet; its membership of a slot.
    fn cgroup(&mut self, name: &str, slot: u32) -> Membership;
    /// It is removed.
    fn remove(&mut self, cgroup: CgroupId);
    /// A new process of the cgroup does something; whether it was let.
    fn act(&mut self, cgroup: CgroupId, act: &Act) -> bool;
    /// What was recorded since the last call, batch by batch.
    fn read(&mut self, hear: &mut dyn FnMut(&RecordBatch));
    /// The decisions of it, in their order: each CPU has its ring, and only their times tell that.
    fn decided(&mut self) -> Vec<Decided> {
        let mut decided = Vec::new();
        self.read(&mut |batch| {
            let records = RecordReader::new(&batch.bytes).map(|record| record.expect("sound"));
            decided.extend(records.filter_map(|record| Some((record.header.boot_ns, Decided::of(&record)?))));
        });
        decided.sort_by_key(|(boot_ns, _)| *boot_ns);
        decided.into_iter().map(|(_, decided)| decided).collect()
    }
    /// The same, without looking at them: how many records there were.
    fn drained(&mut self) -> u64 {
        let mut read = 0;
        self.read(&mut |batch| read += u64::from(batch.records));
        read
    }
    /// The kernel's account.
    fn loss(&mut self) -> Loss;
    /// Acts of at least this many kilobytes of records, which nobody reads.
    fn flood(&mut self, cgroup: CgroupId, act: &Act);
}

fn blob(documents: &str) -> Arc<Blob> {
    let file = PolicyFile::parse("conformance.yaml", documents.as_bytes());
    assert!(file.is_sound(), "{:?}", file.diagnostics);
    let set = PolicySet::assemble([&file]).0;
    let workload = Workload {
        kind: WorkloadKind::Container,
        name: "pod".to_owned(),
        namespace: "shop".to_owned(),
        container: "main".to_owned(),
        container_id: None,
        image: String::new(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
    };
    let rules = set.rules_for(&workload, &Default::default(), Postures::default());
    assert!(!rules.rules.is_empty(), "something selects it");
    compile(&rules, &AutomatonLimits::default(), &mut || false).expect("it compiles").blob
}

fn no_port(port: u16, action: &str) -> String {
    format!(
        "apiVersion: palisade.dev/v1alpha1\nkind: PalisadePolicy\nmetadata: {{name: port, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  network:\n    destinations:\n    - ports: [{port}]\n      protocol: TCP\n  action: {action}\n"
    )
}

fn on_both(body: impl Fn(&mut dyn Bed)) {
    if let Some(mut bed) = real::Real::open() {
        body(&mut bed);
    }
    body(&mut simulated::Simulated::open());
}

/// A server on loopback that takes connections until it is dropped.
fn server() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

#[test]
#[ignore = "the responder's process, started by the bed"]
fn responder_process() {
    real::responder_process();
}

#[test]
fn host_conformance_destinations_and_sockets_are_judged_and_recorded_alike() {
    let ((_a, blocked), (_b, free)) = (server(), server());
    let udp = "---\napiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: udp, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  network:\n    matchProtocols: [{protocol: udp}]\n  action: Block\n";
    let policy = blob(&(no_port(blocked.port(), "Block") + udp));
    let audited = blob(&no_port(blocked.port(), "Audit"));
    on_both(|bed| {
        let membership = bed.cgroup("network", 3);
        let cgroup = membership.cgroup.expect("it has one");
        bed.enforcement().admit(&membership).expect("admitted");
        let outside = bed.cgroup("outside", 0).cgroup.expect("it has one");
        let installed = bed.enforcement().install(Slot(3), Generation(5), Some(&policy)).expect("installed");
        assert!(!bed.act(cgroup, &Act::Connect(blocked)));
        assert!(bed.act(cgroup, &Act::Connect(free)));
        assert!(!bed.act(cgroup, &Act::DatagramSocket));
        assert!(bed.act(outside, &Act::Connect(blocked)), "it is nobody's");
        let decided = bed.decided();
        let [connect, socket] = decided.as_slice() else { panic!("{decided:?}") };
        let expected = Decided {
            slot: Slot(3),
            number: installed.number,
            generation: 5,
            family: Family::Connect,
            effect: Effect::Block,
            rule: connect.rule,
            by_posture: false,
            denied: true,
            fail_reason: FailReason::None,
            object: format!("{:?}", (blocked.ip(), blocked.port())),
        };
        assert_eq!(*connect, expected);
        assert_eq!(
            *socket,
            Decided { family: Family::Socket, rule: socket.rule, object: "2/2".to_owned(), ..expected.clone() }
        );
        assert_ne!(connect.rule, socket.rule);
        // Another policy, at once; what is audited is let happen and told.
        let second = bed.enforcement().install(Slot(3), Generation(6), Some(&audited)).expect("installed");
        assert_ne!(second.number, installed.number);
        assert!(bed.act(cgroup, &Act::Connect(blocked)));
        assert!(bed.act(cgroup, &Act::DatagramSocket));
        let rule = Some(0);
        let (number, effect) = (second.number, Effect::Audit);
        assert_eq!(bed.decided(), [Decided { number, generation: 6, effect, rule, denied: false, ..expected }]);
        // And none: nothing is decided any more.
        bed.enforcement().install(Slot(3), Generation(7), None).expect("taken away");
        assert!(bed.act(cgroup, &Act::Connect(blocked)));
        assert_eq!(bed.decided(), []);
        bed.enforcement().release(Slot(3)).expect("released");
    });
}

#[test]
fn host_conformance_executions_and_opens_are_judged_and_recorded_alike() {
    let policy = blob(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: paths, namespace: shop}\nspec:\n  selector: {matchLabels: {app: web}}\n  process:\n    matchPaths: [{path: /usr/bin/touch}]\n  file:\n    matchPaths: [{path: /etc/secret}]\n    matchDirectories: [{dir: /data/, recursive: true}]\n  action: Block\n",
    );
    on_both(|bed| {
        let membership = bed.cgroup("paths", 4);
        let cgroup = membership.cgroup.expect("it has one");
        bed.enforcement().admit(&membership).expect("admitted");
        let installed = bed.enforcement().install(Slot(4), Generation(2), Some(&policy)).expect("installed");
        assert!(bed.act(cgroup, &Act::Execute("/usr/bin/true")));
        assert!(!bed.act(cgroup, &Act::Execute("/usr/bin/touch")));
        assert!(!bed.act(cgroup, &Act::Read("/etc/secret")));
        assert!(!bed.act(cgroup, &Act::Read("/data/deep/secret")));
        assert!(bed.act(cgroup, &Act::Read("/etc/public")));
        let decided = bed.decided();
        let of = |family, object: &str, rule| Decided {
            slot: Slot(4),
            number: installed.number,
            generation: 2,
            family,
            effect: Effect::Block,
            rule,
            by_posture: false,
            denied: true,
            fail_reason: FailReason::None,
            object: object.to_owned(),
        };
        let rules: Vec<Option<u32>> = decided.iter().map(|decided| decided.rule).collect();
        let [exec, exact, below] = rules.as_slice() else { panic!("{decided:?}") };
        let expected = [
            of(Family::Process, "/usr/bin/touch", *exec),
            of(Family::File, "/etc/secret", *exact),
            of(Family::File, "/data/deep/secret", *below),
        ];
        assert_eq!(decided, expected);
        assert!(exec != exact && exact != below && exec != below, "each names its own rule: {rules:?}");
        bed.enforcement().release(Slot(4)).expect("released");
    });
}

#[test]
fn host_conformance_slots_that_nobody_has_are_refused_or_left_alone() {
    let policy = blob(&no_port(1, "Block"));
    on_both(|bed| {
        let unknown =
            |result: Result<(), EnforcementError>| matches!(result, Err(EnforcementError::UnknownSlot(Slot(9))));
        let enforcement = bed.enforcement();
        assert!(unknown(enforcement.install(Slot(9), Generation(1), Some(&policy)).map(|_| ())));
        assert!(unknown(enforcement.install(Slot(9), Generation(1), None).map(|_| ())));
        assert!(unknown(enforcement.learn_mounts(Slot(9), std::process::id())));
        enforcement.release(Slot(9)).expect("releasing is harmless");
        enforcement.set_visibility(Slot(9), palisade_domain::Visibility::ALL, 0);
        let past = bed.cgroup("past", 4096);
        let refused = bed.enforcement().admit(&past).expect_err("there is no such slot");
        assert!(matches!(refused, EnforcementError::Full { slot: Slot(4096), bound: 4096, .. }), "{refused}");
        let membership = bed.cgroup("twice", 9);
        let enforcement = bed.enforcement();
        enforcement.admit(&membership).expect("admitted");
        enforcement.install(Slot(9), Generation(1), Some(&policy)).expect("installed");
        enforcement.release(Slot(9)).expect("released");
        assert!(unknown(enforcement.install(Slot(9), Generation(2), Some(&policy)).map(|_| ())), "it was released");
        enforcement.release(Slot(9)).expect("a second time is harmless");
    });
}

#[test]
fn host_conformance_equal_policies_have_one_number_and_others_another() {
    let (one, other) = (blob(&no_port(1, "Block")), blob(&no_port(2, "Block")));
    on_both(|bed| {
        for slot in 1..=3 {
            let membership = bed.cgroup(&format!("equal-{slot}"), slot);
            bed.enforcement().admit(&membership).expect("admitted");
        }
        let install =
            |slot, policy| bed.enforcement().install(Slot(slot), Generation(1), policy).expect("installed").number;
        let numbers = [install(1, Some(&one)), install(2, Some(&one)), install(3, Some(&other))];
        assert!(numbers[0] == numbers[1] && numbers[1] != numbers[2] && !numbers.contains(&0), "{numbers:?}");
        assert_eq!(install(3, None), 0);
        assert_eq!(install(3, Some(&one)), numbers[0], "as long as one slot names it");
        for slot in 1..=3 {
            bed.enforcement().release(Slot(slot)).expect("released");
        }
    });
}

#[test]
fn host_conformance_policy_stands_through_a_crash_and_the_next_process_is_told_what_was_left() {
    let (_server, blocked) = server();
    let policy = blob(&no_port(blocked.port(), "Block"));
    on_both(|bed| {
        let of = |bed: &mut dyn Bed, name, slot| {
            let membership = bed.cgroup(name, slot);
            bed.enforcement().admit(&membership).expect("admitted");
            membership
        };
        let lives = of(bed, "lives", 1);
        let dies = of(bed, "dies", 2);
        of(bed, "released", 3);
        let unselected = of(bed, "unselected", 5);
        for (slot, generation) in [(1, 4), (2, 8), (3, 6)] {
            bed.enforcement().install(Slot(slot), Generation(generation), Some(&policy)).expect("installed");
        }
        bed.enforcement().install(Slot(5), Generation(7), None).expect("nothing selects it");
        bed.enforcement().release(Slot(3)).expect("released");
        bed.remove(dies.cgroup.expect("it has one"));
        bed.restart();
        let cgroup = lives.cgroup.expect("it has one");
        assert!(!bed.act(cgroup, &Act::Connect(blocked)), "what was in force stands");
        let mut left = bed.enforcement().left_behind();
        left.sort_by_key(|left| left.slot);
        let told: Vec<_> = left.iter().map(|left| (left.slot.0, left.cgroup, left.released.is_some())).collect();
        let expected = [(1, lives.cgroup, false), (2, None, false), (3, None, true), (5, unselected.cgroup, false)];
        assert_eq!(told, expected);
        assert_eq!(bed.enforcement().last_generation(), Generation(8));
        // Another slot for the same cgroup: what stood for it stands until something is installed.
        let elsewhere = Membership { slot: Slot(6), ..lives };
        bed.enforcement().admit(&elsewhere).expect("admitted");
        assert!(!bed.act(cgroup, &Act::Connect(blocked)));
        assert_eq!(bed.decided().last().map(|decided| (decided.slot, decided.generation)), Some((Slot(6), 4)));
        bed.enforcement().install(Slot(6), Generation(9), None).expect("taken away");
        assert!(bed.act(cgroup, &Act::Connect(blocked)));
        bed.enforcement().release(Slot(6)).expect("released");
        // One more process: what was released before rests on, and what nobody asked for is told again.
        bed.restart();
        let released = bed.enforcement().left_behind().into_iter().filter(|left| left.released.is_some());
        let mut released: Vec<u32> = released.map(|left| left.slot.0).collect();
        released.sort_unstable();
        assert!([2, 3, 6].iter().all(|slot| released.contains(slot)), "{released:?}");
        assert!(!released.contains(&5), "somebody has it");
    });
}

#[test]
fn host_conformance_records_that_find_no_room_are_counted_and_all_numbers_are_accounted_for() {
    let (_server, blocked) = server();
    let policy = blob(&no_port(blocked.port(), "Block"));
    on_both(|bed| {
        let membership = bed.cgroup("flood", 2);
        let cgroup = membership.cgroup.expect("it has one");
        bed.enforcement().admit(&membership).expect("admitted");
        bed.enforcement().install(Slot(2), Generation(1), Some(&policy)).expect("installed");
        bed.drained();
        let (before, produced_before) = (bed.loss(), |loss: &Loss| loss.produced.values().sum::<u64>());
        bed.flood(cgroup, &Act::Connect(blocked));
        let read = bed.drained();
        let after = bed.loss();
        let lost = |loss: &Loss| loss.counts.values().sum::<u64>();
        let (produced, lost) = (produced_before(&after) - produced_before(&before), lost(&after) - lost(&before));
        assert!(read > 0 && lost > 0, "{read} read, {lost} lost");
        assert_eq!(produced, read + lost);
        // There is room again.
        assert!(!bed.act(cgroup, &Act::Connect(blocked)));
        assert_eq!(bed.decided().len(), 1);
        bed.enforcement().release(Slot(2)).expect("released");
    });
}

//! What chance meets too seldom: one situation each, made on purpose, beside a port that is broken for it.
#![forbid(unsafe_code)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId, Visibility, Workload, WorkloadKind};
use palisade_policy::ir::Postures;
use palisade_simulation::{
    checkers::{self, Violation},
    deed::Deed,
    event::{Ears, Event, Teller, lock},
    journal::Journal,
    random::Random,
    world::{
        configuration::Configured,
        containers::described,
        machine::{Machine, Traits},
        mutation::Mutation,
        scheduler::{self, Processes},
    },
};
use tokio::time::{Instant, sleep};

/// One machine, and who hears of it.
struct Stage {
    machine: Machine,
    ears: Arc<Mutex<Ears>>,
}

const POLICY: &str = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: shadow, namespace: shop}
spec:
  selector: {matchLabels: {}}
  file: {matchPaths: [{path: /etc/shadow}]}
  action: Block
";

impl Stage {
    fn new(processes: &Processes, mutation: Option<Mutation>) -> Self {
        let configured =
            Configured { postures: Postures::default(), visibility: Visibility::NONE, throttle: None, sink: 0 };
        let begun = Instant::now();
        let ears = Ears::new(begun, Journal::new(false), checkers::all(&[configured]));
        let ears = Arc::new(Mutex::new(ears));
        let traits = Traits {
            max_workloads: 8,
            configured,
            keeps_traces: true,
            ring_bytes: 1 << 20,
            skew_seconds: 0,
            put_back_percent: 0,
        };
        let teller = Teller::new(0, &ears);
        let machine = Machine::new(begun, teller, processes, traits, mutation, Random::stream(1, "machine"));
        machine.disk.write("shadow.yaml", POLICY.into());
        machine.start();
        Self { machine, ears }
    }

    /// A container that nobody hooked; its first process.
    fn runs(&self, name: &str, cgroup: u64) -> u32 {
        let (id, cgroup) = (ContainerId(name.to_owned()), CgroupId(cgroup));
        let workload = Workload {
            kind: WorkloadKind::Container,
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            container: "main".to_owned(),
            container_id: Some(id.clone()),
            image: "registry.example/web:1".to_owned(),
            labels: [].into(),
        };
        let created =
            Event::ContainerCreated { id: id.clone(), cgroup, workload: Arc::new(workload.clone()), hooked: false };
        self.machine.teller.tell(&created);
        let init = self.machine.kernel.start_init(&id, cgroup, "/opt/app/run", 7);
        self.machine.teller.tell(&Event::ContainerRuns(id.clone()));
        self.machine.runtime.started(&described(&id, init, cgroup, &workload));
        init
    }

    fn ends(&self, name: &str, cgroup: u64) {
        let id = ContainerId(name.to_owned());
        self.machine.kernel.kill(CgroupId(cgroup));
        self.machine.teller.tell(&Event::ContainerOver(id.clone()));
        self.machine.runtime.stopped(&id);
    }

    fn opens_what_is_blocked(&self, process: u32) -> bool {
        let deed = Deed::Open { path: "/etc/shadow".to_owned(), write: false, owner: true };
        self.machine.kernel.act(process, &deed) == Some(false)
    }

    fn violations(&self) -> Vec<Violation> {
        lock(&self.ears).conclude()
    }
}

fn on_stage<T>(mutation: Option<Mutation>, script: impl AsyncFnOnce(&Stage) -> T) -> (T, Vec<Violation>) {
    scheduler::run(1, async |processes| {
        let stage = Stage::new(&processes, mutation);
        let outcome = script(&stage).await;
        (outcome, stage.violations())
    })
}

/// The thread that reads the rings (`Machine::stall`).
const PROBE: usize = 4;

/// A container is denied something and ends, the node crashes before it has read the record, and another container comes while the probe of
/// the process after it has not read it, either.
async fn a_slot_after_a_crash(stage: &Stage) {
    sleep(Duration::from_secs(3)).await;
    let first = stage.runs("first", 1001);
    sleep(Duration::from_secs(3)).await;
    stage.machine.stall(PROBE, Duration::from_secs(10));
    assert!(stage.opens_what_is_blocked(first));
    stage.ends("first", 1001);
    sleep(Duration::from_secs(2)).await;
    stage.machine.kill("injected: SIGKILL");
    stage.machine.kernel.disturb(|kernel| kernel.broken_reads_permyriad = 10_000);
    stage.machine.start();
    sleep(Duration::from_millis(300)).await;
    stage.runs("second", 1002);
    sleep(Duration::from_millis(700)).await;
    stage.machine.kernel.disturb(|kernel| kernel.broken_reads_permyriad = 0);
    sleep(Duration::from_secs(10)).await;
}

#[test]
fn unit_scenario_records_of_who_had_a_slot_before_a_crash_are_never_told_of_the_next() {
    let ((), sound) = on_stage(None, a_slot_after_a_crash);
    assert_eq!(sound, []);
    let ((), broken) = on_stage(Some(Mutation::ForgetsReleases), a_slot_after_a_crash);
    assert!(broken.iter().any(|found| found.what.contains("its alert names container second")), "{broken:?}");
}

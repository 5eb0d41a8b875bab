//! Containers that come and go, and what their processes do.

use std::{cell::Cell, rc::Rc, sync::Arc};

use palisade_domain::{CgroupId, ContainerId, Workload, WorkloadKind};
use palisade_kernel_abi::blob::AF_INET;
use tokio::time::{sleep, timeout};

use super::{APPS, FILES, NAMESPACES, PROGRAMS, Until};
use crate::{
    deed::Deed,
    event::Event,
    random::Random,
    world::{
        containers::{HOOK_PATIENCE, described},
        kernel::Kernel,
        machine::Machine,
    },
};

/// Linux `SOCK_STREAM` and `SOCK_DGRAM`.
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;

/// Containers that live on a machine at a time, at most, and what is counted of them.
#[derive(Clone)]
pub struct Fleet {
    /// How many live.
    living: Rc<Cell<u64>>,
    /// Cgroups and containers are numbered.
    made: Rc<Cell<u64>>,
    most: u64,
}

impl Fleet {
    /// An empty fleet of at most so many.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self { living: Rc::default(), made: Rc::default(), most }
    }

    fn number(&self) -> u64 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }
}

/// Starts containers as long as the workload lasts.
pub async fn come_and_go(machine: Machine, mut random: Random, until: Until, fleet: Fleet) {
    while until.sleep(random.millis(50, 1200)).await {
        if fleet.living.get() < fleet.most {
            fleet.living.set(fleet.living.get() + 1);
            let container = Life {
                machine: machine.clone(),
                random: random.child("life"),
                until: until.clone(),
                fleet: fleet.clone(),
            };
            tokio::task::spawn_local(container.lives());
        }
    }
}

struct Life {
    machine: Machine,
    random: Random,
    until: Until,
    fleet: Fleet,
}

impl Life {
    async fn lives(mut self) {
        let number = self.fleet.number();
        let id = ContainerId(format!("n{}c{number}", self.machine.number));
        let mut workload = self.workload(&id, number);
        // The same container may be started again, under its id and in another cgroup.
        while self.once(&id, &mut workload).await && self.random.percent(30) && !self.until.is_over() {
            let wait = self.random.millis(5, 600);
            sleep(wait).await;
        }
        self.fleet.living.set(self.fleet.living.get() - 1);
    }

    fn workload(&mut self, id: &ContainerId, number: u64) -> Workload {
        let app = *self.random.pick(&APPS);
        Workload {
            kind: WorkloadKind::Container,
            name: format!("{app}-{number}"),
            namespace: (*self.random.pick(&NAMESPACES)).to_owned(),
            container: "main".to_owned(),
            container_id: Some(id.clone()),
            image: format!("registry.example/{app}:1"),
            labels: [("app".to_owned(), app.to_owned())].into(),
        }
    }

    /// One run of it; whether the machine was on all the time.
    async fn once(&mut self, id: &ContainerId, workload: &mut Workload) -> bool {
        let boots = self.machine.boots();
        let machine = self.machine.clone();
        let lasts = move || machine.boots() == boots;
        let cgroup = CgroupId(1000 + self.fleet.number());
        let hooked = self.random.percent(70);
        let (kernel, runtime, teller) =
            (self.machine.kernel.clone(), self.machine.runtime.clone(), self.machine.teller.clone());
        let created = Event::ContainerCreated { id: id.clone(), cgroup, workload: Arc::new(workload.clone()), hooked };
        teller.tell(&created);
        let namespace = u32::try_from(4_026_000_000 + cgroup.0).unwrap_or(1);
        let init = kernel.start_init(id, cgroup, "/usr/bin/runc", namespace);
        if hooked {
            let hook = runtime.hook(&described(id, init, cgroup, workload));
            let answer = match timeout(HOOK_PATIENCE, hook).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err("nobody answered".to_owned()),
                Err(_) => Err("no answer in time".to_owned()),
            };
            if !lasts() {
                return false;
            }
            let refused = answer.is_err();
            teller.tell(&Event::Admission { id: id.clone(), answer, standing: kernel.standing(cgroup) });
            if refused {
                kernel.kill(cgroup);
                teller.tell(&Event::ContainerOver(id.clone()));
                let wait = self.random.millis(5, 300);
                sleep(wait).await;
                if lasts() {
                    runtime.stopped(id);
                }
                return lasts();
            }
        }
        teller.tell(&Event::ContainerRuns(id.clone()));
        runtime.started(&described(id, init, cgroup, workload));
        self.runs(init, cgroup, id, workload, &lasts).await;
        if !lasts() {
            return false;
        }
        kernel.kill(cgroup);
        teller.tell(&Event::ContainerOver(id.clone()));
        runtime.stopped(id);
        true
    }

    /// Its processes act until it ends. What lives at the end of the workload lives on, so that there is something to settle.
    async fn runs(
        &mut self,
        init: u32,
        cgroup: CgroupId,
        id: &ContainerId,
        workload: &mut Workload,
        lasts: &impl Fn() -> bool,
    ) {
        let turns = self.random.between(2, 120);
        let relabelled = self.random.percent(15).then(|| self.random.below(turns));
        for turn in 0..turns {
            // The first instruction comes at once.
            if turn > 0 && !self.until.sleep(self.random.millis(5, 400)).await {
                return self.rest(init, lasts).await;
            }
            if !lasts() {
                return;
            }
            if relabelled == Some(turn) {
                let app = *self.random.pick(&APPS);
                workload.labels.insert("app".to_owned(), app.to_owned());
                let event = Event::ContainerRelabelled { id: id.clone(), workload: Arc::new(workload.clone()) };
                self.machine.teller.tell(&event);
                self.machine.runtime.relabelled(&described(id, init, cgroup, workload));
            }
            process(&self.machine.kernel, &mut self.random, init);
        }
    }

    /// After the workload: it waits, and at the end each of its families is tried once more by who settles the run.
    async fn rest(&mut self, init: u32, lasts: &impl Fn() -> bool) {
        while lasts() && !self.until.is_settled() {
            sleep(std::time::Duration::from_millis(100)).await;
        }
        if lasts() {
            let Self { machine, random, .. } = self;
            (0..12).for_each(|_| process(&machine.kernel, random, init));
        }
    }
}

/// A process that executes something, does something, and ends.
pub(super) fn process(kernel: &Kernel, random: &mut Random, init: u32) {
    let uid = if random.percent(30) { 1000 } else { 0 };
    let Some(pid) = kernel.fork(init, uid) else { return };
    let path = (*random.pick(&PROGRAMS)).to_owned();
    let exec = Deed::Exec { path, arguments: vec!["-c".to_owned(), "x".to_owned()], owner: uid == 0 };
    kernel.act(pid, &exec);
    for _ in 0..random.between(1, 4) {
        let deed = deed(random, uid);
        kernel.act(pid, &deed);
    }
    if random.percent(3) {
        // A burst, as of a scan.
        (0..random.between(20, 120)).for_each(|_| {
            let deed = deed(random, uid);
            kernel.act(pid, &deed);
        });
    }
    kernel.exit(pid);
}

fn deed(random: &mut Random, uid: u32) -> Deed {
    match random.below(10) {
        0..=4 => {
            let path = (*random.pick(&FILES)).to_owned();
            Deed::Open { path, write: random.percent(30), owner: uid == 0 && random.percent(80) }
        }
        5 => Deed::Socket { domain: AF_INET, kind: *random.pick(&[STREAM, DATAGRAM]), protocol: 0 },
        6 => Deed::Connect {
            address: [10, 0, u8::try_from(random.below(4)).unwrap_or(0), 7].into(),
            port: *random.pick(&[80, 443, 5000]),
            kind: STREAM,
            protocol: 6,
        },
        7 => Deed::Capability(*random.pick(&[13, 21])),
        8 => Deed::Ptrace { target: (*random.pick(&PROGRAMS)).to_owned() },
        _ => Deed::Dns(random.pick(&["example.com", "db.shop.svc"]).to_string()),
    }
}

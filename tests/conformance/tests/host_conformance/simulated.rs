//! The simulated kernel.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use palisade_domain::{CgroupId, ContainerId, Slot, Visibility};
use palisade_kernel_abi::blob::AF_INET;
use palisade_simulation::{
    deed::Deed,
    event::{Ears, Teller},
    journal::Journal,
    random::Random,
    world::{
        clock::SimClock,
        kernel::{Kernel, SimEnforcement, SimRecords},
    },
};
use palisade_world::{Enforcement, Loss, Membership, RecordBatch, RecordSource as _};
use tokio::time::Instant;

use crate::{Act, Bed};

/// Linux `SOCK_STREAM`, `SOCK_DGRAM`, `IPPROTO_TCP`.
const STREAM: u8 = 1;
const DATAGRAM: u8 = 2;
const TCP: u8 = 6;
/// Bytes of a ring.
const RING: usize = 4096;

pub struct Simulated {
    kernel: Kernel,
    enforcement: SimEnforcement,
    records: SimRecords,
    inits: BTreeMap<CgroupId, u32>,
}

impl Simulated {
    pub fn open() -> Self {
        let begun = Instant::now();
        let ears = Arc::new(Mutex::new(Ears::new(begun, Journal::new(false), Vec::new())));
        let teller = Teller::new(0, &ears);
        let kernel = Kernel::new(teller, SimClock::new(begun, 0), Random::stream(1, "kernel"), RING, None);
        let enforcement = SimEnforcement::open(&kernel, Visibility::NONE);
        let records = SimRecords::open(&kernel);
        Self { kernel, enforcement, records, inits: BTreeMap::new() }
    }
}

impl Bed for Simulated {
    fn enforcement(&self) -> &dyn Enforcement {
        &self.enforcement
    }

    fn restart(&mut self) {
        self.enforcement = SimEnforcement::open(&self.kernel, Visibility::NONE);
        self.records = SimRecords::open(&self.kernel);
    }

    fn cgroup(&mut self, name: &str, slot: u32) -> Membership {
        let cgroup = CgroupId(100 + self.inits.len() as u64);
        let init = self.kernel.start_init(&ContainerId(name.to_owned()), cgroup, "/usr/bin/sh", 7);
        self.inits.insert(cgroup, init);
        Membership { slot: Slot(slot), cgroup: Some(cgroup), cgroup_path: None, pid: init, root: None }
    }

    fn remove(&mut self, cgroup: CgroupId) {
        self.kernel.kill(cgroup);
    }

    fn act(&mut self, cgroup: CgroupId, act: &Act) -> bool {
        let pid = self.kernel.fork(self.inits[&cgroup], 0).expect("it lives");
        let exec = |path: &str| Deed::Exec { path: path.to_owned(), arguments: Vec::new(), owner: true };
        let deeds = match act {
            Act::Connect(to) => vec![
                Deed::Socket { domain: AF_INET, kind: STREAM, protocol: TCP },
                Deed::Connect { address: to.ip(), port: to.port(), kind: STREAM, protocol: TCP },
            ],
            Act::DatagramSocket => vec![Deed::Socket { domain: AF_INET, kind: DATAGRAM, protocol: 0 }],
            Act::Execute(path) => vec![exec(path)],
            Act::Read(path) => {
                vec![exec("/usr/bin/cat"), Deed::Open { path: (*path).to_owned(), write: false, owner: true }]
            }
        };
        let permitted = deeds.iter().all(|deed| self.kernel.act(pid, deed).expect("it lives"));
        self.kernel.exit(pid);
        permitted
    }

    fn read(&mut self, hear: &mut dyn FnMut(&RecordBatch)) {
        let mut batch = RecordBatch::default();
        loop {
            let more = self.records.read(&mut batch).expect("readable");
            hear(&batch);
            if !more {
                return;
            }
        }
    }

    fn loss(&mut self) -> Loss {
        self.records.loss().expect("counted")
    }

    fn flood(&mut self, cgroup: CgroupId, act: &Act) {
        for _ in 0..500 {
            self.act(cgroup, act);
        }
    }
}

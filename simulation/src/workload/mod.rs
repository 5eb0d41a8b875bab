//! What happens on a simulated machine that no fault is: containers come and go, their processes act, people edit policies.
//!
//! Invariant: generators know nothing of checkers, and checkers nothing of generators: what a container means to do is nobody's oracle.

pub mod configuration;
pub mod containers;
pub mod host;
pub mod policies;

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use crate::{random::Random, world::machine::Machine};

/// Namespaces.
pub const NAMESPACES: [&str; 2] = ["shop", "bank"];
/// Values of the label `app`.
pub const APPS: [&str; 4] = ["web", "db", "job", "cache"];
/// What is executed.
pub const PROGRAMS: [&str; 6] =
    ["/bin/sh", "/usr/bin/curl", "/usr/bin/nc", "/opt/app/run", "/opt/app/bin/worker", "/etc/init.d/start"];
/// What is opened.
pub const FILES: [&str; 8] = [
    "/etc/passwd",
    "/etc/shadow",
    "/etc/app/conf.yaml",
    "/data/a.txt",
    "/data/b/secret.db",
    "/data/b/c/d.log",
    "/opt/app/run",
    "/tmp/x",
];

/// Somebody follows the alerts of all nodes, for a while each time. Whoever does when the workload ends goes on, so that there is
/// something to be owed.
pub async fn follow_nodes(machine: Machine, mut random: Random, until: Until) {
    loop {
        sleep(random.millis(100, 4000)).await;
        let for_good = until.is_over() || random.percent(30);
        let lasts = if for_good { Duration::from_secs(3600) } else { random.millis(500, 20_000) };
        machine.follow_nodes(&mut random, lasts, || !until.is_over()).await;
    }
}

/// So many nodes are each as busy as one alone.
const BUSY_NODES: usize = 8;

/// By how much the workload's waits are longer on each of so many nodes, where nobody says it: in a larger cluster all together are as busy as
/// [`BUSY_NODES`], because what is looked for there is between nodes, and each act costs real time.
#[must_use]
pub fn pace(nodes: usize) -> u32 {
    u32::try_from(nodes.div_ceil(BUSY_NODES)).unwrap_or(u32::MAX)
}

/// When the workload of a run ends, and how fast it goes.
#[derive(Clone)]
pub struct Until {
    end: Instant,
    pace: u32,
    stopped: Rc<Cell<bool>>,
    settled: Rc<Cell<bool>>,
}

impl Until {
    /// At this instant; waits are so many times as long.
    #[must_use]
    pub fn new(end: Instant, pace: u32) -> Self {
        Self { end, pace, stopped: Rc::default(), settled: Rc::default() }
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopped.get() || Instant::now() >= self.end
    }

    /// Over now.
    pub fn stop(&self) {
        self.stopped.set(true);
    }

    /// Whether the nodes have come to rest since.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled.get()
    }

    /// The nodes have come to rest.
    pub fn settle(&self) {
        self.settled.set(true);
    }

    /// Waits at the workload's pace; false where it ended meanwhile.
    pub async fn sleep(&self, wait: Duration) -> bool {
        sleep_until((Instant::now() + wait * self.pace).min(self.end)).await;
        !self.is_over()
    }
}

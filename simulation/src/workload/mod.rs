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

/// When the workload of a run ends.
#[derive(Clone)]
pub struct Until {
    end: Instant,
    stopped: Rc<Cell<bool>>,
    settled: Rc<Cell<bool>>,
}

impl Until {
    /// At this instant.
    #[must_use]
    pub fn new(end: Instant) -> Self {
        Self { end, stopped: Rc::default(), settled: Rc::default() }
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

    /// Waits; false where the workload ended meanwhile.
    pub async fn sleep(&self, wait: Duration) -> bool {
        sleep_until((Instant::now() + wait).min(self.end)).await;
        !self.is_over()
    }
}

//! Where lines end up, and who names users.

use std::{collections::VecDeque, io};

use palisade_world::{AlertSink, AlertSinkError, PasswdAnswer, PasswdCandidate, PasswdOf, PasswdReader, SinkHealth};
use serde::Deserialize;

use super::{
    kernel::Kernel,
    mutation::Mutation,
    policies::{Disk, digests},
};
use crate::{
    event::{Event, SECOND_NS, Said, Teller},
    random::Random,
};

/// The sink's name.
pub const SINK: &str = "file";
/// Answers that may wait to be asked for; more than a node has workloads.
const ANSWERS: usize = 256;

/// Batches that wait for a disk with room, in a sink that waits.
const BATCHES: usize = 8;
/// Looks at its health after which a sink gives up the batch in hand.
const PATIENCE: u32 = 3;

/// A file of alerts on the simulated disk. One that waits takes lines while its disk is full, writes them later, and says what it lost.
pub struct SimSink {
    name: String,
    teller: Teller,
    disk: Disk,
    mutation: Option<Mutation>,
    random: Random,
    waits: bool,
    waiting: VecDeque<Vec<u8>>,
    patience: u32,
    /// Its disk was full when it last tried.
    waited: bool,
    lost: u64,
}

impl SimSink {
    /// Opens it.
    #[must_use]
    pub fn open(
        number: u32,
        teller: Teller,
        disk: Disk,
        mutation: Option<Mutation>,
        mut random: Random,
        waits: bool,
    ) -> Self {
        let name = format!("{SINK} {number}");
        let random = random.child(&name);
        Self {
            name,
            teller,
            disk,
            mutation,
            random,
            waits,
            waiting: VecDeque::new(),
            patience: PATIENCE,
            waited: false,
            lost: 0,
        }
    }

    fn write_waiting(&mut self) {
        while !self.disk.is_full()
            && let Some(batch) = self.waiting.pop_front()
        {
            self.disk.append_lines(&self.name, &batch, self.waited);
            self.patience = PATIENCE;
        }
    }

    /// The batch in hand is given up.
    fn give_up(&mut self) {
        let Some(batch) = self.waiting.pop_front() else { return };
        let lines = batch.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.patience = PATIENCE;
        self.lost += lines;
        self.teller.tell(&Event::LinesLost(lines));
    }
}

/// What of a line is held against what happened.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfLine {
    time: u64,
    verdict: Option<String>,
    workload: OfWorkload,
    rule: Option<OfRule>,
    process_chain: Option<serde::de::IgnoredAny>,
    held_back_total: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfWorkload {
    container_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfRule {
    policy_name: String,
}

/// What a line says; `None` where it is no line of ours.
#[must_use]
pub fn said(line: &[u8]) -> Option<Said> {
    let line: OfLine = serde_json::from_slice(line).ok()?;
    Some(Said {
        // Only alerts have a chain of processes.
        record: line.process_chain.is_some().then_some(line.time % SECOND_NS),
        container: line.workload.container_id,
        policy: line.rule.map(|rule| rule.policy_name),
        denied: line.verdict.is_some_and(|verdict| verdict == "denied"),
        held_back: line.held_back_total.unwrap_or(0),
    })
}

impl AlertSink for SimSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, whole: &[u8]) -> Result<(), AlertSinkError> {
        assert!(self.mutation != Some(Mutation::PanicsByItself), "a fault of the sink");
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut said: Vec<Said> = lines.filter_map(said).collect();
        if self.mutation == Some(Mutation::SwallowsLines) && self.random.percent(20) {
            said.clear();
        }
        let taken = if self.waits { self.waiting.len() < BATCHES } else { !self.disk.is_full() };
        self.teller.tell(&Event::Lines { said, digests: digests(whole), taken });
        if taken {
            self.waited = self.disk.is_full() || !self.waiting.is_empty();
            self.waiting.push_back(whole.to_vec());
            self.write_waiting();
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::StorageFull, "injected: no space left");
        Err(AlertSinkError { sink: self.name.clone(), source })
    }

    fn health(&mut self) -> SinkHealth {
        self.write_waiting();
        if !self.waiting.is_empty() {
            self.patience -= 1;
            if self.patience == 0 {
                self.give_up();
            }
        }
        let lost = std::mem::take(&mut self.lost);
        SinkHealth {
            lost: if self.mutation == Some(Mutation::CountsNoLoss) { 0 } else { lost },
            takes_lines: Some(!self.disk.is_full()),
            ..SinkHealth::default()
        }
    }

    fn end(&mut self) -> u64 {
        self.write_waiting();
        self.waiting.iter().flatten().filter(|byte| **byte == b'\n').count() as u64
    }
}

/// Names of users: root, and nobody else; of a container as long as one of the processes is there by which its root is found.
pub struct SimPasswd {
    kernel: Kernel,
    answers: VecDeque<PasswdAnswer>,
}

impl SimPasswd {
    /// Of this machine.
    #[must_use]
    pub const fn new(kernel: Kernel) -> Self {
        Self { kernel, answers: VecDeque::new() }
    }

    fn has_root(&self, of: PasswdOf, candidates: &[PasswdCandidate]) -> bool {
        let PasswdOf::MountNamespace(namespace) = of else { return true };
        let living = self.kernel.listed();
        // A simulated process has one number for all its namespaces.
        living.iter().any(|process| {
            process.pid_namespace == namespace && candidates.contains(&(process.pid, process.start_ticks))
        })
    }
}

impl PasswdReader for SimPasswd {
    fn ask(&mut self, of: PasswdOf, candidates: &[PasswdCandidate]) -> bool {
        if self.answers.len() >= ANSWERS {
            return false;
        }
        let names = self.has_root(of, candidates).then(|| vec![(0, "root".to_owned())]);
        self.answers.push_back(PasswdAnswer { of, names });
        true
    }

    fn answer(&mut self) -> Option<PasswdAnswer> {
        self.answers.pop_front()
    }
}

//! Where lines end up, and who names users.

use std::{collections::VecDeque, io};

use palisade_world::{AlertSink, AlertSinkError, PasswdAnswer, PasswdCandidate, PasswdOf, PasswdReader, SinkHealth};
use serde::Deserialize;

use super::{mutation::Mutation, policies::Disk};
use crate::{
    event::{Event, SECOND_NS, Said, Teller},
    random::Random,
};

/// The sink's name.
pub const SINK: &str = "file";
/// Answers that may wait to be asked for; more than a node has workloads.
const ANSWERS: usize = 256;

/// A file of alerts on the simulated disk.
pub struct SimSink {
    name: String,
    teller: Teller,
    disk: Disk,
    mutation: Option<Mutation>,
    random: Random,
}

impl SimSink {
    /// Opens it.
    #[must_use]
    pub fn open(number: u32, teller: Teller, disk: Disk, mutation: Option<Mutation>, random: Random) -> Self {
        Self { name: format!("{SINK} {number}"), teller, disk, mutation, random }
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

    fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
        assert!(self.mutation != Some(Mutation::PanicsByItself), "a fault of the sink");
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut said: Vec<Said> = lines.filter_map(said).collect();
        if self.mutation == Some(Mutation::SwallowsLines) && self.random.percent(20) {
            said.clear();
        }
        let taken = !self.disk.is_full();
        self.teller.tell(&Event::Lines { said, taken });
        if taken {
            return Ok(());
        }
        let source = io::Error::new(io::ErrorKind::StorageFull, "injected: no space left");
        Err(AlertSinkError { sink: self.name.clone(), source })
    }

    fn health(&mut self) -> SinkHealth {
        SinkHealth { takes_lines: Some(!self.disk.is_full()), ..SinkHealth::default() }
    }
}

/// Names of users: root, and nobody else.
#[derive(Default)]
pub struct SimPasswd {
    answers: VecDeque<PasswdAnswer>,
}

impl PasswdReader for SimPasswd {
    fn ask(&mut self, of: PasswdOf, _: &[PasswdCandidate]) -> bool {
        if self.answers.len() >= ANSWERS {
            return false;
        }
        self.answers.push_back(PasswdAnswer { of, names: Some(vec![(0, "root".to_owned())]) });
        true
    }

    fn answer(&mut self) -> Option<PasswdAnswer> {
        self.answers.pop_front()
    }
}

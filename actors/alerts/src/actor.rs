//! The shell: writes alerts to the sinks and to who listens.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use actix::{Actor, Handler, MessageResult};
use palisade_domain::Alert;
use palisade_protocol::{
    AlertCounts, AlertCountsOf, AlertStream, PolicyInstalled, ProcessesListed, RecordsRead, SubscribeAlerts,
    WorkloadNamed,
};
use palisade_supervision::Context;
use palisade_world::{AlertSink, Clock};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{compose, state::State};

/// Past alerts kept for new listeners: a screen or two for a person, about half a megabyte.
pub const RECENT: usize = 1024;
/// Listeners at a time; the admin endpoint bounds its connections to about as many.
pub const LISTENERS: usize = 64;
/// Lines that a listener may be behind: the past ones, and as many again.
pub const LISTENER_LINES: usize = 2 * RECENT;

/// What alerts need of the world.
pub struct Wiring {
    /// Where lines go.
    pub sinks: Vec<Box<dyn AlertSink>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// See the crate's doc.
pub struct Alerts {
    state: State,
    wiring: Wiring,
    recent: VecDeque<Arc<str>>,
    listeners: Vec<mpsc::Sender<Arc<str>>>,
    unwritten: BTreeMap<String, u64>,
    missed: u64,
    /// Reused for every batch.
    alerts: Vec<Alert>,
    lines: Vec<u8>,
}

impl Alerts {
    /// Alerts of the node of this name.
    #[must_use]
    pub fn new(node: String, wiring: Wiring) -> Self {
        Self {
            state: State::new(node),
            wiring,
            recent: VecDeque::with_capacity(RECENT),
            listeners: Vec::new(),
            unwritten: BTreeMap::new(),
            missed: 0,
            alerts: Vec::new(),
            lines: Vec::new(),
        }
    }

    fn publish(&mut self) {
        self.lines.clear();
        let count = self.alerts.len() as u64;
        for alert in self.alerts.drain(..) {
            let line: Arc<str> = Arc::from(compose::line(&alert));
            self.lines.extend_from_slice(line.as_bytes());
            self.listeners.retain(|listener| match listener.try_send(Arc::clone(&line)) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    self.missed += 1;
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            });
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back(line);
        }
        for sink in &mut self.wiring.sinks {
            if let Err(error) = sink.append(&self.lines) {
                tracing::error!(%error, alerts = count, "alerts not written");
                *self.unwritten.entry(sink.name().to_owned()).or_default() += count;
            }
        }
    }
}

impl Actor for Alerts {
    type Context = Context<Self>;
}

impl Handler<RecordsRead> for Alerts {
    type Result = ();

    fn handle(&mut self, message: RecordsRead, ctx: &mut Self::Context) {
        ctx.at_stake(u64::from(message.batch.records));
        let unix_minus_boot = self.wiring.clock.unix().0.saturating_sub(self.wiring.clock.boot().0);
        self.state.read(&message.batch, unix_minus_boot, &mut self.alerts);
        if !self.alerts.is_empty() {
            self.publish();
        }
    }
}

impl Handler<PolicyInstalled> for Alerts {
    type Result = ();

    fn handle(&mut self, message: PolicyInstalled, _: &mut Self::Context) {
        self.state.installed(&message);
    }
}

impl Handler<WorkloadNamed> for Alerts {
    type Result = ();

    fn handle(&mut self, message: WorkloadNamed, _: &mut Self::Context) {
        self.state.named(message);
    }
}

impl Handler<ProcessesListed> for Alerts {
    type Result = ();

    fn handle(&mut self, message: ProcessesListed, _: &mut Self::Context) {
        message.processes.into_iter().for_each(|process| self.state.listed(process));
    }
}

impl Handler<SubscribeAlerts> for Alerts {
    type Result = MessageResult<SubscribeAlerts>;

    fn handle(&mut self, message: SubscribeAlerts, _: &mut Self::Context) -> Self::Result {
        let (lines, stream) = mpsc::channel(LISTENER_LINES);
        for line in self.recent.iter().skip(self.recent.len().saturating_sub(message.recent)) {
            // LISTENER_LINES is more than RECENT: they fit.
            let _ = lines.try_send(Arc::clone(line));
        }
        self.listeners.retain(|listener| !listener.is_closed());
        if message.follow && self.listeners.len() < LISTENERS {
            self.listeners.push(lines);
        }
        // Without a kept sender the stream ends after the past lines.
        MessageResult(AlertStream { lines: stream })
    }
}

impl Handler<AlertCountsOf> for Alerts {
    type Result = MessageResult<AlertCountsOf>;

    fn handle(&mut self, _: AlertCountsOf, _: &mut Self::Context) -> Self::Result {
        let counts =
            AlertCounts { unwritten: self.unwritten.clone(), missed_by_listeners: self.missed, ..self.state.counts() };
        MessageResult(counts)
    }
}

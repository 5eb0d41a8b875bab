//! The shell: writes alerts to the sinks and to who listens.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{Actor, AsyncContext as _, Handler, MessageResult};
use palisade_domain::Alert;
use palisade_protocol::{
    AlertCounts, AlertCountsOf, AlertStream, ConditionReported, PolicyAnnounced, PolicyInstalled, ProcessListed,
    RecordsRead, SubscribeAlerts, WorkloadNamed,
};
use palisade_supervision::{Context, Kept, Outbox};
use palisade_world::{AlertSink, Clock};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    compose,
    sinks::Sinks,
    state::{Names, State},
};

/// The condition's name.
pub const CONDITION: &str = "alerts";
/// Past alerts kept for new listeners: a screen or two for a person, about half a megabyte.
pub const RECENT: usize = 1024;
/// Bytes that they take at most: chains of long command lines make a line of tens of kilobytes.
pub const RECENT_BYTES: usize = 4 << 20;
/// How often the sinks are asked how they are, and the condition is said.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Listeners at a time; the admin endpoint bounds its connections to about as many.
pub const LISTENERS: usize = 64;
/// Lines that a listener may be behind: the past ones, and as many again.
pub const LISTENER_LINES: usize = 2 * RECENT;

/// What alerts need of the world.
pub struct Wiring {
    /// Where lines go. None of them may block: see `palisade_sinks::Queued`.
    pub sinks: Vec<Box<dyn AlertSink>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// See the crate's doc.
pub struct Alerts {
    state: State,
    sinks: Sinks,
    conditions: Outbox<ConditionReported>,
    clock: Arc<dyn Clock>,
    recent: VecDeque<Arc<str>>,
    recent_bytes: usize,
    listeners: Vec<mpsc::Sender<Arc<str>>>,
    missed: u64,
    /// Reused for every batch.
    alerts: Vec<Alert>,
    lines: Vec<u8>,
}

impl Alerts {
    /// Alerts of the node of this name, with what earlier ones heard of names, and the processes that run already.
    #[must_use]
    pub fn new(node: String, wiring: Wiring, names: Kept<Names>, processes: Vec<ProcessListed>) -> Self {
        let mut state = State::knowing(node, names);
        processes.into_iter().for_each(|process| state.listed(process));
        Self {
            state,
            sinks: Sinks::new(wiring.sinks),
            conditions: wiring.conditions,
            clock: wiring.clock,
            recent: VecDeque::with_capacity(RECENT),
            recent_bytes: 0,
            listeners: Vec::new(),
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
            self.recent_bytes += line.len();
            self.recent.push_back(line);
            while self.recent.len() > RECENT || self.recent_bytes > RECENT_BYTES {
                let Some(oldest) = self.recent.pop_front() else { break };
                self.recent_bytes -= oldest.len();
            }
        }
        self.sinks.write(&self.lines, count);
    }

    fn look(&mut self) {
        self.sinks.look();
        let report = ConditionReported { name: CONDITION.into(), condition: Some(self.sinks.condition()) };
        // A report that finds no room is superseded by the next one, in a second.
        let _ = self.conditions.try_send(report);
    }
}

impl Actor for Alerts {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look();
        ctx.run_interval(LOOK_EVERY, |alerts, _| alerts.look());
    }
}

impl Handler<RecordsRead> for Alerts {
    type Result = ();

    fn handle(&mut self, message: RecordsRead, ctx: &mut Self::Context) {
        ctx.at_stake(u64::from(message.batch.records));
        let unix_minus_boot = self.clock.unix().0.saturating_sub(self.clock.boot().0);
        self.state.read(&message.batch, unix_minus_boot, &mut self.alerts);
        if !self.alerts.is_empty() {
            self.publish();
        }
    }
}

impl Handler<PolicyAnnounced> for Alerts {
    type Result = ();

    fn handle(&mut self, message: PolicyAnnounced, _: &mut Self::Context) {
        self.state.announced(&message);
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

impl Handler<SubscribeAlerts> for Alerts {
    type Result = MessageResult<SubscribeAlerts>;

    fn handle(&mut self, message: SubscribeAlerts, _: &mut Self::Context) -> Self::Result {
        let (lines, stream) = mpsc::channel(LISTENER_LINES);
        for line in self.recent.iter().skip(self.recent.len().saturating_sub(message.recent)) {
            // LISTENER_LINES is more than RECENT: they fit.
            let _ = lines.try_send(Arc::clone(line));
        }
        self.listeners.retain(|listener| !listener.is_closed());
        let follows = message.follow && self.listeners.len() < LISTENERS;
        if follows {
            self.listeners.push(lines);
        }
        // Without a kept sender the stream ends after the past lines.
        MessageResult(AlertStream { lines: stream, follows })
    }
}

impl Handler<AlertCountsOf> for Alerts {
    type Result = MessageResult<AlertCountsOf>;

    fn handle(&mut self, _: AlertCountsOf, _: &mut Self::Context) -> Self::Result {
        self.sinks.look();
        MessageResult(AlertCounts {
            unwritten: self.sinks.unwritten(),
            missed_by_listeners: self.missed,
            ..self.state.counts()
        })
    }
}

//! The shell: writes lines to the sinks and to who listens.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, AsyncContext as _, Handler, Message, MessageResult};
use palisade_domain::Line;
use palisade_protocol::{
    AlertCounts, AlertCountsOf, AlertStream, Condition, ConditionReported, DevicesJudged, LineClass, PolicyAnnounced,
    PolicyInstalled, ProcessListed, ProcessesOf, RecordsRead, SetVisibility, SubscribeAlerts, UserNamesRead,
    VisibilityChanged, WorkloadNamed,
};
use palisade_supervision::{Context, Kept, Outbox};
use palisade_world::{AlertSink, Clock, PasswdReader};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    compose,
    sinks::Sinks,
    state::{Names, Settings, State},
    throttle::Limit,
};

/// The condition's name.
pub const CONDITION: &str = "alerts";
/// The condition of the sinks of logs, where there are any.
pub const LOG_CONDITION: &str = "logs";
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
/// Bytes that all listeners together may be behind, as each line is kept once: as many lines of tens of kilobytes. What a slow one holds
/// back of them the others miss, counted, when a workload makes its lines that long.
pub const LISTENER_BYTES: usize = 32 << 20;
/// Text that is handed to the sinks at a time, in bytes; a batch of records may come to a hundred times as much.
const TEXT_BYTES: usize = 1 << 20;

/// What alerts need of the world.
pub struct Wiring {
    /// Where alerts go. None of them may block: see `palisade_sinks::Queued`.
    pub sinks: Vec<Box<dyn AlertSink>>,
    /// Where logs go; none are made for nobody.
    pub log_sinks: Vec<Box<dyn AlertSink>>,
    /// Names of users.
    pub passwd: Box<dyn PasswdReader>,
    /// Who records with which names lines are made; nobody where nothing is recorded.
    pub users: Option<Outbox<UserNamesRead>>,
    /// Who keeps conditions.
    pub conditions: Outbox<ConditionReported>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Lines go here from now on; a sink of a name that they go to already goes on as it is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetSinks {
    /// As [`Wiring::sinks`].
    pub sinks: Vec<Box<dyn AlertSink>>,
    /// As [`Wiring::log_sinks`].
    pub log_sinks: Vec<Box<dyn AlertSink>>,
}

/// When alerts of one workload are too many from now on; `None`: never.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct SetThrottle(pub Option<Limit>);

/// Who follows, and what.
struct Listener {
    class: LineClass,
    missed: Arc<AtomicU64>,
    lines: mpsc::Sender<Arc<str>>,
}

/// See the crate's doc.
pub struct Alerts {
    state: State,
    sinks: Sinks,
    log_sinks: Sinks,
    passwd: Box<dyn PasswdReader>,
    users: Option<Outbox<UserNamesRead>>,
    conditions: Outbox<ConditionReported>,
    clock: Arc<dyn Clock>,
    recent: VecDeque<Arc<str>>,
    recent_bytes: usize,
    listeners: Vec<Listener>,
    behind: Behind,
    missed: u64,
    /// Reused for every batch, like the next two.
    lines: Vec<Line>,
    alert_text: Vec<u8>,
    log_text: Vec<u8>,
}

/// The lines that listeners may still have before them, oldest first: those before the first that somebody holds are gone.
#[derive(Default)]
struct Behind {
    lines: VecDeque<(Weak<str>, usize)>,
    bytes: usize,
}

impl Behind {
    /// Whether a line more is within [`LISTENER_BYTES`]; then it is one of them.
    fn takes(&mut self, line: &Arc<str>) -> bool {
        while let Some((oldest, bytes)) = self.lines.front()
            && oldest.strong_count() == 0
        {
            self.bytes -= bytes;
            self.lines.pop_front();
        }
        let takes = self.bytes + line.len() <= LISTENER_BYTES;
        if takes {
            self.bytes += line.len();
            self.lines.push_back((Arc::downgrade(line), line.len()));
        }
        takes
    }
}

/// Hands over what there is, and keeps no more room for it than the next text needs.
fn write(text: &mut Vec<u8>, count: &mut u64, sinks: &mut Sinks) {
    if *count > 0 {
        sinks.write(text, *count);
    }
    *count = 0;
    text.clear();
    text.shrink_to(2 * TEXT_BYTES);
}

impl Alerts {
    /// Alerts of a node, with what earlier ones heard of names, and the processes that run already.
    #[must_use]
    pub fn new(settings: Settings, wiring: Wiring, names: Kept<Names>, processes: Vec<ProcessListed>) -> Self {
        let mut state = State::knowing(settings, names);
        processes.into_iter().for_each(|process| state.listed(process));
        let mut alerts = Self {
            state,
            sinks: Sinks::new("alerts", wiring.sinks),
            log_sinks: Sinks::new("logs", wiring.log_sinks),
            passwd: wiring.passwd,
            users: wiring.users,
            conditions: wiring.conditions,
            clock: wiring.clock,
            recent: VecDeque::with_capacity(RECENT),
            recent_bytes: 0,
            listeners: Vec::new(),
            behind: Behind::default(),
            missed: 0,
            lines: Vec::new(),
            alert_text: Vec::new(),
            log_text: Vec::new(),
        };
        alerts.listeners_changed();
        alerts
    }

    /// Those that have gone are forgotten; logs are made while somebody wants them.
    fn listeners_changed(&mut self) {
        self.listeners.retain(|listener| !listener.lines.is_closed());
        let wanted = !self.log_sinks.is_empty() || self.listeners.iter().any(|listener| listener.class.logs());
        self.state.want_logs(wanted);
    }

    fn publish(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let (mut alerts, mut logs) = (0, 0);
        for line in std::mem::take(&mut self.lines) {
            let text = compose::line(&line);
            let is_log = matches!(line, Line::Log(_));
            let (buffer, count, sinks) = if is_log {
                (&mut self.log_text, &mut logs, &mut self.log_sinks)
            } else {
                (&mut self.alert_text, &mut alerts, &mut self.sinks)
            };
            buffer.extend_from_slice(text.as_bytes());
            *count += 1;
            if buffer.len() >= TEXT_BYTES {
                write(buffer, count, sinks);
            }
            self.tell(is_log, text);
        }
        write(&mut self.alert_text, &mut alerts, &mut self.sinks);
        write(&mut self.log_text, &mut logs, &mut self.log_sinks);
    }

    /// To who follows, and to who comes later.
    fn tell(&mut self, is_log: bool, text: String) {
        let wants = |listener: &Listener| if is_log { listener.class.logs() } else { listener.class.alerts() };
        if is_log && !self.listeners.iter().any(wants) {
            return;
        }
        let line: Arc<str> = Arc::from(text);
        let fits = !self.listeners.iter().any(wants) || self.behind.takes(&line);
        let missed = &mut self.missed;
        self.listeners.retain(|listener| {
            if !wants(listener) {
                return true;
            }
            let mut miss = || {
                *missed += 1;
                listener.missed.fetch_add(1, Ordering::Relaxed);
            };
            if !fits {
                miss();
                return !listener.lines.is_closed();
            }
            let sent = listener.lines.try_send(Arc::clone(&line));
            if matches!(sent, Err(TrySendError::Full(_))) {
                miss();
            }
            !matches!(sent, Err(TrySendError::Closed(_)))
        });
        if is_log {
            return;
        }
        self.recent_bytes += line.len();
        self.recent.push_back(line);
        while self.recent.len() > RECENT || self.recent_bytes > RECENT_BYTES {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= oldest.len();
        }
    }

    /// Hands on what is asked about users, and takes what is answered.
    fn look_users_up(&mut self) {
        while let Some(answer) = self.passwd.answer() {
            if let (Some(recorder), Some(slot)) = (&self.users, self.state.slot_of(answer.of)) {
                // A recorder without room has lines without these names.
                let _ = recorder.try_send(UserNamesRead { slot, answer: answer.clone() });
            }
            self.state.answered(answer);
        }
        for (of, candidates) in self.state.asks() {
            if !self.passwd.ask(of, &candidates) {
                self.state.refused(of);
            }
        }
    }

    fn unix_minus_boot_ns(&self) -> u64 {
        self.clock.unix().0.saturating_sub(self.clock.boot().0)
    }

    fn look(&mut self) {
        self.listeners_changed();
        self.look_users_up();
        let boot_ns = self.clock.boot().0;
        self.state.tick(boot_ns, self.unix_minus_boot_ns(), &mut self.lines);
        self.publish();
        self.sinks.look();
        self.report(CONDITION, self.sinks.condition());
        self.log_sinks.look();
        if !self.log_sinks.is_empty() {
            self.report(LOG_CONDITION, self.log_sinks.condition());
        }
    }

    fn report(&self, name: &str, condition: Condition) {
        // A report that finds no room is superseded by the next one, in a second.
        let _ = self.conditions.try_send(ConditionReported { name: name.to_owned(), condition: Some(condition) });
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
        self.look_users_up();
        palisade_world::fault_point("alerts: before a batch");
        self.state.read(&message.batch, self.unix_minus_boot_ns(), &mut self.lines);
        self.look_users_up();
        self.publish();
    }
}

impl Handler<DevicesJudged> for Alerts {
    type Result = ();

    fn handle(&mut self, message: DevicesJudged, _: &mut Self::Context) {
        let unix_minus_boot_ns = self.unix_minus_boot_ns();
        for judged in &message.judged {
            self.state.device(judged, unix_minus_boot_ns, &mut self.lines);
        }
        self.publish();
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

impl Handler<VisibilityChanged> for Alerts {
    type Result = ();

    fn handle(&mut self, message: VisibilityChanged, _: &mut Self::Context) {
        self.state.visible(&message);
    }
}

impl Handler<SetSinks> for Alerts {
    type Result = ();

    fn handle(&mut self, message: SetSinks, _: &mut Self::Context) {
        let logged = !self.log_sinks.is_empty();
        self.sinks.replace(message.sinks);
        self.log_sinks.replace(message.log_sinks);
        if logged && self.log_sinks.is_empty() {
            // Nobody speaks of them any more; one that finds no room stays as it was last said.
            let _ = self.conditions.try_send(ConditionReported { name: LOG_CONDITION.to_owned(), condition: None });
        }
        self.look();
    }
}

impl Handler<SetThrottle> for Alerts {
    type Result = ();

    fn handle(&mut self, message: SetThrottle, _: &mut Self::Context) {
        self.state.set_throttle(message.0);
        self.look();
    }
}

impl Handler<SetVisibility> for Alerts {
    type Result = ();

    fn handle(&mut self, message: SetVisibility, _: &mut Self::Context) {
        self.state.see_by_default(message.visibility);
    }
}

impl Handler<SubscribeAlerts> for Alerts {
    type Result = MessageResult<SubscribeAlerts>;

    fn handle(&mut self, message: SubscribeAlerts, _: &mut Self::Context) -> Self::Result {
        let (lines, stream) = mpsc::channel(LISTENER_LINES);
        let recent = if message.class.alerts() { message.recent } else { 0 };
        for line in self.recent.iter().skip(self.recent.len().saturating_sub(recent)) {
            // LISTENER_LINES is more than RECENT: they fit.
            let _ = lines.try_send(Arc::clone(line));
        }
        self.listeners_changed();
        let follows = message.follow && self.listeners.len() < LISTENERS;
        let missed = Arc::<AtomicU64>::default();
        if follows {
            self.listeners.push(Listener { class: message.class, missed: Arc::clone(&missed), lines });
            self.listeners_changed();
        }
        // Without a kept sender the stream ends after the past lines.
        MessageResult(AlertStream { lines: stream, missed, follows })
    }
}

impl Handler<AlertCountsOf> for Alerts {
    type Result = MessageResult<AlertCountsOf>;

    fn handle(&mut self, _: AlertCountsOf, _: &mut Self::Context) -> Self::Result {
        self.sinks.look();
        self.log_sinks.look();
        let mut unwritten = self.sinks.unwritten();
        unwritten.extend(self.log_sinks.unwritten().into_iter().map(|(sink, count)| (format!("logs {sink}"), count)));
        MessageResult(AlertCounts { unwritten, missed_by_listeners: self.missed, ..self.state.counts() })
    }
}

impl Handler<ProcessesOf> for Alerts {
    type Result = MessageResult<ProcessesOf>;

    fn handle(&mut self, message: ProcessesOf, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.state.processes_of(message.slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_alerts_listeners_hold_bounded_bytes_however_long_lines_are_and_room_comes_with_what_they_read() {
        let mut behind = Behind::default();
        let line = || -> Arc<str> { Arc::from("x".repeat(LISTENER_BYTES / 4)) };
        let mut held: VecDeque<Arc<str>> = VecDeque::new();
        for _ in 0..4 {
            let line = line();
            assert!(behind.takes(&line));
            held.push_back(line);
        }
        assert!(!behind.takes(&line()), "a slow listener has as much before it as there may be");
        held.pop_front();
        assert!(behind.takes(&line()), "it read one");
        // That one nobody kept: it was sent to nobody who holds it, but stands behind what is held.
        assert!(!behind.takes(&line()));
        held.clear();
        assert!(behind.takes(&line()));
        assert_eq!((behind.lines.len(), behind.bytes), (1, LISTENER_BYTES / 4));
    }
}

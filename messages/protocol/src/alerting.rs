//! Alerts, and who listens to them.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicU64},
};

use actix::Message;
use palisade_domain::{Slot, Verdict};
use tokio::sync::mpsc;

/// Which lines are meant; KubeArmor's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LineClass {
    /// Alerts, and what was held back of them.
    #[default]
    Policy,
    /// Logs: what visibility asked for. None are made while nobody wants them, and past ones are not kept.
    System,
    /// Both.
    All,
}

impl LineClass {
    /// Whether alerts are meant.
    #[must_use]
    pub const fn alerts(self) -> bool {
        matches!(self, Self::Policy | Self::All)
    }

    /// Whether logs are meant.
    #[must_use]
    pub const fn logs(self) -> bool {
        matches!(self, Self::System | Self::All)
    }
}

/// Hear the last `recent` alerts and, if asked, the lines of `class` from now on.
#[derive(Debug, Message)]
#[rtype(result = "AlertStream")]
pub struct SubscribeAlerts {
    /// Which lines.
    pub class: LineClass,
    /// How many past alerts to begin with, at most what is kept.
    pub recent: usize,
    /// Go on after them.
    pub follow: bool,
}

/// The listener's end. A listener that does not keep up loses lines; how many is counted in [`AlertCounts::missed_by_listeners`].
#[derive(Debug)]
pub struct AlertStream {
    /// JSON lines, each ending in `\n`.
    pub lines: mpsc::Receiver<Arc<str>>,
    /// How many lines this listener missed since it last took the number away.
    pub missed: Arc<AtomicU64>,
    /// Whether those from now on follow; not asked for, or too many follow already.
    pub follows: bool,
}

/// How many alerts there were.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "AlertCounts")]
pub struct AlertCountsOf;

/// Answer to [`AlertCountsOf`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertCounts {
    /// By verdict.
    pub raised: BTreeMap<Verdict, u64>,
    /// Alerts that were not said, since their workload raised too many; they are among the raised.
    pub held_back: BTreeMap<Verdict, u64>,
    /// Logs made.
    pub logs: u64,
    /// Lines that a sink did not take, by sink.
    pub unwritten: BTreeMap<String, u64>,
    /// Lines that slow listeners missed.
    pub missed_by_listeners: u64,
    /// Decisions whose rule is no longer known (older generation than what is kept).
    pub unattributed: u64,
    /// Records with a field that cannot be; none of them is acted on.
    pub malformed: u64,
    /// Processes in the table now.
    pub processes: u64,
    /// Processes that were forgotten early since the table was full.
    pub forgotten: u64,
    /// Of each slot that had an event, since its workload was named.
    pub by_slot: BTreeMap<Slot, SlotCounts>,
}

/// What one workload did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// Its kernel records.
    pub events: u64,
    /// Its alerts by verdict.
    pub raised: BTreeMap<Verdict, u64>,
}

//! The live tree as plain serialisable values.
//!
//! Invariant: reading takes no message and no turn of any actor, so the tree can be read while an actor, or the thread of
//! the supervisors, is stuck. Decision: readings of shared counters, not a query to the supervisors, for that reason.

use crate::{
    gate::{Gate, MailCounts},
    policy::{Restart, Strategy},
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// What a node of the tree does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Not started yet.
    Declared,
    /// Told to start.
    Starting,
    /// Serves.
    Running,
    /// Failed; comes back after its backoff or when its group does.
    BackingOff,
    /// Told to stop.
    Stopping,
    /// Stopped as asked.
    Stopped,
    /// Over by its own restart policy.
    Finished,
    /// Did not stop by its deadline.
    Abandoned,
    /// A supervisor that gave up.
    GaveUp,
}

/// Supervisor or actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// With the strategy by which its children share their fate.
    Supervisor(Strategy),
    /// With the name of its type.
    Actor(String),
}

/// The mail of one actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mail {
    /// Most messages that may wait.
    pub capacity: u64,
    /// Messages waiting.
    pub depth: u64,
    /// The largest depth ever.
    pub high_water: u64,
    /// Messages handled since the beginning.
    pub handled: u64,
    /// Messages handled a second, since the reading before (at least a second ago) or, first, since the start.
    pub handled_per_second: f64,
    /// Messages refused or displaced for want of room.
    pub shed: u64,
    /// Messages replaced by a newer one of the same key.
    pub coalesced: u64,
    /// Questions skipped because their asker had gone.
    pub expired: u64,
    /// Messages lost in panics.
    pub lost_panic: u64,
    /// Records in those messages.
    pub lost_panic_records: u64,
    /// Messages that were queued when the mailbox closed.
    pub lost_closed: u64,
}

/// One supervisor or actor with everything below it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Unique among its siblings.
    pub name: String,
    /// Supervisor or actor.
    pub kind: Kind,
    /// What it does now.
    pub state: State,
    /// Its restart policy; none for the root.
    pub restart: Option<Restart>,
    /// Where it runs.
    pub place: String,
    /// Its incarnation; 0 before the first.
    pub generation: u64,
    /// Milliseconds since its start was acknowledged, while it runs.
    pub uptime_ms: Option<u64>,
    /// Times it was started again.
    pub restarts: u64,
    /// How its last failure came about, in words.
    pub last_error: Option<String>,
    /// Its mailbox; none for supervisors.
    pub mail: Option<Mail>,
    /// Children in order of declaration.
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    /// The node at a path of names below this one, `[]` being itself.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        match path.split_first() {
            None => Some(self),
            Some((name, rest)) => self.children.iter().find(|child| child.name == *name)?.at(rest),
        }
    }

    /// Calls `visit` for this node and all below, parents first, with the depth.
    pub fn walk(&self, visit: &mut impl FnMut(usize, &Self)) {
        self.walk_from(0, visit);
    }

    fn walk_from(&self, depth: usize, visit: &mut impl FnMut(usize, &Self)) {
        visit(depth, self);
        for child in &self.children {
            child.walk_from(depth + 1, visit);
        }
    }
}

/// The shared source of one [`TreeNode`].
pub(crate) struct Vitals {
    name: Arc<str>,
    gate: Option<Arc<Gate>>,
    live: Mutex<Live>,
}

struct Live {
    kind: Kind,
    restart: Option<Restart>,
    place: String,
    state: State,
    generation: u64,
    since: Option<Instant>,
    last_error: Option<String>,
    rate: Option<Sample>,
    children: Vec<Arc<Vitals>>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    handled: u64,
    per_second: f64,
}

/// A shorter interval between readings would make the rate jump.
const SHORTEST_SAMPLE: Duration = Duration::from_secs(1);

impl Vitals {
    pub(crate) fn new(name: Arc<str>, kind: Kind, gate: Option<Arc<Gate>>) -> Arc<Self> {
        let live = Live {
            kind,
            restart: None,
            place: String::new(),
            state: State::Declared,
            generation: 0,
            since: None,
            last_error: None,
            rate: None,
            children: Vec::new(),
        };
        Arc::new(Self { name, gate, live: Mutex::new(live) })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settle_in(&self, place: &str, restart: Option<Restart>) {
        let mut live = self.live();
        live.place = place.to_owned();
        live.restart = restart;
    }
    pub(crate) fn supervises_by(&self, strategy: Strategy) {
        self.live().kind = Kind::Supervisor(strategy);
    }
    pub(crate) fn starting(&self, generation: u64) {
        let mut live = self.live();
        live.state = State::Starting;
        live.generation = generation;
        live.since = None;
    }
    pub(crate) fn running(&self, now: Instant) {
        let mut live = self.live();
        live.state = State::Running;
        live.since = Some(now);
        live.rate.get_or_insert(Sample { at: now, handled: 0, per_second: 0.0 });
    }
    pub(crate) fn becomes(&self, state: State) {
        let mut live = self.live();
        live.state = state;
        if state != State::Stopping {
            live.since = None;
        }
    }
    pub(crate) fn failed(&self, why: String) {
        self.live().last_error = Some(why);
    }
    pub(crate) fn last_error(&self) -> Option<String> {
        self.live().last_error.clone()
    }
    /// The supervisor closes the mailbox itself, so that nothing is let in after it has said that the child is over.
    pub(crate) fn close_mail(&self) {
        if let Some(gate) = &self.gate {
            gate.close();
        }
    }
    pub(crate) fn open_mail(&self) {
        if let Some(gate) = &self.gate {
            gate.open();
        }
    }
    pub(crate) fn adopt(&self, child: Arc<Self>) {
        self.live().children.push(child);
    }
    pub(crate) fn disown(&self, child: &Arc<Self>) {
        self.live().children.retain(|other| !Arc::ptr_eq(other, child));
    }

    pub(crate) fn read(&self, now: Instant) -> TreeNode {
        let counts = self.gate.as_ref().map(|gate| gate.counts());
        let (mut node, children) = {
            let mut live = self.live();
            let mail = counts.map(|counts| mail(counts, rate(&mut live, counts.handled, now)));
            (self.node(&live, mail, now), live.children.clone())
        };
        node.children = children.iter().map(|child| child.read(now)).collect();
        node
    }

    fn node(&self, live: &Live, mail: Option<Mail>, now: Instant) -> TreeNode {
        TreeNode {
            name: self.name.to_string(),
            kind: live.kind.clone(),
            state: live.state,
            restart: live.restart,
            place: live.place.clone(),
            generation: live.generation,
            uptime_ms: live
                .since
                .map(|since| u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)),
            restarts: live.generation.saturating_sub(1),
            last_error: live.last_error.clone(),
            mail,
            children: Vec::new(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people; exact up to 2^53 messages")]
fn rate(live: &mut Live, handled: u64, now: Instant) -> f64 {
    let Some(sample) = live.rate else { return 0.0 };
    let elapsed = now.saturating_duration_since(sample.at);
    if elapsed < SHORTEST_SAMPLE {
        return sample.per_second;
    }
    let per_second = handled.saturating_sub(sample.handled) as f64 / elapsed.as_secs_f64();
    live.rate = Some(Sample { at: now, handled, per_second });
    per_second
}

fn mail(counts: MailCounts, handled_per_second: f64) -> Mail {
    Mail {
        capacity: counts.capacity,
        depth: counts.queued,
        high_water: counts.high_water,
        handled: counts.handled,
        handled_per_second,
        shed: counts.shed,
        coalesced: counts.coalesced,
        expired: counts.expired,
        lost_panic: counts.lost_panic,
        lost_panic_records: counts.lost_panic_records,
        lost_closed: counts.lost_closed,
    }
}

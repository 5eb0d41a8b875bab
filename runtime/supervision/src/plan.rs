//! What a supervisor does next, as a pure machine: inputs (a start was acknowledged, a child exited, time passed)
//! go in, [`Step`]s come out. No actor, no clock, no I/O; the supervisor's task only carries the steps out.
//!
//! Invariants (held by the property tests beside this file):
//! - *Ordered*: while starting up or shutting down, and always under rest-for-one and one-for-all, at most one start
//!   or stop is in progress; starts go in declaration order, stops in reverse; no start while a stop is owed.
//! - Under one-for-one, children that are already up are independent: one child's backoff or slow stop delays nobody.
//! - A generation number is used once; an exit or acknowledgement of another generation changes nothing.
//! - Every `Boot` is answered by one `Booted` or one `GaveUp`; every `Halt` by one `Halted`.
//!
//! Time is the `Duration` since the supervisor's own epoch. Decision: *wanted state plus reconciliation*, not a list of
//! steps to work off, because failures overlap (a child dies while its group is being restarted) and a list would have
//! to be merged; a reconciler only looks at what is and what should be.

use crate::policy::{Backoff, ExitKind, Intensity, Jitter, Restart, Strategy};
use std::{collections::VecDeque, time::Duration};

/// A child's number within its supervisor; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildId(pub u64);

/// What the machine must know of a child.
#[derive(Debug, Clone, Copy)]
pub struct ChildRules {
    /// Which exits lead to a restart.
    pub restart: Restart,
    /// A start that is not acknowledged by then has failed.
    pub start_deadline: Duration,
    /// A stop that is not acknowledged by then leaves the child behind.
    pub stop_deadline: Duration,
}

/// Where a child is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not running; it may be waiting for its turn or its backoff.
    Down,
    /// Told to start, not yet acknowledged.
    Starting {
        /// When patience ends.
        deadline: Duration,
    },
    /// Acknowledged.
    Up {
        /// When it acknowledged.
        since: Duration,
    },
    /// Told to stop, not yet acknowledged.
    Stopping {
        /// When patience ends.
        deadline: Duration,
    },
    /// Ended for good by its own policy; only a new boot of the supervisor brings it back.
    Finished,
    /// Did not acknowledge its stop in time.
    Abandoned,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Input {
    /// Start everything, in order, with a clean history.
    Boot,
    /// A child of this generation acknowledged its start.
    Started(ChildId, u64),
    /// A child of this generation ended.
    Exited(ChildId, u64, ExitKind),
    /// A dynamic child is to be stopped and forgotten.
    Remove(ChildId),
    /// Stop everything, in reverse order.
    Halt,
    /// Time passed.
    Wake,
}

/// What to do now, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Build and start this generation.
    Start(ChildId, u64),
    /// Ask this generation to stop.
    Stop(ChildId, u64),
    /// Drop this generation without its consent.
    Kill(ChildId, u64),
    /// The child did not stop by its deadline: name it.
    Abandoned(ChildId),
    /// The child did not start by its deadline: name it.
    StartTimedOut(ChildId),
    /// The child failed and comes back after this delay.
    Restarting(ChildId, Duration),
    /// The child is over by its own policy: refuse its mail.
    Finished(ChildId),
    /// Forget the child.
    Forget(ChildId),
    /// All wanted children are up.
    Booted,
    /// All children are down, as asked.
    Halted,
    /// All children are down because this child failed once too often.
    GaveUp(ChildId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Idle,
    Booting,
    Serving,
    Halting,
    GivingUp(ChildId),
}

#[derive(Debug)]
struct Slot {
    id: ChildId,
    rules: ChildRules,
    generation: u64,
    phase: Phase,
    wanted: bool,
    /// Must go down once before it may serve on (its group restarts).
    cycle: bool,
    forget: bool,
    not_before: Duration,
    failures: u32,
}

impl Slot {
    fn live(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Up { .. })
    }
    fn owes_stop(&self) -> bool {
        self.live() && (!self.wanted || self.cycle)
    }
    fn starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }
    fn stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping { .. })
    }
}

/// The machine of one supervisor.
#[derive(Debug)]
pub struct Plan {
    strategy: Strategy,
    intensity: Intensity,
    backoff: Backoff,
    jitter: Jitter,
    mode: Mode,
    slots: Vec<Slot>,
    restarts: VecDeque<Duration>,
    next_id: u64,
}

impl Plan {
    /// An idle supervisor without children.
    #[must_use]
    pub fn new(strategy: Strategy, intensity: Intensity, backoff: Backoff, seed: u64) -> Self {
        Self {
            strategy,
            intensity,
            backoff,
            jitter: Jitter::from_seed(seed),
            mode: Mode::Idle,
            slots: Vec::new(),
            restarts: VecDeque::new(),
            next_id: 0,
        }
    }

    /// Declares a child as the last one. It starts with the next [`Plan::step`] if the supervisor serves.
    pub fn add(&mut self, rules: ChildRules) -> ChildId {
        let id = ChildId(self.next_id);
        self.next_id += 1;
        self.slots.push(Slot {
            id,
            rules,
            generation: 0,
            phase: Phase::Down,
            wanted: self.serves(),
            cycle: false,
            forget: false,
            not_before: Duration::ZERO,
            failures: 0,
        });
        id
    }

    /// Where a child is, if it is known.
    #[must_use]
    pub fn phase(&self, id: ChildId) -> Option<Phase> {
        self.slots.iter().find(|slot| slot.id == id).map(|slot| slot.phase)
    }

    /// The generation a child runs or ran last; 0 before its first start.
    #[must_use]
    pub fn generation(&self, id: ChildId) -> Option<u64> {
        self.slots.iter().find(|slot| slot.id == id).map(|slot| slot.generation)
    }

    /// Whether children are being kept up, or are on their way up.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.mode, Mode::Booting | Mode::Serving)
    }

    /// Whether a child that is down will be started again.
    #[must_use]
    pub fn wanted(&self, id: ChildId) -> bool {
        self.slots.iter().any(|slot| slot.id == id && slot.wanted)
    }

    /// Whether no child runs or is being stopped.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        !self.slots.iter().any(|slot| slot.live() || slot.stopping())
    }

    /// When [`Input::Wake`] is due, if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self, now: Duration) -> Option<Duration> {
        let starts_open = self.serves();
        self.slots
            .iter()
            .filter_map(|slot| match slot.phase {
                Phase::Starting { deadline } | Phase::Stopping { deadline } => Some(deadline),
                Phase::Down | Phase::Abandoned if starts_open && slot.wanted && slot.not_before > now => {
                    Some(slot.not_before)
                }
                _ => None,
            })
            .min()
    }

    /// Feeds one input and appends what is to be done to `out`.
    pub fn step(&mut self, now: Duration, input: Input, out: &mut Vec<Step>) {
        match input {
            Input::Boot => self.boot(),
            Input::Started(id, generation) => self.started(id, generation, now),
            Input::Exited(id, generation, exit) => self.exited(id, generation, exit, now, out),
            Input::Remove(id) => self.remove(id),
            Input::Halt => self.halt(),
            Input::Wake => {}
        }
        self.expire(now, out);
        self.reconcile(now, out);
    }

    fn boot(&mut self) {
        self.mode = Mode::Booting;
        self.restarts.clear();
        for slot in &mut self.slots {
            slot.wanted = !slot.forget;
            // A boot over children that still run is a restart of them all.
            slot.cycle = slot.live();
            slot.failures = 0;
            slot.not_before = Duration::ZERO;
            if slot.phase == Phase::Finished {
                slot.phase = Phase::Down;
            }
        }
    }

    fn halt(&mut self) {
        self.mode = Mode::Halting;
        for slot in &mut self.slots {
            slot.wanted = false;
        }
    }

    fn remove(&mut self, id: ChildId) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            slot.wanted = false;
            slot.forget = true;
        }
    }

    fn started(&mut self, id: ChildId, generation: u64, now: Duration) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id && slot.generation == generation)
            && matches!(slot.phase, Phase::Starting { .. })
        {
            slot.phase = Phase::Up { since: now };
        }
    }

    fn exited(&mut self, id: ChildId, generation: u64, exit: ExitKind, now: Duration, out: &mut Vec<Step>) {
        let Some(index) = self.slots.iter().position(|slot| slot.id == id && slot.generation == generation) else {
            return; // of an older generation, or of a child that is gone
        };
        let slot = &mut self.slots[index];
        match slot.phase {
            // Whatever it died of: it is down, as asked.
            Phase::Stopping { .. } | Phase::Abandoned => slot.down(),
            Phase::Starting { .. } | Phase::Up { .. } if slot.owes_stop() => slot.down(),
            Phase::Starting { .. } => self.failed_or_finished(index, exit, Duration::ZERO, now, out),
            Phase::Up { since } => self.failed_or_finished(index, exit, now.saturating_sub(since), now, out),
            Phase::Down | Phase::Finished => {}
        }
    }

    /// An exit that nobody asked for.
    fn failed_or_finished(&mut self, index: usize, exit: ExitKind, ran: Duration, now: Duration, out: &mut Vec<Step>) {
        let slot = &mut self.slots[index];
        if !slot.rules.restart.restarts_after(exit) {
            slot.phase = Phase::Finished;
            slot.wanted = false;
            out.push(Step::Finished(slot.id));
            return;
        }
        slot.down();
        let id = slot.id;
        if self.over_intensity(now) {
            self.mode = Mode::GivingUp(id);
            for slot in &mut self.slots {
                slot.wanted = false;
            }
            return;
        }
        let slot = &mut self.slots[index];
        if ran >= self.backoff.reset_after {
            slot.failures = 0;
        }
        let delay = self.backoff.delay(slot.failures, &mut self.jitter);
        slot.failures = slot.failures.saturating_add(1);
        slot.not_before = now + delay;
        out.push(Step::Restarting(id, delay));
        self.share_fate(index, now + delay);
    }

    /// The siblings that the strategy ties to the failed child go down now and come back after it may.
    fn share_fate(&mut self, failed: usize, not_before: Duration) {
        let group = match self.strategy {
            Strategy::OneForOne => return,
            Strategy::RestForOne => failed + 1..self.slots.len(),
            Strategy::OneForAll => 0..self.slots.len(),
        };
        for index in group.filter(|index| *index != failed) {
            let slot = &mut self.slots[index];
            slot.not_before = slot.not_before.max(not_before);
            slot.cycle = slot.live();
            if slot.cycle && slot.rules.restart == Restart::Temporary {
                slot.wanted = false;
            }
        }
    }

    fn over_intensity(&mut self, now: Duration) -> bool {
        self.restarts.push_back(now);
        while self.restarts.front().is_some_and(|at| now.saturating_sub(*at) > self.intensity.window) {
            self.restarts.pop_front();
        }
        self.restarts.len() > self.intensity.restarts as usize
    }

    fn expire(&mut self, now: Duration, out: &mut Vec<Step>) {
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            let (id, generation) = (slot.id, slot.generation);
            match slot.phase {
                Phase::Stopping { deadline } if deadline <= now => {
                    slot.phase = Phase::Abandoned;
                    slot.cycle = false;
                    out.extend([Step::Kill(id, generation), Step::Abandoned(id)]);
                }
                Phase::Starting { deadline } if deadline <= now && !slot.owes_stop() => {
                    out.extend([Step::Kill(id, generation), Step::StartTimedOut(id)]);
                    self.failed_or_finished(index, ExitKind::Failed, Duration::ZERO, now, out);
                }
                _ => {}
            }
        }
    }

    fn ordered(&self) -> bool {
        self.strategy != Strategy::OneForOne || self.mode != Mode::Serving
    }

    fn reconcile(&mut self, now: Duration, out: &mut Vec<Step>) {
        self.reconcile_stops(now, out);
        self.settle(out);
        if self.serves() {
            self.reconcile_starts(now, out);
        }
        self.conclude(out);
    }

    fn reconcile_stops(&mut self, now: Duration, out: &mut Vec<Step>) {
        let ordered = self.ordered();
        if ordered && self.slots.iter().any(Slot::stopping) {
            return;
        }
        for slot in self.slots.iter_mut().rev().filter(|slot| slot.owes_stop()) {
            slot.phase = Phase::Stopping { deadline: now + slot.rules.stop_deadline };
            out.push(Step::Stop(slot.id, slot.generation));
            if ordered {
                return;
            }
        }
    }

    /// Children that are down and unwanted: forget them, or note that they are over.
    fn settle(&mut self, out: &mut Vec<Step>) {
        let serving = self.serves();
        self.slots.retain_mut(|slot| {
            if slot.wanted || slot.live() || slot.stopping() {
                return true;
            }
            if slot.forget {
                out.push(Step::Forget(slot.id));
                return false;
            }
            if serving && slot.phase == Phase::Down {
                slot.phase = Phase::Finished;
                out.push(Step::Finished(slot.id));
            }
            true
        });
    }

    fn reconcile_starts(&mut self, now: Duration, out: &mut Vec<Step>) {
        let ordered = self.ordered();
        if ordered && self.slots.iter().any(|slot| slot.owes_stop() || slot.stopping() || slot.starting()) {
            return;
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.wanted) {
            let startable = matches!(slot.phase, Phase::Down | Phase::Abandoned);
            if startable && slot.not_before <= now {
                slot.generation += 1;
                slot.phase = Phase::Starting { deadline: now + slot.rules.start_deadline };
                out.push(Step::Start(slot.id, slot.generation));
            }
            if ordered && !matches!(slot.phase, Phase::Up { .. }) {
                return;
            }
        }
    }

    fn conclude(&mut self, out: &mut Vec<Step>) {
        let quiet = self.is_quiet();
        match self.mode {
            Mode::Booting
                if self.slots.iter().all(|s| !s.wanted || (matches!(s.phase, Phase::Up { .. }) && !s.cycle)) =>
            {
                self.mode = Mode::Serving;
                out.push(Step::Booted);
            }
            Mode::Halting if quiet => {
                self.mode = Mode::Idle;
                out.push(Step::Halted);
            }
            Mode::GivingUp(id) if quiet => {
                self.mode = Mode::Idle;
                out.push(Step::GaveUp(id));
            }
            _ => {}
        }
    }
}

impl Slot {
    fn down(&mut self) {
        self.phase = Phase::Down;
        self.cycle = false;
    }
}

#[cfg(test)]
mod tests;

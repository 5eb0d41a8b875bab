//! Which slot has an enforcer: the pure part of the roster.
//!
//! Invariant: a slot has at most one enforcer, and is released only while it has none; the next one starts only once the kernel let go.
//! Starting, stopping and releasing take their time, and what is told of a slot meanwhile is done afterwards, the newest only: two
//! requests of one slot are never on their way at once, so they cannot overtake each other.

use std::collections::BTreeMap;

use palisade_domain::Slot;

/// What the slots hear.
#[derive(Debug)]
pub enum Input<T> {
    /// A workload has the slot. `moves_in`: it is another than before, so what the kernel knows of the slot is taken away first.
    Appeared {
        /// Who.
        who: T,
        /// Whether the kernel may know another by this slot.
        moves_in: bool,
    },
    /// The slot's workload ended.
    Gone,
    /// The enforcer that was asked for serves, or there is none.
    Started(bool),
    /// The enforcer is over.
    Stopped,
    /// The kernel has forgotten the slot.
    Released,
}

/// What the slots ask for.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Start an enforcer, and say [`Input::Started`].
    Start(T),
    /// Stop it, and say [`Input::Stopped`].
    Stop,
    /// Make the kernel forget the slot, and say [`Input::Released`].
    Release,
}

#[derive(Debug)]
enum Phase<T> {
    Starting(Option<Leaving<T>>),
    Serving,
    Stopping(Leaving<T>),
    /// The kernel is asked to forget the slot; who comes next waits.
    Releasing(Option<T>),
}

/// What is done once there is no enforcer.
#[derive(Debug)]
struct Leaving<T> {
    release: bool,
    next: Option<T>,
}

/// All slots; those without an entry are vacant.
#[derive(Debug)]
pub struct Slots<T> {
    phases: BTreeMap<Slot, Phase<T>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { phases: BTreeMap::new() }
    }
}

impl<T> Slots<T> {
    /// One step of one slot; effects are appended to `out` in the order in which they are to be done.
    pub fn step(&mut self, slot: Slot, input: Input<T>, out: &mut Vec<Effect<T>>) {
        let phase = self.phases.remove(&slot);
        let next = match (phase, input) {
            (None, Input::Appeared { who, .. }) => start(who, out),
            // A roster before this one may have held it.
            (None, Input::Gone) => {
                out.push(Effect::Release);
                Some(Phase::Releasing(None))
            }
            (Some(phase), Input::Appeared { who, moves_in }) => Some(leave(phase, moves_in, Some(who), out)),
            (Some(phase), Input::Gone) => Some(leave(phase, true, None, out)),
            (Some(Phase::Starting(None)), Input::Started(true)) => Some(Phase::Serving),
            (Some(Phase::Starting(None)), Input::Started(false)) => None,
            (Some(Phase::Starting(Some(leaving))), Input::Started(true)) => {
                out.push(Effect::Stop);
                Some(Phase::Stopping(leaving))
            }
            (Some(Phase::Starting(Some(leaving))), Input::Started(false))
            | (Some(Phase::Stopping(leaving)), Input::Stopped) => {
                if leaving.release {
                    out.push(Effect::Release);
                    Some(Phase::Releasing(leaving.next))
                } else {
                    leaving.next.and_then(|who| start(who, out))
                }
            }
            (Some(Phase::Releasing(next)), Input::Released) => next.and_then(|who| start(who, out)),
            // Not asked for now.
            (phase, Input::Started(_) | Input::Stopped | Input::Released) => phase,
        };
        if let Some(next) = next {
            self.phases.insert(slot, next);
        }
    }
}

fn start<T>(who: T, out: &mut Vec<Effect<T>>) -> Option<Phase<T>> {
    out.push(Effect::Start(who));
    Some(Phase::Starting(None))
}

fn leave<T>(phase: Phase<T>, release: bool, next: Option<T>, out: &mut Vec<Effect<T>>) -> Phase<T> {
    match phase {
        Phase::Starting(before) => {
            let release = release || before.is_some_and(|before| before.release);
            Phase::Starting(Some(Leaving { release, next }))
        }
        Phase::Serving => {
            out.push(Effect::Stop);
            Phase::Stopping(Leaving { release, next })
        }
        Phase::Stopping(before) => Phase::Stopping(Leaving { release: release || before.release, next }),
        Phase::Releasing(_) => Phase::Releasing(next),
    }
}

#[cfg(test)]
mod tests;

//! The lives of a peer: by which runs it numbered its messages, and from where. The pure part of seeing that a peer is two nodes.
//!
//! A process draws its run when it begins, and never again takes one that it had. So a run that comes back after another is proof that two
//! processes show one name: copies of one certificate, each of which takes the link from the other. So is a connection that still answers
//! while another has begun with another run. That a node moved, or began anew, is no proof, and is not said to be.
//!
//! Bound: [`LIVES`] lives; of more copies than that at a time, none is seen.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use palisade_domain::UnixNanos;
use palisade_wire::frame::Run;
use palisade_world::Doubled;

const LIVES: usize = 8;
/// For which it is said after a life last came back: copies try again at most so long after they were displaced.
pub(crate) const SAID_FOR: Duration = Duration::from_secs(900);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    /// The newest last.
    heard: VecDeque<(Run, SocketAddr)>,
    doubled: Option<Doubled>,
    hears: u64,
}

impl Lives {
    /// The peer numbers by this run, and is there. What is to be said of it, where that is more than before.
    pub(crate) fn hear(&mut self, run: Run, address: SocketAddr, now: UnixNanos) -> Option<Doubled> {
        self.hears += 1;
        let known = self.heard.iter().position(|(heard, _)| *heard == run);
        let newest = self.heard.back().map(|(heard, address)| (*heard, *address));
        let again = match (known, newest) {
            (Some(at), Some((last, other))) => {
                self.heard.remove(at);
                (last != run).then_some(other)
            }
            _ => None,
        };
        if self.heard.len() == LIVES {
            self.heard.pop_front();
        }
        self.heard.push_back((run, address));
        self.both([again?, address], now)
    }

    /// Two were there at once. What is to be said of it, where that is more than before.
    pub(crate) fn both(&mut self, addresses: [SocketAddr; 2], now: UnixNanos) -> Option<Doubled> {
        let times = self.doubled(now).map_or(0, |doubled| doubled.times) + 1;
        let doubled = Doubled { addresses, times, last: now };
        self.doubled = Some(doubled.clone());
        // Who comes back again and again is not said again and again.
        times.is_power_of_two().then_some(doubled)
    }

    /// The newest, and how many times one was heard.
    pub(crate) fn newest(&self) -> (Option<Run>, u64) {
        (self.heard.back().map(|(run, _)| *run), self.hears)
    }

    /// Whether it is two, as far as is known now.
    pub(crate) fn doubled(&self, now: UnixNanos) -> Option<Doubled> {
        let recent = |doubled: &&Doubled| now.0.saturating_sub(doubled.last.0) < SAID_FOR.as_nanos() as u64;
        self.doubled.as_ref().filter(recent).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 7))
    }

    #[test]
    fn unit_link_lives_that_come_back_are_two_nodes_and_those_that_follow_are_one() {
        let mut lives = Lives::default();
        // It links again, moves, begins anew, and moves again.
        for (run, last) in [(1, 1), (1, 1), (1, 2), (2, 2), (2, 1), (3, 1)] {
            assert_eq!(lives.hear(Run(run), at(last), UnixNanos(5)), None);
        }
        assert_eq!(lives.hear(Run(4), at(9), UnixNanos(6)), None, "another, or it moved once more");
        let doubled = lives.hear(Run(3), at(1), UnixNanos(7)).expect("it is back");
        assert_eq!((doubled.addresses, doubled.times), ([at(9), at(1)], 1));
        assert_eq!(lives.hear(Run(4), at(9), UnixNanos(8)).map(|doubled| doubled.times), Some(2));
        assert_eq!(lives.hear(Run(3), at(1), UnixNanos(9)), None, "not worth a line of the log");
        assert_eq!(lives.doubled(UnixNanos(9)).map(|doubled| doubled.times), Some(3));
        let later = UnixNanos(9 + SAID_FOR.as_nanos() as u64);
        assert_eq!(lives.doubled(later), None, "one of them has another certificate, or is gone");
    }

    #[test]
    fn unit_link_lives_remember_only_the_last() {
        let mut lives = Lives::default();
        assert!((0..100).all(|run| lives.hear(Run(run), at(1), UnixNanos(0)).is_none()));
        assert_eq!(lives.heard.len(), LIVES);
        assert_eq!(lives.hear(Run(0), at(2), UnixNanos(0)), None);
    }
}

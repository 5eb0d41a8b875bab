//! Messages over a link arrive in order, none invented, each either delivered or counted as lost.
//!
//! The contract of the port: a message arrives once and in order as long as both processes live. A process that begins anew knows of no
//! messages: it hears from any place on what the other still has for it, and the other hears all that it says, from its first word on.
//!
//! Two messages may read alike (questions are numbered anew by each process), so what was heard is held against all places in what was said
//! that it can stand for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use palisade_domain::NodeName;
use palisade_protocol::Nodes;

use crate::{checkers::Checker, event::Event, world::links::number};

/// At rest all links have stood for four seconds, and what was said longer ago than this has come.
const UNDER_WAY: Duration = Duration::from_secs(3);
/// Messages kept behind the last that was heard, to know one that comes again.
const KEPT: usize = 256;

/// One message, as its sender's links took it.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// Of which process of its sender.
    life: u32,
    message: u64,
    at: Duration,
}

/// What one node says to another.
#[derive(Debug, Default)]
struct Way {
    said: VecDeque<Sent>,
    /// The number of the first of `said`.
    first: u64,
    /// Where the receiver may be: numbers of what it may hear next. Empty: it has heard nothing yet in this life.
    next: BTreeSet<u64>,
    /// The sender's process when the receiver's began: of one before it nothing can come.
    since_life: u32,
    /// Messages that did not come though later ones did, in the receiver's life.
    missing: u64,
    /// Heard in the receiver's life.
    heard: u64,
    /// The same, when the receiver last told of it.
    heard_before: u64,
    /// Said in the sender's life.
    taken: u64,
    /// The same, when the sender last told of it.
    taken_before: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Life {
    number: u32,
    began: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Messages {
    ways: BTreeMap<(usize, usize), Way>,
    lives: BTreeMap<usize, Life>,
}

impl Way {
    fn end(&self) -> u64 {
        self.first + self.said.len() as u64
    }

    fn at(&self, index: u64) -> Option<&Sent> {
        self.said.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn places_of(&self, message: u64) -> impl Iterator<Item = (u64, &Sent)> {
        let numbered = (self.first..).zip(&self.said);
        numbered.filter(move |(_, sent)| sent.message == message)
    }

    /// The first word of each process after the one that said `index`.
    fn later_lives(&self, index: u64) -> Vec<u64> {
        let of = |at: u64| self.at(at).map(|sent| sent.life);
        let before = index.checked_sub(1).and_then(of);
        (index..self.end()).filter(|at| *at > self.first && of(*at) != of(at - 1) && of(*at) != before).collect()
    }

    /// Where the receiver may be after it heard this.
    fn follow(&self, message: u64) -> BTreeSet<u64> {
        if self.next.is_empty() {
            let may = self.places_of(message).filter(|(_, sent)| sent.life >= self.since_life);
            return may.map(|(at, _)| at + 1).collect();
        }
        let lives = self.next.first().map(|at| self.later_lives(*at)).unwrap_or_default();
        let all = self.next.iter().copied().chain(lives);
        all.filter(|at| self.at(*at).is_some_and(|sent| sent.message == message)).map(|at| at + 1).collect()
    }

    fn hear(&mut self, message: u64) -> Result<(), &'static str> {
        let mut next = self.follow(message);
        if next.is_empty() {
            let least = self.next.first().copied().unwrap_or(self.end());
            let Some((found, sent)) = self.places_of(message).find(|(at, _)| *at >= least) else {
                let was_said = self.places_of(message).next().is_some();
                return Err(if was_said { "comes again, or late" } else { "was said by nobody" });
            };
            // Of a process that is over, the rest is gone with it.
            let life = sent.life;
            self.missing +=
                (least..found).filter(|at| self.at(*at).is_some_and(|sent| sent.life == life)).count() as u64;
            next.insert(found + 1);
        }
        self.next = next;
        self.heard += 1;
        let least = self.next.first().copied().unwrap_or(self.first);
        while self.first + (KEPT as u64) < least && self.said.pop_front().is_some() {
            self.first += 1;
        }
        Ok(())
    }

    /// What should have come by now.
    fn overdue(&self, now: Duration, sender: Life, receiver: Life) -> Option<Duration> {
        let next = self.next.last().copied();
        let waits = |(at, sent): &(u64, &Sent)| {
            let unheard = next.map_or(sent.at >= receiver.began, |next| *at >= next);
            sent.life == sender.number && unheard && sent.at + UNDER_WAY < now
        };
        (self.first..).zip(&self.said).find(waits).map(|(_, sent)| sent.at)
    }
}

impl Messages {
    fn life(&self, node: usize) -> Life {
        self.lives.get(&node).copied().unwrap_or_default()
    }

    fn begins(&mut self, at: Duration, node: usize) {
        let life = Life { number: self.life(node).number + 1, began: at };
        self.lives.insert(node, life);
        let lives = self.lives.clone();
        for ((from, to), way) in &mut self.ways {
            if *to == node {
                way.next.clear();
                (way.missing, way.heard, way.heard_before) = (0, 0, 0);
                way.since_life = lives.get(from).map_or(0, |life| life.number);
            }
            if *from == node {
                (way.taken, way.taken_before) = (0, 0);
            }
        }
    }

    fn way(&mut self, from: usize, to: usize) -> &mut Way {
        let since_life = self.life(from).number;
        self.ways.entry((from, to)).or_insert_with(|| Way { since_life, ..Way::default() })
    }

    /// What a node counts of its links, against what was seen at its port.
    fn counted(&mut self, node: usize, nodes: &Nodes) -> Result<(), String> {
        for seen in &nodes.nodes {
            let (Some(peer), counts) = (number(&seen.peer.name), seen.peer.counts) else { continue };
            let out = self.way(node, peer);
            let before = std::mem::replace(&mut out.taken_before, out.taken);
            if !(before..=out.taken).contains(&counts.sent) {
                return Err(format!("it counts {} messages to {peer}, of {} that were taken", counts.sent, out.taken));
            }
            let inward = self.way(peer, node);
            let heard = std::mem::replace(&mut inward.heard_before, inward.heard);
            if counts.received < heard {
                return Err(format!("it counts {} messages of {peer}, and was handed {heard}", counts.received));
            }
            if inward.missing > counts.lost {
                let missing = inward.missing;
                return Err(format!(
                    "{missing} messages of {peer} never came, and {} are counted as lost",
                    counts.lost
                ));
            }
        }
        Ok(())
    }

    fn heard(&mut self, node: usize, peer: &NodeName, messages: &[u64]) -> Result<(), String> {
        let Some(from) = number(peer) else { return Ok(()) };
        let way = self.way(from, node);
        messages
            .iter()
            .try_for_each(|message| way.hear(*message).map_err(|how| format!("message {message:016x} of {peer} {how}")))
    }
}

impl Checker for Messages {
    fn name(&self) -> &'static str {
        "messages"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::LinksUp => self.begins(at, node),
            Event::LinkSent { peer, message, .. } => {
                let life = self.life(node).number;
                if let Some(peer) = number(peer) {
                    let way = self.way(node, peer);
                    way.taken += 1;
                    way.said.push_back(Sent { life, message: *message, at });
                }
            }
            Event::LinkReceived { peer, messages } => return self.heard(node, peer, messages),
            Event::Saw(nodes) => return self.counted(node, nodes),
            Event::Settled(_) => {
                let overdue = |((from, to), way): (&(usize, usize), &Way)| {
                    let said = (*to == node).then(|| way.overdue(at, self.life(*from), self.life(*to)))??;
                    Some(format!("what {from} said at {:.3} s has not come", said.as_secs_f64()))
                };
                return self.ways.iter().find_map(overdue).map_or(Ok(()), Err);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Messages;
    use crate::{checkers::Checker as _, event::Event, world::links::name};

    struct Told(Messages, Duration);

    impl Told {
        fn new() -> Self {
            let mut told = Self(Messages::default(), Duration::ZERO);
            told.up(0);
            told.up(1);
            told
        }

        fn tell(&mut self, node: usize, event: &Event) -> Result<(), String> {
            self.1 += Duration::from_millis(1);
            self.0.hear(self.1, node, event)
        }

        fn up(&mut self, node: usize) {
            self.tell(node, &Event::LinksUp).expect("no objection");
        }

        fn send(&mut self, messages: &[u64]) {
            for message in messages {
                let sent = Event::LinkSent { peer: name(1), message: *message, bytes: 9 };
                self.tell(0, &sent).expect("no objection");
            }
        }

        fn receive(&mut self, messages: &[u64]) -> Result<(), String> {
            self.tell(1, &Event::LinkReceived { peer: name(0), messages: messages.to_vec() })
        }

        fn missing(&self) -> u64 {
            self.0.ways[&(0, 1)].missing
        }
    }

    #[test]
    fn unit_checker_of_messages_lets_pass_what_comes_once_and_in_order() {
        let mut told = Told::new();
        told.send(&[1, 2, 3, 1, 2]);
        assert_eq!(told.receive(&[1, 2]), Ok(()));
        assert_eq!(told.receive(&[3, 1, 2]), Ok(()));
        assert_eq!(told.missing(), 0);
    }

    #[test]
    fn unit_checker_of_messages_objects_to_what_is_repeated_invented_or_left_out() {
        let mut told = Told::new();
        told.send(&[1, 2, 3, 4]);
        assert_eq!(told.receive(&[1, 2]), Ok(()));
        assert!(told.receive(&[2]).is_err_and(|what| what.contains("comes again")));
        assert!(told.receive(&[9]).is_err_and(|what| what.contains("by nobody")));
        assert_eq!((told.receive(&[4]), told.missing()), (Ok(()), 1));
    }

    #[test]
    fn unit_checker_of_messages_knows_that_processes_begin_anew() {
        let mut told = Told::new();
        told.send(&[1, 2, 3]);
        assert_eq!(told.receive(&[1]), Ok(()));
        // The sender begins anew, and numbers its questions as the one before: 2 and 3 are gone with that one.
        told.up(0);
        told.send(&[1, 2, 7]);
        assert_eq!((told.receive(&[1, 2, 7]), told.missing()), (Ok(()), 0));
        told.send(&[8, 9, 10]);
        // The receiver begins anew: what it takes up may begin anywhere, but goes on from there.
        told.up(1);
        assert_eq!((told.receive(&[9, 10]), told.missing()), (Ok(()), 0));
        // A sender that begins anew is heard from its first word on.
        told.up(0);
        told.send(&[20, 21]);
        assert_eq!((told.receive(&[21]), told.missing()), (Ok(()), 1));
    }

    #[test]
    fn unit_checker_of_messages_objects_at_rest_to_what_is_still_under_way() {
        let mut told = Told::new();
        told.send(&[1, 2]);
        assert_eq!(told.receive(&[1]), Ok(()));
        let settled = Event::Settled(std::sync::Arc::default());
        assert_eq!(told.tell(1, &settled), Ok(()));
        told.1 += Duration::from_secs(4);
        assert!(told.tell(1, &settled).is_err_and(|what| what.contains("has not come")));
    }
}

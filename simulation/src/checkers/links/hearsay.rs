//! What a node shows of another was said by it, to this node; none is older than what was shown before; its age is true.
//!
//! And what a node says of itself is so: each alert is about something that happened on it. Trees are the supervisors' word.
//!
//! An answer counts only while its question is open, and a peer is asked anew each 5 s: what comes was said no longer before it came.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use palisade_protocol::{NodeSeen, Said};

use crate::{
    checkers::Checker,
    event::{Answer, Event, RecordKey},
    world::{links::number, sinks::said},
};

/// From when a node said something until it came, at most: a question is open for 5 s, is looked at each second, and a thread may stall.
const ON_ITS_WAY: Duration = Duration::from_secs(10);
/// Nothing comes before it was said; ages are whole milliseconds.
const ROUNDED: Duration = Duration::from_millis(1);
/// Kept of what was said before what was shown last, to know it again.
const KEPT: usize = 16;

/// What a node said of one kind to another, in order.
#[derive(Debug)]
struct Told<T> {
    said: VecDeque<(Duration, T)>,
    /// The number of the first of them.
    first: usize,
    /// The least number of what may have been shown last.
    shown: usize,
}

impl<T> Default for Told<T> {
    fn default() -> Self {
        Self { said: VecDeque::new(), first: 0, shown: 0 }
    }
}

/// The alerts that a node said to another. An answer may tell only those after one that is known: what is shown after it is known by its
/// last line, and by each line's place in the order in which they were said.
#[derive(Debug, Default)]
struct ToldLines {
    /// The last line of each answer, with those that it follows.
    lasts: Told<Option<usize>>,
    /// The number of each line that was ever said, by digest.
    numbers: BTreeMap<[u8; 16], usize>,
    /// What was shown last, with the number of each line: most of what is shown next are the same lines in the same memory, which holding
    /// them keeps from changing. Decision: looked up so, because a hash of each line of each look took a fifth of a run's time.
    shown: Vec<(Arc<str>, usize)>,
}

/// From which node to which.
type Pair = (usize, usize);

/// See the module.
#[derive(Debug, Default)]
pub struct Hearsay {
    trees: BTreeMap<Pair, Told<Arc<Answer>>>,
    lines: BTreeMap<Pair, ToldLines>,
    /// What happened on each node: of which container each record is.
    acted: BTreeMap<(usize, RecordKey), String>,
    /// Lines that were held against it, by digest.
    held: BTreeSet<(usize, [u8; 16])>,
}

impl<T> Told<T> {
    fn say(&mut self, at: Duration, what: T) {
        self.said.push_back((at, what));
        while self.first + KEPT < self.shown && self.said.len() > 1 {
            self.said.pop_front();
            self.first += 1;
        }
    }

    /// Holds what is shown, and is so old, against what was said.
    fn show(&mut self, at: Duration, age_ms: u64, is: impl Fn(&T) -> bool) -> Result<(), String> {
        let came = at.saturating_sub(Duration::from_millis(age_ms));
        let equal = (self.first..).zip(&self.said).filter(|(_, (_, what))| is(what));
        let (mut times, mut before) = (Vec::new(), false);
        for (number, (said_at, _)) in equal {
            if number < self.shown {
                before = true;
            } else if *said_at <= came + ROUNDED && *said_at + ON_ITS_WAY >= came {
                self.shown = number;
                return Ok(());
            } else {
                times.push(said_at.as_secs_f64());
            }
        }
        match (times.as_slice(), before) {
            ([], true) => Err("is older than what was shown before".to_owned()),
            ([], false) => Err("was never said by it".to_owned()),
            (times, _) => {
                Err(format!("is said to have come at {:.3} s, and was said at {times:.3?} s", came.as_secs_f64()))
            }
        }
    }
}

fn digest(line: &str) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(line.as_bytes()).as_bytes()[..16]);
    digest
}

impl ToldLines {
    fn say(&mut self, at: Duration, lines: &[String], follows: bool) {
        // Nothing new: the last that is known stays the last.
        let mut last = self.numbers.len().checked_sub(1).filter(|_| follows);
        for line in lines {
            let next = self.numbers.len();
            last = Some(*self.numbers.entry(digest(line)).or_insert(next));
        }
        self.lasts.say(at, last);
    }

    fn show(&mut self, at: Duration, shown: &Said<Arc<str>>) -> Result<(), String> {
        let mut before = self.shown.drain(..).peekable();
        let mut now = Vec::with_capacity(shown.items.len());
        for line in shown.items.iter() {
            // Lines go away at the front and come at the end.
            while before.peek().is_some_and(|(old, _)| !Arc::ptr_eq(old, line)) && now.is_empty() {
                before.next();
            }
            let known = before.next_if(|(old, _)| Arc::ptr_eq(old, line)).map(|(_, number)| number);
            let known = known.or_else(|| self.numbers.get(&digest(line)).copied());
            let Some(number) = known else { return Err("was never said by it".to_owned()) };
            if now.last().is_some_and(|(_, last)| *last > number) {
                return Err("is not in the order in which it was said".to_owned());
            }
            now.push((Arc::clone(line), number));
        }
        drop(before);
        let last = now.last().map(|(_, number)| *number);
        self.shown = now;
        self.lasts.show(at, shown.age_ms, |said| *said == last)
    }
}

impl Hearsay {
    fn saw(&mut self, at: Duration, node: usize, seen: &NodeSeen) -> Result<(), String> {
        let Some(other) = number(&seen.peer.name) else { return Ok(()) };
        if let Some(shown) = &seen.tree {
            let told = self.trees.entry((other, node)).or_default();
            told.show(at, shown.age_ms, |said| matches!(&**said, Answer::Tree(rows) if *rows == *shown.items))
                .map_err(|what| format!("the tree that it shows of {other} {what}"))?;
        }
        if let Some(shown) = &seen.alerts {
            let told = self.lines.entry((other, node)).or_default();
            told.show(at, shown).map_err(|what| format!("what it shows of the alerts of {other} {what}"))?;
        }
        Ok(())
    }

    /// A node says which alerts it has.
    fn alerts(&mut self, node: usize, lines: &[String]) -> Result<(), String> {
        for line in lines {
            if !self.held.insert((node, digest(line))) {
                continue;
            }
            let Some(said) = said(line.as_bytes()) else { return Err(format!("it tells what is no line: {line}")) };
            let Some(key) = said.record else { continue };
            match self.acted.get(&(node, key)) {
                None => return Err(format!("it tells of an alert about record {key}, which is none of its own")),
                Some(container) if *container != said.container && !said.container.is_empty() => {
                    return Err(format!("it tells that {} did what {container} did", said.container));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Checker for Hearsay {
    fn name(&self) -> &'static str {
        "hearsay"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::Acted(acted) => {
                if let Some(key) = acted.record {
                    self.acted.insert((node, key), acted.container.0.clone());
                }
                Ok(())
            }
            Event::LinkSent { peer, answer: Some(answer), .. } => {
                let to = number(peer);
                match (&**answer, to) {
                    (Answer::Tree(_), Some(to)) => {
                        self.trees.entry((node, to)).or_default().say(at, Arc::clone(answer));
                        Ok(())
                    }
                    (Answer::Tree(_), None) => Ok(()),
                    (Answer::Alerts { lines, follows }, to) => {
                        if let Some(to) = to {
                            self.lines.entry((node, to)).or_default().say(at, lines, *follows);
                        }
                        self.alerts(node, lines)
                    }
                }
            }
            Event::Saw(nodes) => nodes.nodes.iter().try_for_each(|seen| self.saw(at, node, seen)),
            _ => Ok(()),
        }
    }
}

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
#[derive(Debug, Default)]
struct Told {
    said: VecDeque<(Duration, Arc<Answer>)>,
    /// The number of the first of them.
    first: usize,
    /// The least number of what may have been shown last.
    shown: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Hearsay {
    /// By who said it, to whom, and whether it is the tree.
    told: BTreeMap<(usize, usize, bool), Told>,
    /// What happened on each node: of which container each record is.
    acted: BTreeMap<(usize, RecordKey), String>,
    /// Lines that were held against it, by digest.
    held: BTreeSet<(usize, [u8; 16])>,
}

impl Told {
    fn say(&mut self, at: Duration, answer: &Arc<Answer>) {
        self.said.push_back((at, Arc::clone(answer)));
        while self.first + KEPT < self.shown && self.said.len() > 1 {
            self.said.pop_front();
            self.first += 1;
        }
    }

    /// Holds what is shown against what was said.
    fn show<T: PartialEq>(
        &mut self,
        at: Duration,
        shown: &Said<T>,
        items: impl Fn(&Answer) -> Option<&Vec<T>>,
    ) -> Result<(), String> {
        let came = at.saturating_sub(Duration::from_millis(shown.age_ms));
        let numbered = (self.first..).zip(&self.said);
        let equal = numbered.filter(|(_, (_, answer))| items(answer) == Some(&shown.items));
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

impl Hearsay {
    fn saw(&mut self, at: Duration, node: usize, seen: &NodeSeen) -> Result<(), String> {
        let Some(other) = number(&seen.peer.name) else { return Ok(()) };
        if let Some(shown) = &seen.tree {
            let told = self.told.entry((other, node, true)).or_default();
            told.show(at, shown, |answer| if let Answer::Tree(rows) = answer { Some(rows) } else { None })
                .map_err(|what| format!("the tree that it shows of {other} {what}"))?;
        }
        if let Some(shown) = &seen.alerts {
            let told = self.told.entry((other, node, false)).or_default();
            told.show(at, shown, |answer| if let Answer::Alerts(lines) = answer { Some(lines) } else { None })
                .map_err(|what| format!("what it shows of the alerts of {other} {what}"))?;
        }
        Ok(())
    }

    /// A node says which alerts it has.
    fn alerts(&mut self, node: usize, lines: &[String]) -> Result<(), String> {
        for line in lines {
            let mut digest = [0; 16];
            digest.copy_from_slice(&blake3::hash(line.as_bytes()).as_bytes()[..16]);
            if !self.held.insert((node, digest)) {
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
                if let Some(to) = number(peer) {
                    let is_tree = matches!(&**answer, Answer::Tree(_));
                    self.told.entry((node, to, is_tree)).or_default().say(at, answer);
                }
                match &**answer {
                    Answer::Alerts(lines) => self.alerts(node, lines),
                    Answer::Tree(_) => Ok(()),
                }
            }
            Event::Saw(nodes) => nodes.nodes.iter().try_for_each(|seen| self.saw(at, node, seen)),
            _ => Ok(()),
        }
    }
}

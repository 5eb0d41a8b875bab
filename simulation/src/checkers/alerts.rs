//! Each decision that was read is said in one line, or counted as held back or lost; no line is about anything else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::Checker;
use crate::event::{Acted, Event, Look, RecordKey, Said};

/// What a process that is killed may have had in its hands: what it read in the seconds before, of which a thread may have stalled.
const IN_HAND: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
struct Awaited {
    container: String,
    denied: bool,
    what: String,
    read_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct OfNode {
    awaited: BTreeMap<RecordKey, Awaited>,
    said: BTreeSet<RecordKey>,
    /// Counted as held back by throttling: by processes and actors before, and by this one.
    held_before: u64,
    held: u64,
    /// Lost with panics, as the shells count: before, and in this process.
    lost_before: u64,
    lost: u64,
    restarts: u64,
    /// Decisions read since the last look: as much as a count may miss that went with its actor.
    since_look: u64,
    /// So many may be missing for counts that went.
    unsure: u64,
    /// It came to rest: what is not said by then never is.
    settled: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Alerts {
    nodes: BTreeMap<usize, OfNode>,
}

impl OfNode {
    fn acted(&mut self, acted: &Acted) {
        if let Some(key) = acted.record {
            let awaited = Awaited {
                container: acted.container.0.clone(),
                denied: !acted.permitted,
                what: format!("{} of {} by {}", acted.deed, acted.container, acted.executable),
                read_at: None,
            };
            self.awaited.insert(key, awaited);
        }
    }

    fn read(&mut self, at: Duration, decided: &[RecordKey]) {
        self.since_look += decided.len() as u64;
        for key in decided {
            if let Some(awaited) = self.awaited.get_mut(key) {
                awaited.read_at = Some(at);
            }
        }
    }

    fn lines(&mut self, said: &[Said]) -> Result<(), String> {
        for line in said {
            let Some(key) = line.record else { continue };
            let Some(awaited) = self.awaited.remove(&key) else {
                let again = if self.said.contains(&key) { "for the second time" } else { "of which nothing was read" };
                return Err(format!("an alert about record {key}, {again}"));
            };
            self.said.insert(key);
            if awaited.denied != line.denied {
                return Err(format!("{}: denied is {}, its alert says {}", awaited.what, awaited.denied, line.denied));
            }
            if awaited.container != line.container && !line.container.is_empty() {
                return Err(format!("{}: its alert names container {}", awaited.what, line.container));
            }
        }
        Ok(())
    }

    /// A process ended: what it had in hand is gone.
    fn down(&mut self, at: Duration) {
        self.awaited.retain(|_, awaited| awaited.read_at.is_none_or(|read| at.saturating_sub(read) > IN_HAND));
        self.held_before += std::mem::take(&mut self.held);
        self.lost_before += std::mem::take(&mut self.lost);
        self.unsure += std::mem::take(&mut self.since_look);
        self.restarts = 0;
    }

    fn looked(&mut self, look: &Look) {
        let (mut lost, mut restarts) = (0, 0);
        look.tree.walk(&mut |_, node| {
            if matches!(node.name.as_str(), "alerts" | "probe") {
                lost += node.mail.as_ref().map_or(0, |mail| mail.lost_panic_records);
                restarts += node.restarts;
            }
        });
        self.lost = lost;
        let since_look = std::mem::take(&mut self.since_look);
        if restarts != self.restarts {
            self.restarts = restarts;
            self.held_before += std::mem::take(&mut self.held);
            self.unsure += since_look;
        }
        if let Some(alerts) = &look.alerts {
            self.held = alerts.held_back.values().sum();
        } else {
            self.since_look = since_look;
        }
    }

    fn wrong(&self) -> Option<String> {
        let unsaid: Vec<&Awaited> = self.awaited.values().filter(|awaited| awaited.read_at.is_some()).collect();
        let counted = self.held_before + self.held + self.lost_before + self.lost + self.unsure;
        let first = unsaid.first().map(|awaited| awaited.what.as_str()).unwrap_or_default();
        (self.settled && unsaid.len() as u64 > counted).then(|| {
            format!("{} decisions were read and never said, {counted} are counted; the first: {first}", unsaid.len())
        })
    }
}

impl Checker for Alerts {
    fn name(&self) -> &'static str {
        "alerts"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        let of = self.nodes.entry(node).or_default();
        match event {
            Event::Acted(acted) => of.acted(acted),
            Event::RecordsRead { decided, .. } => of.read(at, decided),
            Event::Lines { said, .. } => return of.lines(said),
            Event::ProcessDown { .. } => of.down(at),
            Event::Looked(look) => of.looked(look),
            Event::Settled(_) => of.settled = true,
            _ => {}
        }
        Ok(())
    }

    fn conclude(&mut self) -> Vec<(usize, String)> {
        self.nodes.iter().filter_map(|(node, of)| Some((*node, of.wrong()?))).collect()
    }
}

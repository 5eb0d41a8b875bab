//! `produced = read + waiting + lost + suppressed + folded`: in the kernel, and in what the probe says of it.

use std::{collections::BTreeMap, time::Duration};

use palisade_protocol::RecordAccount;

use super::Checker;
use crate::event::{Event, Look};

#[derive(Debug, Default)]
struct OfNode {
    /// Handed to any probe since the machine began.
    read: u64,
    /// Handed to the probe that there is now.
    read_by_this: u64,
    /// Those that were in the rings when the last probe opened them, or were lost before, took numbers that it never saw.
    lost: u64,
    settled: bool,
    last: Option<(RecordAccount, usize)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Accounting {
    nodes: BTreeMap<usize, OfNode>,
}

impl OfNode {
    fn looked(&mut self, look: &Look) -> Result<(), String> {
        let Some(account) = &look.records else { return Ok(()) };
        self.last = Some((account.clone(), look.waiting));
        if account.malformed > 0 {
            return Err(format!("the probe calls {} records malformed", account.malformed));
        }
        let kept_back: u64 = account.loss.counts.values().sum();
        if account.missing > kept_back {
            return Err(format!("{} records are missing, and {kept_back} are accounted for", account.missing));
        }
        Ok(())
    }

    /// At rest all sums are exact.
    fn wrong(&self) -> Option<String> {
        let (account, waiting) = self.last.as_ref().filter(|_| self.settled)?;
        let kept_back: u64 = account.loss.counts.values().sum();
        let produced: u64 = account.loss.produced.values().sum();
        let explained = self.read + kept_back + *waiting as u64;
        if produced != explained {
            return Some(format!(
                "{produced} records were produced; {} read, {kept_back} lost, suppressed or folded, {waiting} waiting",
                self.read
            ));
        }
        if kept_back != self.lost {
            return Some(format!("{kept_back} records are counted as kept back, and {} were", self.lost));
        }
        (account.delivered != self.read_by_this).then(|| {
            format!("the probe delivered {} records of the {} that it read", account.delivered, self.read_by_this)
        })
    }
}

impl Checker for Accounting {
    fn name(&self) -> &'static str {
        "accounting"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        let of = self.nodes.entry(node).or_default();
        match event {
            Event::RecordsOpened => of.read_by_this = 0,
            Event::RecordsRead { records, .. } => {
                of.read += u64::from(*records);
                of.read_by_this += u64::from(*records);
            }
            Event::RecordLost { .. } => of.lost += 1,
            Event::RingsGone { .. } => (of.read, of.lost) = (0, 0),
            Event::Settled(_) => of.settled = true,
            Event::ProcessDown { .. } => of.last = None,
            Event::Looked(look) => return of.looked(look),
            _ => {}
        }
        Ok(())
    }

    fn conclude(&mut self) -> Vec<(usize, String)> {
        self.nodes.iter().filter_map(|(node, of)| Some((*node, of.wrong()?))).collect()
    }
}

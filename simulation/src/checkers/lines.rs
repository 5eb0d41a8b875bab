//! What a sink wrote is in its file, whole and in order, but for the last second before the power went; what it refused or lost is counted.
//!
//! The power's loss may take lines of the last [`SYNCED_WITHIN`], a second and what a disk then takes, and leave a part of one. That part
//! stays alone on its line.

use std::{collections::BTreeMap, time::Duration};

use super::Checker;
use crate::{
    event::{Event, Look},
    world::policies::SYNCED_WITHIN,
};

#[derive(Debug, Default)]
struct OfFile {
    /// What was written and is still to be there, and when.
    written: Vec<(Duration, u64)>,
    /// Parts of lines that may stand in it.
    parts: usize,
}

#[derive(Debug, Default)]
struct OfNode {
    files: BTreeMap<String, OfFile>,
    /// Lines that sinks refused or lost since the actor of alerts began to count, and the same at the last look.
    lost: u64,
    lost_at_look: u64,
    /// As often it had begun anew at the last look; none: the process is another.
    restarts: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Lines {
    nodes: BTreeMap<usize, OfNode>,
}

impl OfFile {
    fn found(&mut self, at: Duration, found: &[u64], power_lost: bool) -> Result<(), String> {
        let (mut there, mut parts) = (0, 0);
        for line in found {
            if self.written.get(there).is_some_and(|(_, written)| written == line) {
                there += 1;
            } else {
                parts += 1;
            }
        }
        let may_be_gone = |written: Duration| power_lost && written + SYNCED_WITHIN >= at;
        if let Some((written, _)) = self.written.get(there).filter(|(written, _)| !may_be_gone(*written)) {
            let written = written.as_secs_f64();
            return Err(format!("line {there} of {}, written at {written:.3} s, is not there", self.written.len()));
        }
        self.written.truncate(there);
        self.parts += usize::from(power_lost);
        if parts > self.parts {
            return Err(format!("{parts} lines that nobody wrote, and the power went {} times", self.parts));
        }
        Ok(())
    }
}

impl OfNode {
    fn looked(&mut self, look: &Look) -> Result<(), String> {
        let Some(alerts) = &look.alerts else { return Ok(()) };
        let mut restarts = 0;
        look.tree.walk(&mut |_, node| {
            if node.name == "alerts" {
                restarts += node.restarts;
            }
        });
        let counted: u64 = alerts.unwritten.values().sum();
        // Counts went with an actor: they begin anew.
        if self.restarts.replace(restarts) != Some(restarts) {
            (self.lost, self.lost_at_look) = (counted, counted);
            return Ok(());
        }
        // What was lost while the answer was on its way may be in it or not.
        if counted > self.lost || counted < self.lost_at_look {
            return Err(format!("{counted} lines are counted as not written, and {} were not", self.lost));
        }
        self.lost_at_look = self.lost;
        Ok(())
    }
}

impl Checker for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }

    fn hear(&mut self, at: Duration, node: usize, event: &Event) -> Result<(), String> {
        let of = self.nodes.entry(node).or_default();
        match event {
            Event::Lines { said, taken: false, .. } => of.lost += said.len() as u64,
            Event::LinesLost(lines) => of.lost += lines,
            Event::LinesWritten { file, lines, .. } => {
                let written = &mut of.files.entry(file.clone()).or_default().written;
                written.extend(lines.iter().map(|line| (at, *line)));
            }
            Event::LinesRotated(file) => drop(of.files.remove(file)),
            Event::LinesFound { file, lines, power_lost, .. } => {
                let found = of.files.entry(file.clone()).or_default().found(at, lines, *power_lost);
                return found.map_err(|what| format!("{file}: {what}"));
            }
            Event::ProcessDown { .. } => of.restarts = None,
            Event::Looked(look) => return of.looked(look),
            _ => {}
        }
        Ok(())
    }
}

//! The sinks, and which of them do not write.
//!
//! Invariant: each alert that a sink did not write is counted for it, whether the sink refused it or failed later. A sink that fails is
//! said once, stays in the condition until it writes again, and its recovery is said as well.

use std::collections::BTreeMap;

use palisade_protocol::Condition;
use palisade_world::AlertSink;

/// See the module.
pub struct Sinks {
    sinks: Vec<Watched>,
}

struct Watched {
    sink: Box<dyn AlertSink>,
    unwritten: u64,
    /// Why it refused the last lines.
    refused: Option<String>,
    /// Why it could not write lines that it took.
    failing: Option<String>,
}

impl Watched {
    fn problem(&self) -> Option<&String> {
        self.failing.as_ref().or(self.refused.as_ref())
    }

    fn changed(&self, failed_before: bool) {
        match (failed_before, self.problem()) {
            (false, Some(reason)) => tracing::error!(sink = self.sink.name(), %reason, "alerts are not written"),
            (true, None) => {
                tracing::warn!(sink = self.sink.name(), unwritten = self.unwritten, "alerts are written again");
            }
            _ => {}
        }
    }
}

impl Sinks {
    /// These sinks.
    #[must_use]
    pub fn new(sinks: Vec<Box<dyn AlertSink>>) -> Self {
        let watched = |sink| Watched { sink, unwritten: 0, refused: None, failing: None };
        Self { sinks: sinks.into_iter().map(watched).collect() }
    }

    /// Hands `lines`, which are `count` alerts, to each.
    pub fn write(&mut self, lines: &[u8], count: u64) {
        for watched in &mut self.sinks {
            let failed = watched.problem().is_some();
            watched.refused = watched.sink.append(lines).err().map(|error| error.source.to_string());
            if watched.refused.is_some() {
                watched.unwritten += count;
            }
            watched.changed(failed);
        }
    }

    /// Asks each what became of the lines that it took.
    pub fn look(&mut self) {
        for watched in &mut self.sinks {
            let failed = watched.problem().is_some();
            let health = watched.sink.health();
            watched.unwritten += health.lost;
            watched.failing = health.failing;
            watched.changed(failed);
        }
    }

    /// Alerts that were not written, by sink; none where all were.
    #[must_use]
    pub fn unwritten(&self) -> BTreeMap<String, u64> {
        let failed = self.sinks.iter().filter(|watched| watched.unwritten > 0);
        failed.map(|watched| (watched.sink.name().to_owned(), watched.unwritten)).collect()
    }

    /// How they are.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let problem = |watched: &Watched| {
            let reason = watched.problem()?;
            Some(format!("{}: {reason} ({} alerts not written)", watched.sink.name(), watched.unwritten))
        };
        let problems: Vec<_> = self.sinks.iter().filter_map(problem).collect();
        if problems.is_empty() { Condition::Good } else { Condition::Degraded(problems.join("; ")) }
    }
}

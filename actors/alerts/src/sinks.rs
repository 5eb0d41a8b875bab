//! The sinks, and which of them do not write.
//!
//! Invariant: each line that a sink did not write is counted for it, whether the sink refused it or failed later. A sink that fails is
//! said once, stays in the condition until it writes (or takes lines) again, and its recovery is said as well. A refusal is in the
//! condition once at least, however short it was, and does not wait for another line to leave it.

use std::collections::BTreeMap;

use palisade_protocol::Condition;
use palisade_world::AlertSink;

/// See the module.
pub struct Sinks {
    sinks: Vec<Watched>,
    /// Of what lines: `alerts` or `logs`.
    lines: &'static str,
}

struct Watched {
    sink: Box<dyn AlertSink>,
    unwritten: u64,
    /// Why it refused the last lines.
    refused: Option<String>,
    /// That was in the condition already.
    refusal_is_told: bool,
    /// Why it could not write lines that it took.
    failing: Option<String>,
}

impl Watched {
    fn problem(&self) -> Option<&String> {
        self.failing.as_ref().or(self.refused.as_ref())
    }

    fn changed(&self, failed_before: bool) {
        match (failed_before, self.problem()) {
            (false, Some(reason)) => tracing::error!(sink = self.sink.name(), %reason, "lines are not written"),
            (true, None) => {
                tracing::warn!(sink = self.sink.name(), unwritten = self.unwritten, "lines are written again");
            }
            _ => {}
        }
    }
}

impl Sinks {
    /// These sinks.
    #[must_use]
    pub fn new(lines: &'static str, sinks: Vec<Box<dyn AlertSink>>) -> Self {
        let watched = |sink| Watched { sink, unwritten: 0, refused: None, refusal_is_told: false, failing: None };
        Self { sinks: sinks.into_iter().map(watched).collect(), lines }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Hands `lines`, which are `count`, to each.
    pub fn write(&mut self, lines: &[u8], count: u64) {
        for watched in &mut self.sinks {
            let failed = watched.problem().is_some();
            watched.refused = watched.sink.append(lines).err().map(|error| error.source.to_string());
            if watched.refused.is_some() {
                watched.unwritten += count;
                watched.refusal_is_told = false;
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
            if watched.refusal_is_told && health.takes_lines == Some(true) {
                watched.refused = None;
            }
            watched.refusal_is_told = true;
            watched.changed(failed);
        }
    }

    /// Lines that were not written, by sink; none where all were.
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
            Some(format!("{}: {reason} ({} {} not written)", watched.sink.name(), watched.unwritten, self.lines))
        };
        let problems: Vec<_> = self.sinks.iter().filter_map(problem).collect();
        if problems.is_empty() { Condition::Good } else { Condition::Degraded(problems.join("; ")) }
    }
}

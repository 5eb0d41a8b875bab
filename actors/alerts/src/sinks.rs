//! The sinks, and which of them do not write.
//!
//! Invariant: each line that a sink did not write is counted for it, whether the sink refused it or failed later. A sink that fails is
//! said once, stays in the condition until it writes (or takes lines) again, and its recovery is said as well. A refusal is in the
//! condition once at least, however short it was, and does not wait for another line to leave it. Sinks that others take the place of
//! write what they took: none of it goes to the new ones, and no line is between the two.
//!
//! Bounds: a sink whose place others took is asked [`ENDING_LOOKS`] times whether it is done; then what it still holds is counted as lost.

use std::collections::BTreeMap;

use palisade_protocol::Condition;
use palisade_world::AlertSink;

/// Looks, one a second, after which a sink that others took the place of is left behind: more than one that waits for a full disk takes.
pub const ENDING_LOOKS: u32 = 45;

/// See the module.
pub struct Sinks {
    sinks: Vec<Watched>,
    /// Others took their place, so many looks ago.
    ending: Vec<(Watched, u32)>,
    /// What those that are gone did not write.
    gone: BTreeMap<String, u64>,
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
    fn new(sink: Box<dyn AlertSink>) -> Self {
        Self { sink, unwritten: 0, refused: None, refusal_is_told: false, failing: None }
    }

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
        Self { sinks: sinks.into_iter().map(Watched::new).collect(), ending: Vec::new(), gone: BTreeMap::new(), lines }
    }

    /// Lines go to these from now on. One of a name that they go to already goes on as it is, in place of the new one.
    pub fn replace(&mut self, sinks: Vec<Box<dyn AlertSink>>) {
        let mut before = std::mem::take(&mut self.sinks);
        for sink in sinks {
            let known = before.iter().position(|watched| watched.sink.name() == sink.name());
            self.sinks.push(known.map_or_else(|| Watched::new(sink), |at| before.remove(at)));
        }
        for mut watched in before {
            watched.sink.end();
            self.ending.push((watched, 0));
        }
    }

    /// Those of before that have written what they took, or had time enough to.
    fn look_at_ending(&mut self) {
        for (mut watched, looks) in std::mem::take(&mut self.ending) {
            let (waiting, health) = (watched.sink.end(), watched.sink.health());
            watched.unwritten += health.lost;
            if waiting > 0 && looks < ENDING_LOOKS {
                self.ending.push((watched, looks + 1));
                continue;
            }
            watched.unwritten += waiting;
            if waiting > 0 {
                tracing::error!(
                    sink = watched.sink.name(),
                    lines = waiting,
                    "left behind with lines that are not written"
                );
            }
            if watched.unwritten > 0 {
                *self.gone.entry(watched.sink.name().to_owned()).or_default() += watched.unwritten;
            }
        }
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
        self.look_at_ending();
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
        let mut unwritten = self.gone.clone();
        let ending = self.ending.iter().map(|(watched, _)| watched);
        for watched in self.sinks.iter().chain(ending).filter(|watched| watched.unwritten > 0) {
            *unwritten.entry(watched.sink.name().to_owned()).or_default() += watched.unwritten;
        }
        unwritten
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use palisade_world::{AlertSinkError, SinkHealth};

    use super::*;

    /// What was written where, how many lines still wait there, and how many it lost.
    #[derive(Default)]
    struct Shared {
        written: Vec<u8>,
        waiting: u64,
        lost: u64,
    }

    struct Named(&'static str, Arc<Mutex<Shared>>);

    impl AlertSink for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn append(&mut self, lines: &[u8]) -> Result<(), AlertSinkError> {
            self.1.lock().expect("whole").written.extend_from_slice(lines);
            Ok(())
        }
        fn health(&mut self) -> SinkHealth {
            SinkHealth { lost: std::mem::take(&mut self.1.lock().expect("whole").lost), ..SinkHealth::default() }
        }
        fn end(&mut self) -> u64 {
            self.1.lock().expect("whole").waiting
        }
    }

    fn named(name: &'static str) -> (Box<dyn AlertSink>, Arc<Mutex<Shared>>) {
        let shared = Arc::<Mutex<Shared>>::default();
        (Box::new(Named(name, Arc::clone(&shared))), shared)
    }

    fn written(of: &Arc<Mutex<Shared>>) -> String {
        String::from_utf8_lossy(&of.lock().expect("whole").written).into_owned()
    }

    #[test]
    fn unit_sinks_that_take_the_place_of_others_get_the_next_line_and_one_that_stays_misses_none() {
        let ((stdout, kept), (old, left)) = (named("stdout"), named("file a"));
        let mut sinks = Sinks::new("alerts", vec![stdout, old]);
        sinks.write(b"one\n", 1);
        left.lock().expect("whole").waiting = 2;
        let ((again, unused), (new, taken)) = (named("stdout"), named("file b"));
        sinks.replace(vec![again, new]);
        sinks.write(b"two\n", 1);
        assert_eq!((written(&kept), written(&left)), ("one\ntwo\n".into(), "one\n".into()));
        assert_eq!((written(&taken), written(&unused)), ("two\n".into(), String::new()));
        sinks.look();
        assert_eq!(sinks.ending.len(), 1, "it still writes");
        (left.lock().expect("whole").waiting, left.lock().expect("whole").lost) = (0, 1);
        sinks.look();
        assert!(sinks.ending.is_empty());
        assert_eq!(sinks.unwritten(), BTreeMap::from([("file a".into(), 1)]), "its count does not go with it");
    }

    #[test]
    fn unit_sinks_of_before_that_never_end_are_left_behind_with_their_lines_counted() {
        let (old, left) = named("file a");
        let mut sinks = Sinks::new("alerts", vec![old]);
        left.lock().expect("whole").waiting = 7;
        sinks.replace(Vec::new());
        (0..ENDING_LOOKS).for_each(|_| sinks.look());
        assert_eq!(sinks.unwritten(), BTreeMap::new(), "they may be written yet");
        sinks.look();
        assert_eq!(sinks.unwritten(), BTreeMap::from([("file a".into(), 7)]));
        assert_eq!((sinks.condition(), sinks.is_empty()), (Condition::Good, true));
    }
}

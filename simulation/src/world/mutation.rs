//! Ports that are broken on purpose, so that each checker is seen to catch what it is for. No run has one but the checkers' own tests.

use std::fmt;

use clap::ValueEnum;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mutation {
    /// The kernel acknowledges a second policy of a slot and goes on judging by the first.
    AcknowledgesWithoutFlip,
    /// The kernel judges executions by the new policy and all else by the one before.
    JudgesByHalves,
    /// The kernel drops records that it does not count.
    LosesSilently,
    /// Batches vanish between the rings and the probe.
    SwallowsBatches,
    /// Records name another rule than the one that decided.
    NamesAnotherRule,
    /// The kernel does not tell which slots an earlier process used.
    ForgetsWhatWasLeft,
    /// The kernel does not tell which slots an earlier process released, nor when.
    ForgetsReleases,
    /// The kernel goes on showing what it showed at the admission.
    ShowsAsBefore,
    /// Nobody is told what the configuration says anew.
    KeepsItsPostures,
    /// Two workloads get one slot.
    SharesSlots,
    /// The hook is answered by the container port itself, whatever is in force.
    AdmitsByItself,
    /// A sink panics once, which nobody injected.
    PanicsByItself,
    /// The policy directory never says that it changed.
    NeverChanges,
    /// The kernel takes no policy, ever.
    RefusesForEver,
    /// Lines vanish in a sink that says it took them.
    SwallowsLines,
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Err(fmt::Error),
        }
    }
}

//! Ports that are broken on purpose, so that each checker is seen to catch what it is for. No run has one but the checkers' own tests, and who asks for one by name.

use std::fmt;

use clap::ValueEnum;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mutation {
    /// The kernel acknowledges a second policy of a slot and goes on judging by the first.
    AcknowledgesWithoutFlip,
    /// The kernel acknowledges a second policy of the host and goes on judging by the first.
    KeepsTheHostsPolicy,
    /// The kernel judges some deeds of admitted containers as the host's.
    TakesContainersForTheHost,
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
    /// Parts of traces vanish in a store that says it took them.
    LosesPartsOfTraces,
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
    /// A sink does not say which lines it took and lost.
    CountsNoLoss,
    /// A file of lines goes on in the midst of the line that the power's loss left.
    RunsOnTornLines,
    /// Nobody syncs files of lines.
    NeverSyncsLines,
    /// Lines vanish in a sink that says it took them.
    SwallowsLines,
    /// Messages of a link vanish before the node reads them.
    SwallowsMessages,
    /// Messages of a link come twice.
    RepeatsMessages,
    /// Messages come over a link that nobody sent.
    InventsMessages,
    /// Nodes believe certificates of another authority as well.
    BelievesAnyAuthority,
    /// A node tells the others of alerts about containers that are none of its own.
    TellsOfAnother,
    /// What one node said is shown as another's word.
    ShowsAnothersWords,
    /// What is shown of the others is older than what was shown before.
    ShowsWhatWasBefore,
    /// What is shown of the others is said to have come just now.
    SaysAllIsFresh,
    /// Nodes go on believing an authority that was exchanged.
    KeepsOldAuthorities,
    /// Nodes believe the newest authority alone, before all have a certificate of it.
    ForgetsOldAuthorities,
    /// Links see no time pass: no certificate ends.
    ForgetsExpiry,
    /// Nodes get no revocation lists.
    ForgetsRevocations,
    /// Alerts vanish before who follows all nodes hears them.
    LosesFollowedLines,
    /// Alerts come twice to who follows all nodes.
    RepeatsFollowedLines,
    /// Who follows all nodes is not told what was lost, nor that no more come.
    HidesMarksOfLoss,
    /// Every peer is said to be linked.
    SaysAllIsLinked,
    /// A partition that is said to be over goes on.
    NeverMends,
    /// What waits for a peer has no bound.
    QueuesWithoutBound,
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Err(fmt::Error),
        }
    }
}

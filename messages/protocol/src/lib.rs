//! What actors say to each other.
//!
//! Names carry direction and tense: commands are imperative ([`CompilePolicy`]), facts past ([`PolicyInstalled`]), queries nouns
//! ([`ReadinessOf`]). Invariant: a message is a value that a simulation can make, keep and compare in words; what is large travels as `Arc`.
#![forbid(unsafe_code)]

mod alerting;
pub mod attribution;
mod compile;
mod configuring;
mod devices;
mod enforcing;
mod health;
pub mod observed_calls;
mod peers;
mod policy_set;
mod recording;
mod records;
mod workload;

pub use alerting::{AlertCounts, AlertCountsOf, AlertStream, LineClass, SlotCounts, SubscribeAlerts};
pub use compile::{CompilePolicy, CompiledPolicy, PolicyRefused};
pub use configuring::{SetPolicyInterval, SetPostures, SetVisibility};
pub use devices::DevicesJudged;
pub use enforcing::{InstalledPoliciesOf, NotHeld, PolicyAnnounced, PolicyInstalled, VisibilityChanged};
pub use health::{Condition, ConditionReported, Readiness, ReadinessOf};
pub use peers::{FollowNodes, NodeSeen, Nodes, NodesLine, NodesOf, NodesStream, Said};
pub use policy_set::{PolicySetChanged, PolicySetStatus, PolicySetStatusOf};
pub use recording::{
    AlertSettingsChanged, EndRecording, PolicyDocumentsChanged, RecordTrace, RecordingCounts, RecordingCountsOf,
    RecordingEnd, RecordingOutcome, RecordingOver, RecordingRefused, RecordingStream, TooSmall, UserNamesRead,
};
pub use records::{RecordAccount, RecordAccountOf, RecordsRead};
pub use workload::{
    LiveProcess, LiveProcesses, ProcessListed, ProcessesOf, WorkloadAppeared, WorkloadGone, WorkloadNamed,
    WorkloadPlaced, WorkloadStarted, WorkloadTable, WorkloadsOf,
};

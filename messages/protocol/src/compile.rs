//! Between enforcers and the policy compiler.

use std::{sync::Arc, time::Duration};

use actix::Message;
use palisade_domain::BlobId;
use palisade_kernel_abi::blob::Blob;
use palisade_policy::ir::{Rule, WorkloadRules};

/// Compile these rules, or hand out what equal rules compiled to before.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Arc<CompiledPolicy>, PolicyRefused>")]
pub struct CompilePolicy {
    /// All rules of one workload.
    pub rules: Arc<WorkloadRules>,
}

/// What rules compile to. The blob is shared by all workloads whose rules decide alike; `rules` names its rule indices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledPolicy {
    /// Content hash of the blob.
    pub id: BlobId,
    /// What the kernel and every other walker decide by.
    pub blob: Arc<Blob>,
    /// Rule index of a decision word to rule. Whoever names rules keeps these without the blob, of each slot: the list is shared.
    pub rules: Arc<[Arc<Rule>]>,
    /// Rules that no blob can decide, for they are about what only records tell: system calls on a path. Whoever reads records holds
    /// them against these.
    pub observed: Arc<[Arc<Rule>]>,
}

impl CompiledPolicy {
    /// The rule that a decision word names.
    #[must_use]
    pub fn rule(&self, index: u32) -> Option<&Arc<Rule>> {
        self.rules.get(usize::try_from(index).ok()?)
    }
}

/// The rules cannot be compiled within the bounds. The policy that was in force stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct PolicyRefused {
    /// With the numbers and the patterns that cost most.
    pub reason: String,
    /// Given where it was refused for want of time: equal rules may compile after this long, if the machine is less busy.
    pub retry_after: Option<Duration>,
}

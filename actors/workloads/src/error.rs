//! Why a container gets no slot.

/// All slots are taken or rest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no slot is free: this node holds at most {bound} workloads (--max-workloads)")]
pub struct SlotsExhausted {
    /// The number of slots.
    pub bound: u32,
}

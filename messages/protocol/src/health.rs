//! Conditions of the node, as actors report them.

use std::collections::BTreeMap;

use actix::Message;

/// An actor says how it is. The last report for a name counts.
#[derive(Debug, Clone, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct ConditionReported {
    /// What it is about: `policies`, `containers`, `slot 4`.
    pub name: String,
    /// How it is; `None` forgets the name.
    pub condition: Option<Condition>,
}

/// How something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// As it should be.
    Good,
    /// Not yet what it will be.
    Pending(String),
    /// It works, but something is not as the user asked.
    Degraded(String),
    /// It does not work.
    Failed(String),
}

/// Is the node ready?
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Readiness")]
pub struct ReadinessOf;

/// Answer to [`ReadinessOf`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Nothing is pending or failed.
    pub ready: bool,
    /// By name.
    pub conditions: BTreeMap<String, Condition>,
}

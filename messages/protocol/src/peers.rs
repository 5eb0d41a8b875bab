//! Other nodes, and what each last said.

use actix::Message;
use palisade_wire::frame::TreeRow;
use palisade_world::{Peer, TurnedAway};

/// Which nodes are linked, and what did each say of itself?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "Nodes")]
pub struct NodesOf {
    /// Ask them once more before; those that do not answer in time are as they were.
    pub fresh: bool,
}

/// Answer to [`NodesOf`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes {
    /// This node's own name among them.
    pub own: String,
    /// By name.
    pub nodes: Vec<NodeSeen>,
    /// Who dialled and was not taken up.
    pub turned_away: Vec<TurnedAway>,
    /// What is wrong with this node's own certificates.
    pub troubles: Vec<String>,
}

/// One other node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    /// Who, and how the link is.
    pub peer: Peer,
    /// Its tree as it last said.
    pub tree: Option<Said<TreeRow>>,
    /// Its last alerts as it last said: JSON, the newest last.
    pub alerts: Option<Said<String>>,
    /// Messages of it that could not be read.
    pub unreadable: u64,
}

/// What a node said, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said<T> {
    /// What.
    pub items: Vec<T>,
    /// What it left out for want of room.
    pub omitted: u64,
    /// Milliseconds since it came.
    pub age_ms: u64,
}

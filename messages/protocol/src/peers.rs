//! Other nodes, and what each last said.

use std::sync::Arc;

use actix::Message;
use palisade_wire::frame::TreeRow;
use palisade_world::{Peer, TurnedAway};
use tokio::sync::mpsc;

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

/// Tell me the alerts of all nodes as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "NodesStream")]
pub struct FollowNodes {
    /// How many past ones of each node come first, at most.
    pub recent: usize,
}

/// Answer to [`FollowNodes`]; it ends when it is dropped.
#[derive(Debug)]
pub struct NodesStream {
    /// Of each node in its order; those of different nodes as they come.
    pub lines: mpsc::Receiver<NodesLine>,
    /// Whether any come; too many follow already.
    pub follows: bool,
}

/// One line of the alerts of all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodesLine {
    /// How a node is: at first of each, then of one that changed, or of which lines are missing.
    Mark {
        /// Which; none: this node.
        peer: Option<Box<Peer>>,
        /// Lines of it that were lost since the mark before.
        lost: u64,
        /// Lines of it may be missing that nobody could count.
        gap: bool,
        /// No more come of it: too many follow its alerts, or it no longer tells them.
        ended: bool,
    },
    /// An alert: JSON, without a line feed.
    Alert(Arc<str>),
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

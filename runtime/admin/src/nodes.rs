//! The answers about other nodes, as types; beside [`crate::answers`], which are about this one.
//!
//! Invariant: whatever a node that is out last said stands beside since when it is out and how old what it said is.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answers::TreeNodeAnswer;

/// All nodes, this one first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Nodes {
    /// Each with how its link is.
    pub nodes: Vec<NodeAnswer>,
    /// The last of those that dialled this node and were not taken up.
    pub turned_away: Vec<TurnedAwayAnswer>,
    /// What is wrong with this node's own certificates.
    pub troubles: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeAnswer {
    /// As its certificate names it.
    pub node: String,
    /// `here`, `linked`, `connecting`, `refused`, `out`.
    pub state: String,
    /// Since when it is linked, or is not: RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why it is not linked: of a refusal its kind (`expired`, `unknown-authority`, `revoked`, `wrong-name` ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The words of who refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// Whether this node refused, or the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_here: Option<bool>,
    /// Where it is dialled, or dialled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// This node dials it; others only dial this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialled: Option<bool>,
    /// Two nodes show this name, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubled: Option<DoubledAnswer>,
    /// What went over the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<LinkCountsAnswer>,
    /// Milliseconds since it last told its tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_age_ms: Option<u64>,
    /// Milliseconds since it last told its alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts_age_ms: Option<u64>,
}

/// Two nodes with copies of one certificate: each takes the link from the other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoubledAnswer {
    /// Where both are.
    pub addresses: Vec<String>,
    /// How often one took the link back from the other.
    pub times: u64,
    /// When last: RFC 3339.
    pub last: String,
    /// The same in words.
    pub said: String,
}

/// What went over a link since this node started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LinkCountsAnswer {
    /// Messages that were taken to be sent.
    pub sent: u64,
    /// Of those, how many the peer said to have.
    pub taken_by_peer: u64,
    /// Messages of the peer.
    pub received: u64,
    /// Messages that were refused for want of room.
    pub refused: u64,
    /// Messages that may have been lost because the peer began anew.
    pub lost: u64,
    /// Times it was linked.
    pub linked: u64,
    /// Bytes that wait until the peer has them.
    pub waiting_bytes: u64,
    /// Messages that were not understood.
    pub unreadable: u64,
}

/// Who dialled this node and was not taken up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TurnedAwayAnswer {
    /// From where.
    pub address: String,
    /// `expired`, `unknown-authority`, `revoked`, `wrong-name` ...
    pub why: String,
    /// The words of who refused.
    pub said: String,
    /// Whether this node refused, or the other.
    pub refused_here: bool,
    /// How often.
    pub times: u64,
    /// When last: RFC 3339.
    pub last: String,
}

/// The trees of all nodes, this one's first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trees {
    /// A node for each.
    pub nodes: Vec<NodeTree>,
}

/// `/v1/tree`: by what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum TreeOrTrees {
    /// This node's.
    One(Box<TreeNodeAnswer>),
    /// With `nodes=all`.
    All(Trees),
}

/// The tree of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeTree {
    /// Whose, and how old.
    pub node: NodeAnswer,
    /// From the root on, children behind their parent; none where it never told.
    pub rows: Vec<TreeRowAnswer>,
    /// Rows that were left out for want of room.
    pub omitted: u64,
}

/// One supervisor or actor of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TreeRowAnswer {
    /// 0 for the root.
    pub level: u32,
    /// Unique among its siblings.
    pub name: String,
    /// `supervisor one-for-one`, or the actor's type.
    pub kind: String,
    /// As in `/v1/tree`.
    pub state: String,
    /// Times it was started again.
    pub restarts: u64,
    /// Milliseconds since its start, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// Messages that wait; none for supervisors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<u64>,
    /// Most messages that may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Messages handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<u64>,
    /// Messages lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<u64>,
    /// How its last failure came about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The first lines of `/v1/alerts?nodes=all`: one for each node whose alerts follow, so that a node that is out is seen; and where one
/// follows, one more whenever a node goes out, comes back, or lost some.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct NodeMark {
    /// Whose alerts are among the following, and how old what it said is.
    pub link: NodeAnswer,
    /// Of those that were asked of it, how many it left out for want of room; while one follows, lost since the mark before.
    pub omitted: u64,
    /// What else is to be known: that some may be missing which nobody counted, or that no more come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A line of `/v1/alerts?nodes=all&follow=true`.
#[derive(Debug, Clone, PartialEq)]
pub enum AllLine {
    /// Of a node that went out or came back, or of which lines are missing.
    Mark(Box<NodeMark>),
    /// An alert: JSON without a line feed.
    Alert(Arc<str>),
}

/// They come until who reads them goes.
pub type AllLines = Pin<Box<dyn Stream<Item = AllLine> + Send>>;

/// Alerts of all nodes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AllAlerts {
    /// A mark for each node, this one first.
    pub marks: Vec<NodeMark>,
    /// JSON lines without line feeds, the newest last.
    pub lines: Vec<String>,
}

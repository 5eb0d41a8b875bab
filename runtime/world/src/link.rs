//! Links to other nodes as a port: peers by name, messages out and in, and how each link is.
//!
//! A message that was taken arrives once and in order, as long as both processes live, whatever happens to connections between; where one
//! of them begins anew, what it had not acted on is gone with it. A message lost is a delay, never a wrong verdict.
//!
//! Back-pressure: a link keeps at most so many bytes that its peer did not take; what comes after is refused ([`SendError::Full`]) or waits
//! ([`Link::send`]). A peer whose reader is slow takes no more than its own bound.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use palisade_domain::{NodeName, Refusal, UnixNanos};

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not linked yet since this node started.
    Connecting,
    /// Messages go both ways.
    Linked {
        /// Since when.
        since: UnixNanos,
    },
    /// One of both does not want the other. It is tried again, for certificates change.
    Refused {
        /// Why.
        why: Refusal,
        /// In the words of who refused.
        said: String,
        /// By this node, or by the peer.
        by_us: bool,
        /// Since when it is not linked.
        since: UnixNanos,
    },
    /// It was linked, or could not be, and is not.
    Out {
        /// Why.
        why: String,
        /// Since when.
        since: UnixNanos,
    },
}

impl LinkState {
    /// Whether messages go both ways.
    #[must_use]
    pub const fn is_linked(&self) -> bool {
        matches!(self, Self::Linked { .. })
    }
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: NodeName,
    /// Where it is dialled, or where it dialled from.
    pub address: Option<std::net::SocketAddr>,
    /// This node dials it; others only dial this one.
    pub dialled: bool,
    /// How the link is.
    pub state: LinkState,
    /// What went over it.
    pub counts: LinkCounts,
    /// Two nodes show its name, where that is known.
    pub doubled: Option<Doubled>,
}

/// Two nodes with copies of one certificate: each takes the link from the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubled {
    /// Where they are; who is linked now last.
    pub addresses: [std::net::SocketAddr; 2],
    /// How often one took the link back from the other.
    pub times: u64,
    /// When last.
    pub last: UnixNanos,
}

impl fmt::Display for Doubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, other] = self.addresses;
        write!(f, "two nodes, at {one} and at {other}, show copies of one certificate: give each its own")
    }
}

/// A node that dialled and was not taken up. Of some, such as those of another authority, no name can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnedAway {
    /// From where.
    pub address: std::net::SocketAddr,
    /// Why.
    pub why: Refusal,
    /// In the words of who refused.
    pub said: String,
    /// By this node, or by who dialled.
    pub by_us: bool,
    /// How often from that address for that reason.
    pub times: u64,
    /// When last.
    pub last: UnixNanos,
}

/// What went over a link since this node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounts {
    /// Messages that were taken to be sent.
    pub sent: u64,
    /// Messages that the peer said to have.
    pub taken_by_peer: u64,
    /// Messages from the peer.
    pub received: u64,
    /// Messages that were refused for want of room.
    pub refused: u64,
    /// Messages that may have been lost because the peer, or what it remembers, began anew.
    pub lost: u64,
    /// Times it was linked.
    pub linked: u64,
    /// Bytes that wait until the peer has them.
    pub waiting_bytes: u64,
    /// The most bytes that ever waited.
    pub most_waiting_bytes: u64,
}

/// What happens on links, in the order in which it does for each peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is other than it was.
    Changed {
        /// To whom.
        peer: NodeName,
        /// How it is now.
        state: LinkState,
    },
    /// Messages came: at least one.
    Received {
        /// From whom.
        peer: NodeName,
        /// In order.
        messages: Vec<Bytes>,
    },
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer has not taken what was sent before.
    #[error("the peer is slow: no room for more")]
    Full,
    /// Nobody of that name.
    #[error("no peer of that name")]
    UnknownPeer,
    /// It is longer than a frame can be.
    #[error("the message is longer than a frame")]
    TooLong,
    /// The node stops.
    #[error("the links are closed")]
    Closed,
}

/// Links to other nodes.
#[async_trait]
pub trait Link: Send + Sync {
    /// This node's own name.
    fn own_name(&self) -> &NodeName;

    /// All peers, by name: those that are dialled, and those that dialled.
    fn peers(&self) -> Vec<Peer>;

    /// The last of those that dialled and were not taken up: a few.
    fn turned_away(&self) -> Vec<TurnedAway>;

    /// What is wrong with the node's own certificates, in words; empty where nothing is.
    fn troubles(&self) -> Vec<String>;

    /// Takes a message to send, or hands back why not.
    ///
    /// # Errors
    /// See [`SendError`]. [`SendError::Full`] is counted.
    fn try_send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError>;

    /// Takes a message to send as soon as there is room.
    ///
    /// # Errors
    /// See [`SendError`]; never [`SendError::Full`].
    async fn send(&self, peer: &NodeName, message: Bytes) -> Result<(), SendError>;

    /// The next event; `None` when the links are closed. One reader at a time: events go to whoever asks.
    async fn next(&self) -> Option<LinkEvent>;
}

//! Who the other nodes are, and what each last said of its tree and alerts.
//!
//! - *Owns*: the last answers of each peer with when they came; the questions that are open. Who is a peer, and how its link is, the
//!   [`Link`](palisade_world::Link) knows.
//! - *Hears*: messages and changes of links; [`NodesOf`](palisade_protocol::NodesOf), [`FollowNodes`](palisade_protocol::FollowNodes); its own timer: each second it looks whom to ask.
//! - *Says*: questions and answers to peers ([`palisade_wire::frame::Message`]); [`SubscribeAlerts`](palisade_protocol::SubscribeAlerts)
//!   for the answers about its own node; the condition `links`.
//! - *Bounds*: as many peers as the link has, of each one tree and [`state::RECENT`] alerts, at most
//!   [`LONGEST_ANSWER`](palisade_wire::frame::LONGEST_ANSWER) bytes of text each; [`actor::WAITING`] who wait for fresh answers; a peer is
//!   answered at most each [`state::ANSWER_EVERY`]; [`follow::FOLLOWERS`] who follow the alerts of all nodes, with [`follow::FOLLOWER_LINES`]
//!   lines each, and [`follow::FOLLOWED`] elsewhere who follow those of this one.
//! - *On restart*: it knows no answers and asks all peers at once; who waits is told that it was lost, who follows that the stream ended.
//! - *On overload*: what a follower or a link has no room for is lost, counted, and said to the follower.
//!   a question or an answer that finds no room on its link is dropped; it is asked again in [`state::ASK_EVERY`].
//!
//! What peers say is shown, never acted on: no decision of a node depends on another's word here.
#![forbid(unsafe_code)]

pub mod actor;
pub mod follow;
mod following;
pub mod state;

pub use actor::{Peers, Wiring};

#[cfg(test)]
mod tests;

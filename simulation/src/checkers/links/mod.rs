//! What must hold of links between nodes, by what nodes say at the link port and in their answers, and by what truly lay between them.
//!
//! | checker | what it holds |
//! |---|---|
//! | [`messages`] | what a node hears of another was said by it, in that order, once; what is missing is counted as lost; at rest nothing is on its way for long |
//! | [`trust`] | nobody is linked whose certificate was taken back, or is of another authority |
//! | [`sight`] | who cannot be reached is named as out within a bound, who can be as linked; a link that nothing disturbs stands |
//! | [`hearsay`] | what a node shows of another was said by it, none older than what was shown before, its age true; and what a node says of itself is so |
//! | [`following`] | who follows the alerts of all nodes hears each node's in its order, none twice; what is missing is said, and that no more come |
//! | [`queues`] | what waits for a peer keeps to its bound, and so do the tables of peers |

pub mod following;
pub mod hearsay;
pub mod messages;
pub mod queues;
pub mod sight;
pub mod trust;

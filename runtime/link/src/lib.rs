//! Links between nodes: QUIC with mutual TLS, messages that are resumed where they broke off. The adapter of [`palisade_world::Link`].
//!
//! ```text
//! try_send ──► queue (numbers, digests, a bound) ──► batches of up to 64 KiB ──► QUIC stream ──► inbox (a bound) ──► next
//!                 ▲                                                                                │
//!                 └────────────── "I have up to N", on a stream of its own ◄───────────────────────┘
//! ```
//!
//! - **Who**: a node is its certificate's DNS name. Each side shows a certificate of an authority that the other trusts; one that is expired,
//!   of another authority, taken back or of another name is refused by the alert that TLS has for it, and both sides say why
//!   ([`palisade_domain::Refusal`]). [`authority`] makes certificates for who has no authority; files made elsewhere do as well.
//! - **Rotation**: certificate, key, authorities and lists are read again each second. New ones count for what links from then on; a link
//!   that stands moves to a new connection, and is looked at by the new lists at once. What is not sound changes nothing, and is said.
//! - **Lists**: a revocation list past its date still counts, and is said (see [`examine`]).
//! - **Resumption**: each message has a number and a digest of all before it. On a new connection each side says what it last took, and the
//!   other goes on from there: a broken connection loses and repeats nothing. A process that begins anew knows of no messages.
//! - **Back-pressure**: `queue_bytes` wait here for a peer, QUIC's window and `inbox_bytes` at the peer; a sender waits or is refused.
//! - **Determinism**: tasks run at a [`palisade_supervision::Place`], timers are tokio's, sockets, wall clock and randomness are ports, every
//!   `select!` is biased and no hash map is iterated: under a paused runtime, one seed gives the same packets, byte for byte.
//!
//! Nothing outside this crate knows quinn.
#![forbid(unsafe_code)]

mod arriving;
pub mod authority;
mod backoff;
mod credentials;
pub mod crypto;
mod doorway;
mod ended;
mod entry;
pub mod examine;
mod files;
mod handshake;
mod inbound;
mod links;
mod lists;
mod lives;
mod machine;
mod outbound;
mod peer;
mod quic;
mod reader;
mod renewal;
mod rng;
mod session;
mod strangers;
mod stream;
mod verify;
mod watched;
mod words;

pub use backoff::Backoff;
pub use credentials::{CredentialSource, Credentials, CredentialsError, Own, Part, Reading, Separate, Text};
pub use files::{CredentialFiles, LARGEST_FILE};
pub use links::{LinkConfig, LinkError, Links, NODE_BYTES, Ports};
pub use quic::{LONGEST_DATAGRAM, Socket, Transport};
pub use rng::MachineRng;
pub use strangers::Cause;

#[cfg(test)]
mod tests;

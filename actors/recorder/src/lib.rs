//! Keeps the last minutes of records in memory, and makes traces of them: for who asks, and by itself around alerts.
//!
//! - *Owns*: the ring of the last records and facts, compressed; what was so at its first and last moment; the recordings that run.
//! - *Hears*: [`RecordsRead`](palisade_protocol::RecordsRead), [`WorkloadNamed`](palisade_protocol::WorkloadNamed),
//!   [`WorkloadPlaced`](palisade_protocol::WorkloadPlaced), [`WorkloadGone`](palisade_protocol::WorkloadGone),
//!   [`VisibilityChanged`](palisade_protocol::VisibilityChanged), [`PolicyDocumentsChanged`](palisade_protocol::PolicyDocumentsChanged),
//!   [`PolicyAnnounced`](palisade_protocol::PolicyAnnounced), [`PolicyInstalled`](palisade_protocol::PolicyInstalled),
//!   [`AlertSettingsChanged`](palisade_protocol::AlertSettingsChanged), [`UserNamesRead`](palisade_protocol::UserNamesRead),
//!   [`RecordTrace`](palisade_protocol::RecordTrace), [`EndRecording`](palisade_protocol::EndRecording).
//! - *Says*: bytes of traces to who asked for them, and to the store; [`ConditionReported`](palisade_protocol::ConditionReported): whether the
//!   store keeps them; asks the probe each second what the kernel lost.
//! - *Bounds*: the ring has so many bytes and so many minutes ([`state::Settings`]), both compressed blocks; one open block beside it
//!   ([`palisade_wire::trace::BLOCK_BYTES`] and a batch); [`state::RECORDINGS`] recordings, each with [`actor::CHUNKS`] chunks on their way.
//! - *On restart*: what is so now outlives it (the factory keeps it, since it is said once); the ring begins anew, and recordings end.
//! - *On overload*: a batch that finds the small mailbox full is shed, and its records are missing by their numbers, which the trace
//!   says; a reader that does not keep up falls behind in the ring and loses what the ring forgets, counted in its own trace. Nobody
//!   else waits: batches are held no longer than they take to copy.
//!
//! Decision: a recording is a place in the ring that moves on, and not a queue of its own: the last minutes and what comes are one stream,
//! and what a slow reader costs is bounded by what the ring costs anyway.
//!
//! Arguments of processes are overwritten before they are kept, unless the node was started to keep them or a recording that asked for
//! them runs; what was kept with them is redacted for recordings that did not ask.
#![forbid(unsafe_code)]

pub mod actor;
pub mod recording;
pub mod ring;
pub mod state;
mod trigger;

pub use actor::{Recorder, Wiring};

#[cfg(test)]
mod tests;

//! The ports: what production and simulation each provide to the actors.
//!
//! Invariant: traits and plain values only. An actor sees the world through these and nothing else; an adapter (`runtime/kernel`,
//! `runtime/containers`, ...) implements exactly one of them for production. Time is a value that a port hands out, never ambient.
#![forbid(unsafe_code)]

mod alert_sink;
mod clock;
mod containers;
mod datagrams;
mod devices;
mod enforcement;
pub mod fault;
mod link;
mod passwd;
mod policy_directory;
mod records;
mod rng;
mod trace_store;
pub mod visibility;

pub use alert_sink::{AlertSink, AlertSinkError, SYNC_EVERY, SinkHealth};
pub use clock::{BootNanos, Clock};
pub use containers::{Admission, Container, ContainerChange, Containers, ContainersError};
pub use datagrams::Datagrams;
pub use devices::{DeviceJudged, Devices, DevicesSeen};
pub use enforcement::{
    Absence, Capability, CapabilityState, ContainerPlace, Enforcement, EnforcementError, Gap, HeldFamily, Installed,
    KernelMatrix, KernelMemory, LeftBehind, Membership, RefusedProgram,
};
pub use fault::fault_point;
pub use link::{Doubled, Link, LinkCounts, LinkEvent, LinkState, Peer, SendError, TurnedAway};
pub use passwd::{PasswdAnswer, PasswdCandidate, PasswdOf, PasswdReader};
pub use policy_directory::{
    LastGood, LastGoodError, PolicyDirectory, PolicyDirectoryError, PolicyFile, PolicyReading, UnreadableFile,
};
pub use records::{Loss, LossReason, RecordBatch, RecordSource, RecordSourceError};
pub use rng::Rng;
pub use trace_store::{TraceStore, TraceStoreError};

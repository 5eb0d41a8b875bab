//! The admin endpoint: REST, metrics and the live tree, on a Unix socket and on loopback.
//!
//! Never open: the socket belongs to its owner alone (mode 0600), and the loopback port answers only to the bearer token of
//! [`AdminAddress::loopback`], also for health. It changes nothing of what is enforced; no request has a body, and one that brings more than [`MAX_BODY_BYTES`] is refused.
//!
//! Everything shown comes through [`AdminView`], so that this crate knows neither actors nor the kernel.
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | `200` while the process turns its loop |
//! | `GET /readyz` | conditions by name; `503` while one is pending or failed |
//! | `GET /metrics` | Prometheus text, or OpenMetrics for who accepts it |
//! | `GET /v1/openapi.json` | all of this, for machines |
//! | `GET /v1/tree` | the supervision tree, live; `?nodes=all`: those of all linked nodes |
//! | `GET /v1/nodes` | the nodes that are linked, or should be, and who was turned away |
//! | `GET /v1/tree/events` | the same as server-sent events, with what changes |
//! | `GET /v1/workloads`, `/v1/policies`, `/v1/kernel` | as named |
//! | `GET /v1/activity` | cumulative counts of records and alerts, in all and by workload |
//! | `GET /v1/processes?workload=NAME` | the living processes of a workload |
//! | `POST /v1/record?last=S&duration=S&limit_bytes=N&arguments=BOOL&workload=NAME,...` | a trace, as it is made; the header `Palisade-Recording` has its id |
//! | `POST /v1/record/end?id=N` | ends that trace whole: what is there until now, and its index |
//! | `GET /v1/alerts?recent=N&follow=BOOL&filter=policy\|system\|all&limit=N&FILTER=...` | JSON lines; `&nodes=all`: of all linked nodes |
#![forbid(unsafe_code)]

pub mod answers;
mod error;
mod filter;
mod metrics;
pub mod nodes;
mod openapi;
mod routes;
mod server;
mod token;
mod tree_events;
mod view;

pub use error::AdminError;
pub use metrics::{Exposition, Metric, MetricKind, exposition};
pub use server::{AdminAddress, AdminServer, Bound, MAX_BODY_BYTES, serve};
pub use token::Token;
pub use view::{AdminView, AlertLines, Document, LineFilter, RecordingBegun, RecordingRequest, TraceBytes, ViewError};

#[cfg(test)]
mod tests;

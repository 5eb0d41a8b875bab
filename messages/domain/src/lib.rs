//! The nouns of the product: ids, workloads, verdicts, alerts.
//!
//! Invariant: plain values. Nothing here does I/O, reads a clock or knows a kernel layout; a number carries its unit in its type or name.
#![forbid(unsafe_code)]

mod alert;
mod capability;
mod device;
mod enforcement;
mod id;
mod kubearmor;
mod link;
mod operation;
pub mod text;
mod visibility;
mod workload;

pub use alert::{
    Alert, AlertAction, AlertProcess, AlertRule, AlertWorkload, HeldBack, Line, Log, NotHeldPart, Subject, Throttling,
};
pub use capability::CAPABILITIES;
pub use device::{DEVICE_CLASSES, DeviceClass, DeviceDecision, DeviceMatch, DeviceRule, DeviceRules, UsbDevice};
pub use enforcement::{Action, Family, OnUnknownWorkload, Posture, Tier, Verdict};
pub use id::{BlobId, CgroupId, ContainerId, Generation, PolicyKind, PolicyRef, Slot, UnixNanos};
pub use kubearmor::{ExecEvent, KubeArmorFields, KubeArmorOperation, KubeArmorProcess, LineType, PodOwner};
pub use link::{InvalidNodeName, NodeName, Refusal};
pub use operation::Operation;
pub use visibility::{UnknownVisibility, Visibility, VisibilityClass};
pub use workload::{Workload, WorkloadKind};

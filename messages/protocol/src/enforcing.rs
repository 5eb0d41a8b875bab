//! What enforcers say of the policies that they hold.

use std::sync::Arc;

use actix::Message;
use palisade_domain::{Generation, PolicyRef, Slot, Visibility};
use palisade_world::Installed;

use crate::CompiledPolicy;

/// From now on decisions for this slot may name rules of this policy: said before it is put in force, which may yet fail.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct PolicyAnnounced {
    /// For whom.
    pub slot: Slot,
    /// Of which set.
    pub generation: Generation,
    /// What; `None` where no policy selects the workload.
    pub policy: Option<Arc<CompiledPolicy>>,
}

/// A policy is in force for a slot.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct PolicyInstalled {
    /// For whom.
    pub slot: Slot,
    /// Of which set.
    pub generation: Generation,
    /// What; `None` where no policy selects the workload.
    pub policy: Option<Arc<CompiledPolicy>>,
    /// By what means, and what they cannot hold.
    pub installed: Installed,
    /// What the workload's policies ask for and nothing holds.
    pub not_held: Arc<[NotHeld]>,
}

/// Something that a policy asks for and that is not held, with all rules of the policy that ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotHeld {
    /// Which policy.
    pub policy: Arc<PolicyRef>,
    /// What of the policy language: `readOnly`, `apparmor`, `preset:protectEnv`.
    pub what: String,
    /// Why not.
    pub reason: String,
    /// Where in the policy; the first few places.
    pub places: Vec<String>,
    /// How many rules or fields.
    pub count: usize,
}

/// What is in force for each slot.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<PolicyInstalled>")]
pub struct InstalledPoliciesOf;

/// Which classes of acts are seen of a slot from now on; one of which nobody says it has the node's default.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct VisibilityChanged {
    /// Of whom.
    pub slot: Slot,
    /// What.
    pub visibility: Visibility,
}

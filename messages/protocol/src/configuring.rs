//! What can be changed while a node runs, told to the actors that own it.

use std::time::Duration;

use actix::Message;
use palisade_domain::{Slot, Visibility};
use palisade_policy::ir::Postures;

/// Hold what no Allow rule names to these global postures from now on; a new generation, if they differ.
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct SetPostures {
    /// For namespaces that say nothing else.
    pub postures: Postures,
}

/// What is seen of a workload from now on of which no namespace says it.
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct SetVisibility {
    /// Of each workload.
    pub visibility: Visibility,
    /// Of the host.
    pub host: Visibility,
}

impl SetVisibility {
    /// What it says of a slot's workload.
    #[must_use]
    pub fn of(&self, slot: Slot) -> Visibility {
        if slot == Slot::HOST { self.host } else { self.visibility }
    }
}

/// Look at the policy directory this often from now on.
#[derive(Debug, Clone, Copy, Message, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct SetPolicyInterval {
    /// Between two looks.
    pub interval: Duration,
}

//! Which default postures hold in a rehearsal: those that are given for it, else those that the trace was recorded under, else those that a
//! node has where nobody says any (audit).

use palisade_domain::Posture;
use palisade_policy::ir::Postures;
use serde::Serialize;

/// What is given, by family; none: as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// Exec and open.
    pub file: Option<Posture>,
    /// Sockets, destinations and DNS.
    pub network: Option<Posture>,
    /// Capabilities and ptrace.
    pub capabilities: Option<Posture>,
}

/// Who said a posture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// Given for the rehearsal.
    Given,
    /// Recorded in the trace.
    Recorded,
    /// Nobody: what a node has then.
    Default,
}

/// The posture of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Of {
    /// Which.
    pub posture: Posture,
    /// By whom.
    pub by: Said,
}

/// Those that held for some of what was judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Exec and open.
    pub file: Of,
    /// Sockets, destinations and DNS.
    pub network: Of,
    /// Capabilities and ptrace.
    pub capabilities: Of,
}

impl Held {
    pub(super) fn new(given: Given, recorded: Option<Postures>) -> Self {
        let of = |given: Option<Posture>, of: fn(Postures) -> Posture| match (given, recorded) {
            (Some(posture), _) => Of { posture, by: Said::Given },
            (None, Some(recorded)) => Of { posture: of(recorded), by: Said::Recorded },
            (None, None) => Of { posture: of(Postures::default()), by: Said::Default },
        };
        Self {
            file: of(given.file, |all| all.file),
            network: of(given.network, |all| all.network),
            capabilities: of(given.capabilities, |all| all.capabilities),
        }
    }

    pub(super) const fn postures(self) -> Postures {
        Postures {
            file: self.file.posture,
            network: self.network.posture,
            capabilities: self.capabilities.posture,
            device: Posture::Audit,
        }
    }
}

//! Why the kernel holds no policy, as a value that a state can keep.

/// What the enforcement port said, in words: its error is not a value that can be cloned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnforcementFailed(pub String);

impl From<palisade_world::EnforcementError> for EnforcementFailed {
    fn from(error: palisade_world::EnforcementError) -> Self {
        Self(error.to_string())
    }
}

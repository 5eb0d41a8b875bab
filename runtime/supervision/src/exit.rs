//! How one generation of a child ended, with the words for people.

use crate::policy::ExitKind;
use std::{any::Any, fmt};

/// How one generation of a child ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The actor stopped by itself.
    Normal,
    /// The supervisor asked for it.
    Stopped,
    /// A handler, a timer, `started` or `stopping` panicked.
    Panicked(String),
    /// The factory panicked or returned an error.
    NotBuilt(String),
    /// Its thread or runtime ended under it.
    PlaceGone,
    /// The start was not acknowledged in time.
    StartTimedOut,
    /// A supervisor gave up on its children.
    GaveUp(GaveUp),
}

impl Exit {
    /// The part that decisions need.
    #[must_use]
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::Normal => ExitKind::Normal,
            Self::Stopped => ExitKind::Stopped,
            Self::Panicked(_) | Self::NotBuilt(_) | Self::PlaceGone | Self::StartTimedOut | Self::GaveUp(_) => {
                ExitKind::Failed
            }
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped by itself"),
            Self::Stopped => f.write_str("stopped as asked"),
            Self::Panicked(why) => write!(f, "panicked: {why}"),
            Self::NotBuilt(why) => write!(f, "could not be built: {why}"),
            Self::PlaceGone => f.write_str("its place is gone"),
            Self::StartTimedOut => f.write_str("did not acknowledge its start in time"),
            Self::GaveUp(gave_up) => write!(f, "{gave_up}"),
        }
    }
}

/// A supervisor stopped all its children because one failed once too often.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("supervisor {supervisor} gave up: too many restarts, last {child} {last_error}")]
pub struct GaveUp {
    /// The supervisor.
    pub supervisor: String,
    /// The child whose failure was one too many.
    pub child: String,
    /// How that child ended.
    pub last_error: String,
}

/// The text of a panic payload.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<String>(), payload.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => "a panic without text".to_owned(),
    }
}

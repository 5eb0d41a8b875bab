//! What outlives the generations of an actor: knowledge that nobody tells it again.
//!
//! A factory holds one and hands a clone to each generation. It is for facts that are said once and stay true (which slot a container
//! has, the last sound version of a file); what can be asked for again belongs to the generation and goes with it.
//!
//! Invariant: one generation at a time uses it, so the lock is never waited for. Decision: the value is shared as it is, also after a
//! panic; who keeps something here changes it in steps that each leave it whole. A value that makes every generation crash is
//! thrown away with the process, by escalation.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub struct Kept<T>(Arc<Mutex<T>>);

// A derived one would ask `T: Clone`.
impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Kept<T> {
    /// Keeps `value`.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// The value; also what a generation that panicked left of it.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Where an actor runs: a port, so that the same tree runs on arbiter threads and in one simulated node.
//!
//! Invariant: an actor's factory, handlers, timers and destructor all run at its place, nowhere else.
//! Decision: an own port, not `actix::Arbiter` in signatures, because arbiters are threads, and threads, thread-local
//! registries and `Arbiter::current` are what a deterministic run must not have.

use crate::pulse::Pulse;
use actix_rt::{Arbiter, ArbiterHandle};
use std::{future::Future, io, pin::Pin, sync::Arc};

/// A task that is built at its place, because what it owns cannot move between threads.
pub type PlacedTask = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The thread or runtime is gone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the place {0} is gone")]
pub struct PlaceGone(pub String);

/// Where an actor runs.
pub trait Place: Send + Sync {
    /// For the tree and for logs.
    fn name(&self) -> &str;
    /// Builds the task there and runs it to its end.
    ///
    /// # Errors
    /// [`PlaceGone`] when it takes no more tasks.
    fn run(&self, task: PlacedTask) -> Result<(), PlaceGone>;
    /// Its sign of life.
    fn pulse(&self) -> Arc<Pulse>;
}

/// The `LocalSet` that the supervisors themselves run in: a simulated node, a test, or the main thread.
#[derive(Debug, Default, Clone)]
pub struct Here {
    pulse: Arc<Pulse>,
}

impl Here {
    /// As the `Arc` that specifications take.
    #[must_use]
    pub fn place() -> Arc<dyn Place> {
        Arc::new(Self::default())
    }

    /// The same with a sign of life, so that a [`Watchdog`](crate::Watchdog) can watch the main thread as well. Must be
    /// called within the `LocalSet`.
    #[must_use]
    pub fn beating() -> Arc<dyn Place> {
        let here = Self::default();
        tokio::task::spawn_local(Pulse::keep_beating(Arc::downgrade(&here.pulse)));
        Arc::new(here)
    }
}

impl Place for Here {
    fn name(&self) -> &str {
        "here"
    }
    fn run(&self, task: PlacedTask) -> Result<(), PlaceGone> {
        tokio::task::spawn_local(task());
        Ok(())
    }
    fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

/// An arbiter: one thread with its own event loop. The thread ends when the last `Arc` of the place goes.
#[derive(Debug)]
pub struct ArbiterThread {
    name: String,
    handle: ArbiterHandle,
    pulse: Arc<Pulse>,
}

impl ArbiterThread {
    /// Starts the thread. Must be called on a thread with an actix `System`.
    ///
    /// # Errors
    /// No system on this thread, or the thread or its runtime cannot be made.
    pub fn start(name: &str) -> io::Result<Arc<Self>> {
        if actix_rt::System::try_current().is_none() {
            return Err(io::Error::other("no actix System on this thread"));
        }
        let arbiter = Arbiter::try_new()?;
        let pulse = Arc::new(Pulse::default());
        arbiter.spawn(Pulse::keep_beating(Arc::downgrade(&pulse)));
        Ok(Arc::new(Self { name: name.to_owned(), handle: arbiter.handle(), pulse }))
    }
}

impl Place for ArbiterThread {
    fn name(&self) -> &str {
        &self.name
    }
    fn run(&self, task: PlacedTask) -> Result<(), PlaceGone> {
        // `spawn_fn` runs inside the arbiter's own LocalSet.
        let taken = self.handle.spawn_fn(move || {
            tokio::task::spawn_local(task());
        });
        if taken { Ok(()) } else { Err(PlaceGone(self.name.clone())) }
    }
    fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }
}

impl Drop for ArbiterThread {
    fn drop(&mut self) {
        self.pulse.retire();
        self.handle.stop();
    }
}

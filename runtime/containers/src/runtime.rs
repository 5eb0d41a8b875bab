//! What is asked of a container runtime, whichever API it speaks.

use std::path::Path;

use async_trait::async_trait;
use palisade_world::ContainersError;

use crate::{identity::Metadata, roster::Key};

/// The events that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A task's init was let go.
    Started { key: Key, pid: u32 },
    /// A task's init ended, or its task was deleted. `pid` 0 where the runtime does not know it.
    Ended { key: Key, pid: u32 },
    /// Labels, perhaps, are others now.
    Updated { key: Key },
    /// The container is no more.
    Deleted { key: Key },
}

impl Event {
    /// Of which container.
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Started { key, .. } | Self::Ended { key, .. } | Self::Updated { key } | Self::Deleted { key } => key,
        }
    }
}

/// A task with an init process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub key: Key,
    pub pid: u32,
}

/// What runs.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    pub known: Vec<Task>,
    /// Containers of which the runtime cannot say it now: while one of a pod waits in its hook, containerd's shim answers for none of that pod.
    pub unsure: Vec<Key>,
}

/// One connection to a runtime. Every call has a deadline of its own.
#[async_trait(?Send)]
pub(crate) trait Runtime: Sized {
    /// For messages.
    const NAME: &'static str;

    /// Whether the end of a container that its hook announced is told however short it lived.
    const TELLS_EVERY_END: bool;

    /// Connects; every change from now on is told by [`Runtime::next`].
    async fn connect(address: &Path) -> Result<Self, ContainersError>;

    /// Whether it answers at all.
    async fn alive(&self) -> Result<(), ContainersError>;

    /// All that have an init process: created (it waits to be let go), running, paused.
    async fn tasks(&mut self) -> Result<Tasks, ContainersError>;

    /// The pid of the container's init; `None` where it has none or that has ended.
    async fn init_pid(&self, key: &Key) -> Result<Option<u32>, ContainersError>;

    /// What the runtime holds of a container or sandbox; `None` where there is none of the id.
    async fn metadata(&self, key: &Key) -> Result<Option<Metadata>, ContainersError>;

    /// The same of a container that waits in its hook, whose bundle is there.
    async fn announced(&self, key: &Key, bundle: &Path) -> Result<Option<Metadata>, ContainersError>;

    /// The next event; an error ends the connection. Cancel safe.
    async fn next(&mut self) -> Result<Event, ContainersError>;

    /// What a container is called here that its hook calls so.
    fn key_of(namespace: &str, id: &str) -> Key;
}

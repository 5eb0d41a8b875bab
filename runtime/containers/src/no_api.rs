//! No runtime's API at all: only hooks tell of containers here, by their bundles; what runs is seen by the cgroup tree.

use std::path::Path;

use async_trait::async_trait;
use palisade_world::ContainersError;

use crate::{
    identity::Metadata,
    roster::Key,
    runtime::{Event, Runtime, Tasks},
};

/// Nobody to ask.
#[derive(Debug)]
pub(crate) struct NoApi;

#[async_trait(?Send)]
impl Runtime for NoApi {
    const TELLS_EVERY_END: bool = false;
    const NAME: &'static str = "nobody";

    async fn connect(_: &Path) -> Result<Self, ContainersError> {
        Ok(Self)
    }

    async fn alive(&self) -> Result<(), ContainersError> {
        Ok(())
    }

    async fn tasks(&mut self) -> Result<Tasks, ContainersError> {
        Ok(Tasks::default())
    }

    async fn init_pid(&self, _: &Key) -> Result<Option<u32>, ContainersError> {
        Ok(None)
    }

    async fn metadata(&self, _: &Key) -> Result<Option<Metadata>, ContainersError> {
        Ok(None)
    }

    async fn announced(&self, _: &Key, _: &Path) -> Result<Option<Metadata>, ContainersError> {
        Ok(None)
    }

    async fn next(&mut self) -> Result<Event, ContainersError> {
        std::future::pending().await
    }

    fn key_of(namespace: &str, id: &str) -> Key {
        Key { namespace: namespace.to_owned(), id: id.to_owned() }
    }
}

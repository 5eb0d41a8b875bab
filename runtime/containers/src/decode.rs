//! What other processes wrote, read by the very functions that a node reads it by, from bytes alone: for fuzz targets.

use std::path::Path;

use palisade_domain::{CgroupId, ContainerId};
use palisade_world::Container;

use crate::{
    cgroup::Cgroup,
    cri,
    hook::message::{Answer, Request},
    identity::{self, Placement},
    names,
    oci::State,
};

/// A hook's question, as the node reads it; what was read, as the hook writes it.
///
/// # Errors
/// What the hook is told.
pub fn hook_question(bytes: &[u8]) -> Result<Vec<u8>, String> {
    Request::parse(bytes).map(|request| request.to_line())
}

/// A node's answer, as the hook reads it; what was read, as the node writes it.
///
/// # Errors
/// Why it is none.
pub fn hook_answer(bytes: &[u8]) -> Result<Vec<u8>, String> {
    Answer::parse(bytes).map(|answer| answer.to_line())
}

/// The question that a hook makes of an OCI state.
///
/// # Errors
/// Why it asks nothing.
pub fn oci_state(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let state = State::parse(bytes).map_err(|error| error.to_string())?;
    Request::of(&state).map(|request| request.to_line()).map_err(|error| error.to_string())
}

/// Who a container of this id is by the bytes of the CRI's `ContainerStatusResponse`; `None` where they are not of it.
#[must_use]
pub fn cri_status(id: &str, bytes: &[u8]) -> Option<Container> {
    let (pid, metadata) = cri::of_bytes(id, bytes)?;
    let placement = Placement { pid, cgroup: Cgroup { id: CgroupId(1), path: "/c".into() }, root: None };
    Some(identity::container(ContainerId(id.to_owned()), "cri", &metadata, None, placement))
}

/// The id of the container whose cgroup this is, by its name.
#[must_use]
pub fn cgroup_name(path: &Path) -> Option<String> {
    names::container(path).map(|named| named.id)
}

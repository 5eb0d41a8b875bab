//! What NRI tells of pods: their names and labels, by the ids of their sandboxes. For containers of which no API tells.
//!
//! Shared by the plugin, which writes, and by whoever names containers: the hooks' side and the thread of the cgroup tree.
//!
//! Bounds: [`MAX_CONTAINERS`] pods, and of each what [`identity::bound_labels`] keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::messages::PodSandbox;
use crate::{
    MAX_CONTAINERS,
    identity::{self, Metadata, POD_NAME, POD_NAMESPACE, POD_UID},
    oci::is_id,
};

/// See the module. A clone is the same table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pods(Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>);

impl Pods {
    /// Keeps a pod, in place of what was known of it; whether there was room.
    pub(super) fn keep(&self, pod: PodSandbox) -> bool {
        if !is_id(&pod.id) {
            return false;
        }
        let mut labels = pod.labels;
        for (key, value) in [(POD_NAME, pod.name), (POD_NAMESPACE, pod.namespace), (POD_UID, pod.uid)] {
            labels.insert(key.to_owned(), value);
        }
        let left_out = identity::bound_labels(&mut labels);
        if left_out > 0 {
            tracing::error!(
                pod = pod.id,
                left_out,
                "not all of its labels are kept: policies that select by them do not"
            );
        }
        let mut pods = self.lock();
        let has_room = pods.len() < MAX_CONTAINERS || pods.contains_key(&pod.id);
        if has_room {
            pods.insert(pod.id, labels);
        }
        has_room
    }

    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// Keeps none but these: the runtime has told all that it has.
    pub(super) fn keep_only(&self, ids: &BTreeSet<String>) {
        self.lock().retain(|id, _| ids.contains(id));
    }

    /// The pod whose sandbox this is.
    pub(crate) fn sandbox(&self, id: &str) -> Option<Metadata> {
        let labels = self.lock().get(id)?.clone();
        Some(Metadata { id: id.to_owned(), labels, ..Metadata::default() })
    }

    /// The pod of a container, or of the sandbox itself.
    pub(crate) fn of(&self, metadata: &Metadata) -> Option<Metadata> {
        self.sandbox(metadata.sandbox_id().unwrap_or(&metadata.id))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<String, String>>> {
        // Each change is one call of the map's: it is whole, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Who a container is: from containerd's labels and the CRI's annotations to the names that policies select by.
//!
//! The labels of a *pod* are those of its sandbox container, to which the CRI's annotation `io.kubernetes.cri.sandbox-id` leads; a
//! container's own labels are the kubelet's bookkeeping, and its image's: containerd puts those of the image beside them, and who makes an
//! image must not choose by which policy a pod is selected. Outside Kubernetes a container's own labels are all there is.

use std::{collections::BTreeMap, path::PathBuf};

use palisade_domain::ContainerId;
use palisade_world::Container;

use crate::{cgroup::Cgroup, oci::Spec};

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// On spec annotations: the image as the pod names it (containerd's own field is a digest for CRI containers).
const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";
/// Labels of the CRI plugin's own, true of one container and not of its pod.
const CRI_PLUGIN: &str = "io.cri-containerd.";
/// Labels that the kubelet puts on a container of a pod.
const KUBELET: &str = "io.kubernetes.";

/// Most bytes of a workload's labels, keys and values. Each is kept for as long as the workload lives; the pods of one node that are as large as
/// an API server takes them would fill its memory.
pub(crate) const MAX_LABEL_BYTES: usize = 64 << 10;

/// What containerd holds of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub id: String,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub spec: Spec,
    /// containerd's own field for sandboxes (since 1.7); empty where it has none.
    pub sandbox: String,
}

impl Metadata {
    /// The container whose labels are the pod's, if it is another.
    pub(crate) fn sandbox_id(&self) -> Option<&str> {
        // What the runtime itself says goes before what stands in a specification, which others may write into.
        Some(self.sandbox.as_str())
            .filter(|sandbox| !sandbox.is_empty())
            .or_else(|| self.spec.sandbox_id())
            .filter(|sandbox| !sandbox.is_empty() && *sandbox != self.id)
    }
}

/// Where a container is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub pid: u32,
    pub cgroup: Cgroup,
    pub root: Option<PathBuf>,
}

/// Joins what is known. `id` is the container's id as it is told (see `roster`).
pub(crate) fn container(
    id: ContainerId,
    runtime_namespace: &str,
    metadata: &Metadata,
    sandbox: Option<&Metadata>,
    placement: Placement,
) -> Container {
    let mut labels = labels(metadata, sandbox);
    let left_out = bound_labels(&mut labels);
    if left_out > 0 {
        tracing::error!(container = %id, left_out, bound = MAX_LABEL_BYTES, "not all of its labels are kept: policies that select by them do not");
    }
    let named = |key: &str| labels.get(key).filter(|value| !value.is_empty()).cloned();
    Container {
        runtime_namespace: runtime_namespace.to_owned(),
        pid: placement.pid,
        cgroup: placement.cgroup.id,
        cgroup_path: placement.cgroup.path,
        root: placement.root,
        pod: named(POD_NAME).unwrap_or_else(|| metadata.id.clone()),
        namespace: named(POD_NAMESPACE).unwrap_or_else(|| "default".to_owned()),
        name: named(CONTAINER_NAME).unwrap_or_else(|| metadata.id.clone()),
        image: metadata.spec.annotations.get(IMAGE_NAME).unwrap_or(&metadata.image).clone(),
        id,
        labels,
    }
}

/// The pod's labels, and of the container's own, in a pod, what the kubelet and the CRI plugin put there. The CRI plugin's stay the container's.
fn labels(metadata: &Metadata, sandbox: Option<&Metadata>) -> BTreeMap<String, String> {
    let mut labels = metadata.labels.clone();
    if metadata.sandbox_id().is_some() {
        labels.retain(|key, _| key.starts_with(KUBELET) || key.starts_with(CRI_PLUGIN));
    }
    let pod = sandbox.into_iter().flat_map(|sandbox| &sandbox.labels);
    labels.extend(pod.filter(|(key, _)| !key.starts_with(CRI_PLUGIN)).map(|(key, value)| (key.clone(), value.clone())));
    labels
}

/// Keeps what names the container, and of the other labels as many as the bound has room for, in their order; how many were left out.
pub(crate) fn bound_labels(labels: &mut BTreeMap<String, String>) -> usize {
    let before = labels.len();
    let names = [POD_NAME, POD_NAMESPACE, POD_UID, CONTAINER_NAME];
    let bytes = |key: &str, value: &str| key.len() + value.len();
    if labels.iter().map(|(key, value)| bytes(key, value)).sum::<usize>() <= MAX_LABEL_BYTES {
        return 0;
    }
    let mut left = MAX_LABEL_BYTES;
    let mut fits = |key: &str, value: &str| left.checked_sub(bytes(key, value)).map(|rest| left = rest).is_some();
    let named: Vec<bool> = names.iter().map(|name| labels.get(*name).is_some_and(|value| fits(name, value))).collect();
    labels.retain(|key, value| match names.iter().position(|name| name == key) {
        Some(name) => named[name],
        None => fits(key, value),
    });
    before - labels.len()
}

#[cfg(test)]
mod tests {
    use palisade_domain::CgroupId;

    use super::*;

    const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

    fn metadata(id: &str, labels: &[(&str, &str)], annotations: &[(&str, &str)]) -> Metadata {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Metadata {
            id: id.into(),
            image: "sha256:1".into(),
            labels: owned(labels),
            spec: Spec { annotations: owned(annotations), ..Spec::default() },
            sandbox: String::new(),
        }
    }

    fn placement() -> Placement {
        Placement { pid: 7, cgroup: Cgroup { id: CgroupId(9), path: "/x".into() }, root: None }
    }

    #[test]
    fn unit_identity_of_a_pods_container_has_the_pods_labels() {
        let own = metadata(
            "c1",
            &[
                (POD_NAME, "web-1"),
                (POD_NAMESPACE, "shop"),
                (CONTAINER_NAME, "main"),
                ("io.cri-containerd.kind", "container"),
                ("app", "old"),
            ],
            &[(SANDBOX_ID, "s1"), (IMAGE_NAME, "nginx:1")],
        );
        let sandbox = metadata("s1", &[("app", "web"), ("io.cri-containerd.kind", "sandbox")], &[(SANDBOX_ID, "s1")]);
        assert_eq!(own.sandbox_id(), Some("s1"));
        assert_eq!(sandbox.sandbox_id(), None, "a sandbox has no other sandbox");
        let told = container(ContainerId("c1".into()), "k8s.io", &own, Some(&sandbox), placement());
        assert_eq!((told.pod.as_str(), told.namespace.as_str(), told.name.as_str()), ("web-1", "shop", "main"));
        assert_eq!(told.image, "nginx:1");
        assert_eq!(told.labels["app"], "web");
        assert_eq!(told.labels["io.cri-containerd.kind"], "container");
    }

    #[test]
    fn unit_identity_of_a_pod_is_not_chosen_by_its_image() {
        let own = metadata("c1", &[(POD_NAME, "web-1"), ("tier", "admin")], &[(SANDBOX_ID, "s1")]);
        let sandbox = metadata("s1", &[("app", "web")], &[(SANDBOX_ID, "s1")]);
        for sandbox in [Some(&sandbox), None] {
            let told = container(ContainerId("c1".into()), "k8s.io", &own, sandbox, placement());
            assert!(!told.labels.contains_key("tier"), "{:?}", told.labels);
            assert_eq!(told.pod, "web-1");
        }
    }

    #[test]
    fn unit_identity_labels_have_a_bound_and_names_go_first() {
        let many: Vec<(String, String)> = (0..2000).map(|n| (format!("a{n:04}"), "x".repeat(60))).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let all = [many.as_slice(), &[(POD_NAME, "web-1"), (POD_NAMESPACE, "shop")]].concat();
        let told = container(ContainerId("c1".into()), "d", &metadata("c1", &all, &[]), None, placement());
        assert_eq!((told.pod.as_str(), told.namespace.as_str()), ("web-1", "shop"));
        let bytes: usize = told.labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= MAX_LABEL_BYTES && bytes > MAX_LABEL_BYTES - 100, "{bytes}");
        let mut labels = told.labels.clone();
        assert_eq!(bound_labels(&mut labels), 0, "what fits is left alone");
        let huge = "x".repeat(MAX_LABEL_BYTES + 1);
        let told =
            container(ContainerId("c1".into()), "d", &metadata("c1", &[(POD_NAME, &huge)], &[]), None, placement());
        assert_eq!(told.pod, "c1", "a name past the bound is none");
    }

    #[test]
    fn unit_identity_outside_kubernetes_is_the_containers_own() {
        let own = metadata("c1", &[("app", "web"), (POD_NAME, "")], &[]);
        let told = container(ContainerId("c1".into()), "default", &own, None, placement());
        assert_eq!((told.pod.as_str(), told.namespace.as_str(), told.name.as_str()), ("c1", "default", "c1"));
        assert_eq!((told.image.as_str(), told.pid, told.cgroup), ("sha256:1", 7, CgroupId(9)));
        assert_eq!(told.labels["app"], "web");
    }

    #[test]
    fn unit_identity_takes_the_sandbox_field_where_there_is_no_annotation() {
        let own = Metadata { sandbox: "s2".into(), ..metadata("c1", &[], &[]) };
        assert_eq!(own.sandbox_id(), Some("s2"));
    }
}

//! Who a container is: from containerd's labels and the CRI's annotations to the names that policies select by.
//!
//! The labels of a *pod* are those of its sandbox container, to which the CRI's annotation `io.kubernetes.cri.sandbox-id` leads; a
//! container's own labels are the kubelet's bookkeeping. Outside Kubernetes a container's own labels are all there is.

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
        self.spec
            .sandbox_id()
            .or(Some(self.sandbox.as_str()))
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
    let labels = labels(metadata, sandbox);
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

/// The pod's labels, and of the container's own those that the pod does not name. The CRI plugin's stay the container's.
fn labels(metadata: &Metadata, sandbox: Option<&Metadata>) -> BTreeMap<String, String> {
    let mut labels = metadata.labels.clone();
    let pod = sandbox.into_iter().flat_map(|sandbox| &sandbox.labels);
    labels.extend(pod.filter(|(key, _)| !key.starts_with(CRI_PLUGIN)).map(|(key, value)| (key.clone(), value.clone())));
    labels
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

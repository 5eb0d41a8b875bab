//! What lies on the disk of a container that no API tells of: its OCI bundle, Docker's and the kubelet's own files.
//!
//! Read once for each container, each file with a bound on its bytes, and only where a runtime's root process writes: nothing here comes
//! from inside a container. What these files do not say stays unknown; names are then ids.
//!
//! | runtime | file | tells |
//! |---|---|---|
//! | CRI-O | bundle's annotations | pod, namespace, container, image, the container's labels |
//! | containerd's CRI | bundle's annotations | pod, namespace, container, image; no labels |
//! | Podman | bundle's annotations | image; names and labels are in its database |
//! | Docker | `config.v2.json` | name, image, labels |
//! | any, of a pod | kubelet's log directory | the pod's name and namespace by its UID |

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    identity::{CONTAINER_NAME, Metadata, POD_NAME, POD_NAMESPACE, POD_UID},
    oci::{BUNDLES, Spec},
};

/// Most bytes of one file. Specs of pods with many mounts have tens of kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// Where runtimes keep their files, below a root that is `/` but in tests.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    root: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

/// Annotations of the bundle that name things, by who writes them.
const NAMES: [(&str, &str); 9] = [
    ("io.kubernetes.pod.name", POD_NAME),
    ("io.kubernetes.cri.sandbox-name", POD_NAME),
    ("io.kubernetes.pod.namespace", POD_NAMESPACE),
    ("io.kubernetes.cri.sandbox-namespace", POD_NAMESPACE),
    ("io.kubernetes.pod.uid", POD_UID),
    ("io.kubernetes.cri.sandbox-uid", POD_UID),
    ("io.kubernetes.container.name", CONTAINER_NAME),
    ("io.kubernetes.cri.container-name", CONTAINER_NAME),
    ("io.kubernetes.cri-o.PodName", POD_NAME),
];

/// CRI-O's: the labels of container or sandbox, as JSON.
const CRIO_LABELS: &str = "io.kubernetes.cri-o.Labels";
const IMAGES: [&str; 3] =
    ["io.kubernetes.cri-o.ImageName", "io.kubernetes.cri.image-name", "org.opencontainers.image.ref.name"];

impl Places {
    #[cfg(test)]
    pub(crate) fn below(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What is known of a container, by its id; nothing but the id where no file speaks of it.
    pub(crate) fn metadata(&self, id: &str) -> Metadata {
        let nothing = || Metadata { id: id.to_owned(), ..Metadata::default() };
        // An id comes from a directory's name: it has no `/`, but may be `..`.
        if id.is_empty() || id.starts_with('.') {
            return nothing();
        }
        let of_bundle = self.bundles(id).iter().find_map(|bundle| metadata(id, bundle));
        match (of_bundle, self.docker(id)) {
            (bundle, Some(docker)) => Metadata { spec: bundle.map(|b| b.spec).unwrap_or_default(), ..docker },
            (Some(bundle), None) => bundle,
            (None, None) => nothing(),
        }
    }

    /// Name and namespace of a pod, by its UID: the kubelet's log directories are called `<namespace>_<name>_<uid>`.
    pub(crate) fn pod(&self, uid: &str) -> Option<(String, String)> {
        let pods = fs::read_dir(self.root.join("var/log/pods")).ok()?;
        pods.take(MAX_ENTRIES).flatten().find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let mut parts = name.split('_');
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                // A static pod's directory names the hash of its manifest, which is its UID for the runtime too.
                (Some(namespace), Some(pod), Some(own), None) if own == uid => {
                    Some((pod.to_owned(), namespace.to_owned()))
                }
                _ => None,
            }
        })
    }

    fn bundles(&self, id: &str) -> Vec<PathBuf> {
        let overlay = Path::new("containers/storage/overlay-containers").join(id).join("userdata");
        let mut bundles = vec![self.root.join("run").join(&overlay), self.root.join("var/lib").join(&overlay)];
        for state in ["run/containerd", "run/k3s/containerd", "run/docker/containerd/daemon"] {
            let namespaces = fs::read_dir(self.root.join(state).join(BUNDLES));
            let namespaces = namespaces.into_iter().flatten().take(MAX_ENTRIES).flatten();
            bundles.extend(namespaces.map(|namespace| namespace.path().join(id)));
        }
        bundles
    }

    fn docker(&self, id: &str) -> Option<Metadata> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Container {
            #[serde(default)]
            name: String,
            config: Config,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Config {
            #[serde(default)]
            image: String,
            labels: Option<BTreeMap<String, String>>,
        }
        let file = self.root.join("var/lib/docker/containers").join(id).join("config.v2.json");
        let container: Container = read(&file)?;
        let mut labels = container.config.labels.unwrap_or_default();
        let name = container.name.trim_start_matches('/');
        if !name.is_empty() {
            labels.entry(CONTAINER_NAME.to_owned()).or_insert_with(|| name.to_owned());
            labels.entry(POD_NAME.to_owned()).or_insert_with(|| name.to_owned());
        }
        let id = id.to_owned();
        Some(Metadata { id, image: container.config.image, labels, ..Metadata::default() })
    }
}

/// Who a container is by the configuration in its bundle.
pub(crate) fn metadata(id: &str, bundle: &Path) -> Option<Metadata> {
    let spec: Spec = read(&bundle.join("config.json"))?;
    let labels = spec.annotations.get(CRIO_LABELS).and_then(|labels| serde_json::from_str(labels).ok());
    let mut labels: BTreeMap<String, String> = labels.unwrap_or_default();
    for (annotation, label) in NAMES {
        if let Some(value) = spec.annotations.get(annotation).filter(|value| !value.is_empty()) {
            labels.entry(label.to_owned()).or_insert_with(|| value.clone());
        }
    }
    let image = IMAGES.iter().find_map(|annotation| spec.annotations.get(*annotation)).cloned().unwrap_or_default();
    Some(Metadata { id: id.to_owned(), image, labels, spec, sandbox: String::new() })
}

fn read<T: DeserializeOwned>(file: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(file).ok()?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        tracing::warn!(file = %file.display(), "longer than {MAX_FILE_BYTES} bytes: not read");
        return None;
    }
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(files: &[(&str, &str)]) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let file = root.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let places = Places::below(root.path());
        (root, places)
    }

    #[test]
    fn unit_bundle_of_crio_names_the_pod_and_its_labels() {
        let (_root, places) = places(&[(
            "run/containers/storage/overlay-containers/c1/userdata/config.json",
            r#"{"annotations":{"io.kubernetes.pod.name":"web-1","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"u1",
                "io.kubernetes.container.name":"main","io.kubernetes.cri-o.Labels":"{\"app\":\"web\"}",
                "io.kubernetes.cri-o.ImageName":"nginx:1","io.kubernetes.cri-o.SandboxID":"s1"}}"#,
        )]);
        let told = places.metadata("c1");
        assert_eq!(told.image, "nginx:1");
        assert_eq!(told.sandbox_id(), Some("s1"));
        let named = |key| told.labels.get(key).map(String::as_str);
        assert_eq!(
            [named(POD_NAME), named(POD_NAMESPACE), named(CONTAINER_NAME)],
            [Some("web-1"), Some("shop"), Some("main")]
        );
        assert_eq!(named("app"), Some("web"));
    }

    #[test]
    fn unit_bundle_of_containerd_names_the_pod_in_whichever_namespace_it_lies() {
        let (_root, places) = places(&[
            ("run/containerd/io.containerd.runtime.v2.task/default/other/config.json", "{}"),
            (
                "run/containerd/io.containerd.runtime.v2.task/k8s.io/c1/config.json",
                r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"web-1","io.kubernetes.cri.sandbox-namespace":"shop",
                    "io.kubernetes.cri.container-name":"main","io.kubernetes.cri.image-name":"nginx:1"}}"#,
            ),
        ]);
        let told = places.metadata("c1");
        assert_eq!((told.labels[POD_NAME].as_str(), told.labels[CONTAINER_NAME].as_str()), ("web-1", "main"));
        assert_eq!(told.image, "nginx:1");
    }

    #[test]
    fn unit_bundle_of_docker_names_the_container() {
        let config =
            r#"{"ID":"d1","Name":"/db","Config":{"Image":"postgres:16","Labels":{"tier":"data"},"Env":["A=b"]}}"#;
        let (_root, places) = places(&[
            ("var/lib/docker/containers/d1/config.v2.json", config),
            ("var/lib/docker/containers/d2/config.v2.json", r#"{"Name":"/x","Config":{"Labels":null}}"#),
        ]);
        let told = places.metadata("d1");
        assert_eq!((told.labels[CONTAINER_NAME].as_str(), told.image.as_str()), ("db", "postgres:16"));
        assert_eq!(told.labels["tier"], "data");
        assert_eq!(places.metadata("d2").labels[POD_NAME], "x");
    }

    #[test]
    fn unit_bundle_that_cannot_be_read_leaves_the_id() {
        let long = format!("{{\"annotations\":{{\"a\":\"{}\"}}}}", "x".repeat(1 << 20));
        let (_root, places) = places(&[
            ("run/containers/storage/overlay-containers/c1/userdata/config.json", "{"),
            ("run/containers/storage/overlay-containers/c2/userdata/config.json", &long),
            ("config.json", r#"{"annotations":{"io.kubernetes.pod.name":"planted"}}"#),
        ]);
        for id in ["c1", "c2", "c3", "..", ""] {
            let nothing = Metadata { id: id.into(), ..Metadata::default() };
            assert_eq!(places.metadata(id), nothing);
        }
    }

    #[test]
    fn unit_pods_are_named_by_the_kubelets_log_directories() {
        let (_root, places) = places(&[
            ("var/log/pods/shop_web-1_11-22/main/0.log", ""),
            ("var/log/pods/not-a-pod/x", ""),
            ("var/log/pods/a_b_11-22_c/x", ""),
        ]);
        assert_eq!(places.pod("11-22"), Some(("web-1".into(), "shop".into())));
        assert_eq!(places.pod("11"), None);
        assert_eq!(Places::below(Path::new("/nowhere")).pod("11-22"), None);
    }
}

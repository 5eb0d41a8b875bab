//! What the OCI runtime specification says that matters here: a container's state (as hooks get it) and parts of its configuration.
//!
//! Sources: runtime-spec `runtime.md` ("State") and `config.md`. Fields that are not named are ignored, as the specification asks.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The directory below containerd's state directory that holds the bundles of its runtime v2: `<namespace>/<id>` in it.
pub(crate) const BUNDLES: &str = "io.containerd.runtime.v2.task";

/// Stands for a namespace where the bundle is one of containers/storage: `.../<driver>-containers/<id>/userdata`, of CRI-O and Podman.
pub(crate) const STORAGE: &str = "containers-storage";

/// Most bytes of a container's id: containerd's have 76 at most, hashes 64; the rest is room.
const MAX_ID_BYTES: usize = 255;

/// Whether this is a container's id as runc takes it: letters, digits, `_+-.`, and neither `.` nor `..`. Whatever else a runtime may say is no
/// name to put into logs, paths and tables.
pub(crate) fn is_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed) && !matches!(text, "." | "..")
}

/// Most bytes of a state: pods' annotations are in it, which Kubernetes bounds at 256 KiB.
pub(crate) const MAX_STATE_BYTES: u64 = 1 << 20;

/// A container's state, as a createRuntime hook reads it from standard input.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct State {
    pub id: String,
    #[serde(default)]
    pub status: String,
    #[serde(default)]
    pub pid: u32,
    pub bundle: PathBuf,
}

/// Why a state is not one that a createRuntime hook can use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Longer than any runtime writes.
    #[error("the OCI state is longer than {MAX_STATE_BYTES} bytes")]
    TooLong,
    /// Not the JSON of the specification.
    #[error("the OCI state cannot be read: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The hook is configured for another stage.
    #[error("the container is {0:?}: this hook is for createRuntime, where it is \"creating\" or \"created\"")]
    WrongStage(String),
    /// No process yet.
    #[error("the OCI state names no process (pid): this hook is for createRuntime")]
    NoProcess,
    /// The bundle is not where containerd puts it.
    #[error(
        "bundle {0} is neither containerd's (.../{BUNDLES}/<namespace>/<id>) nor CRI-O's (.../<driver>-containers/<id>/userdata)"
    )]
    ForeignBundle(PathBuf),
}

impl State {
    /// Reads and checks a state.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, StateError> {
        if json.len() as u64 > MAX_STATE_BYTES {
            return Err(StateError::TooLong);
        }
        let state: Self = serde_json::from_slice(json)?;
        if !matches!(state.status.as_str(), "creating" | "created") {
            return Err(StateError::WrongStage(state.status));
        }
        if state.pid == 0 {
            return Err(StateError::NoProcess);
        }
        Ok(state)
    }

    /// containerd's namespace of the container, from where its bundle lies; for the storage that CRI-O and Podman share, [`STORAGE`].
    pub(crate) fn runtime_namespace(&self) -> Result<&str, StateError> {
        namespace_of_bundle(&self.bundle, &self.id).ok_or_else(|| StateError::ForeignBundle(self.bundle.clone()))
    }
}

fn namespace_of_bundle<'a>(bundle: &'a Path, id: &str) -> Option<&'a str> {
    let namespace = bundle.parent()?;
    let bundles = namespace.parent()?.file_name()?;
    // `bundle` is .../<driver>-containers/<id>/userdata there.
    let driver = bundles.to_str().unwrap_or_default();
    if bundle.is_absolute() && bundle.ends_with(Path::new(id).join("userdata")) && driver.ends_with("-containers") {
        return Some(STORAGE);
    }
    (bundle.is_absolute() && bundles == BUNDLES && bundle.file_name()? == id).then_some(())?;
    namespace.file_name()?.to_str()
}

/// The parts of a container's configuration (`config.json`) that its identity needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Spec {
    pub annotations: BTreeMap<String, String>,
    pub root: Option<Root>,
    pub linux: Option<Linux>,
}

/// `root`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Root {
    pub path: PathBuf,
}

/// `linux`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Linux {
    pub cgroups_path: Option<String>,
}

/// Annotations that name the sandbox of a pod's container and, naming itself, are on the sandbox: CRI-O's and containerd's. CRI-O's first, for
/// it hands a pod's own annotations on, and a pod could name another's sandbox by containerd's; containerd hands none on unless told to.
const SANDBOX_IDS: [&str; 2] = ["io.kubernetes.cri-o.SandboxID", "io.kubernetes.cri.sandbox-id"];
/// Annotations that are on every container of a CRI.
const CRI_TYPES: [&str; 2] = ["io.kubernetes.cri.container-type", "io.kubernetes.cri-o.ContainerType"];

impl Spec {
    /// The sandbox that a CRI's container names.
    pub(crate) fn sandbox_id(&self) -> Option<&str> {
        SANDBOX_IDS.iter().find_map(|annotation| self.annotations.get(*annotation)).map(String::as_str)
    }

    /// Whether a CRI made the container.
    pub(crate) fn of_cri(&self) -> bool {
        CRI_TYPES.iter().any(|annotation| self.annotations.contains_key(*annotation))
    }

    pub(crate) fn cgroups_path(&self) -> Option<&str> {
        self.linux.as_ref()?.cgroups_path.as_deref()
    }

    /// The root file system on the host; `root.path` is relative to the bundle unless absolute.
    pub(crate) fn root_in(&self, bundle: &Path) -> PathBuf {
        bundle.join(self.root.as_ref().map_or(Path::new("rootfs"), |root| &root.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"ociVersion":"1.0.2","id":"c1","status":"creating","pid":12,
        "bundle":"/run/containerd/io.containerd.runtime.v2.task/k8s.io/c1","annotations":{"a":"b"}}"#;

    #[test]
    fn unit_oci_state_of_containerd_is_read() {
        let state = State::parse(STATE.as_bytes()).unwrap();
        assert_eq!((state.id.as_str(), state.pid), ("c1", 12));
        assert_eq!(state.runtime_namespace().unwrap(), "k8s.io");
    }

    #[test]
    fn unit_oci_state_of_another_stage_is_refused() {
        for status in ["running", "stopped", ""] {
            let other = STATE.replace("creating", status);
            assert!(matches!(State::parse(other.as_bytes()), Err(StateError::WrongStage(stage)) if stage == status));
        }
        assert!(State::parse(STATE.replace("creating", "created").as_bytes()).is_ok());
    }

    #[test]
    fn unit_oci_state_without_process_is_refused() {
        assert!(matches!(
            State::parse(STATE.replace(r#""pid":12"#, r#""pid":0"#).as_bytes()),
            Err(StateError::NoProcess)
        ));
        assert!(matches!(State::parse(STATE.replace(r#""pid":12,"#, "").as_bytes()), Err(StateError::NoProcess)));
    }

    #[test]
    fn unit_oci_state_that_is_no_state_is_refused() {
        for broken in [
            "",
            "{",
            "[]",
            "null",
            r#"{"id":"c1"}"#,
            r#"{"id":7,"bundle":"/x"}"#,
            &STATE.replace("12", "-1"),
            &STATE.replace("12", "4294967296"),
        ] {
            assert!(matches!(State::parse(broken.as_bytes()), Err(StateError::Malformed(_))), "{broken}");
        }
    }

    #[test]
    fn unit_oci_ids_are_those_that_runc_takes() {
        for id in ["c1", "a.b", "_x+1", &"f".repeat(64)] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", ".", "..", "../..", "a/b", "a b", "a\nb", "\u{1b}[31m", "é", &"f".repeat(256)] {
            assert!(!is_id(id), "{id:?}");
        }
    }

    #[test]
    fn unit_oci_annotation_of_containerd_does_not_speak_for_cri_o() {
        let json =
            r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"anothers","io.kubernetes.cri-o.SandboxID":"own"}}"#;
        assert_eq!(serde_json::from_str::<Spec>(json).unwrap().sandbox_id(), Some("own"));
    }

    #[test]
    fn unit_oci_state_has_a_bound() {
        let long = STATE.replace(r#""b""#, &format!("{:?}", "x".repeat(1 << 20)));
        assert!(matches!(State::parse(long.as_bytes()), Err(StateError::TooLong)));
    }

    #[test]
    fn unit_oci_bundle_of_another_runtime_is_refused() {
        for bundle in [
            "/",
            "/c1",
            "/x/k8s.io/c1",
            "/run/io.containerd.runtime.v2.task/k8s.io/c2",
            "io.containerd.runtime.v2.task/k8s.io/c1",
        ] {
            let state = State { id: "c1".into(), status: "creating".into(), pid: 1, bundle: bundle.into() };
            assert!(matches!(state.runtime_namespace(), Err(StateError::ForeignBundle(_))), "{bundle}");
        }
    }

    #[test]
    fn unit_oci_bundle_of_crio_is_known() {
        let at = |bundle: &str| {
            State { id: "c1".into(), status: "creating".into(), pid: 1, bundle: bundle.into() }
                .runtime_namespace()
                .map(str::to_owned)
                .ok()
        };
        assert_eq!(at("/run/containers/storage/overlay-containers/c1/userdata").as_deref(), Some(STORAGE));
        assert_eq!(at("/tmp/storage/vfs-containers/c1/userdata").as_deref(), Some(STORAGE));
        assert_eq!(at("/run/containers/storage/overlay-containers/c2/userdata"), None);
        assert_eq!(at("/run/containers/storage/elsewhere/c1/userdata"), None);
        assert_eq!(at("overlay-containers/c1/userdata"), None);
    }

    #[test]
    fn unit_oci_root_is_relative_to_the_bundle_unless_absolute() {
        let spec = |json: &str| serde_json::from_str::<Spec>(json).unwrap();
        assert_eq!(spec("{}").root_in(Path::new("/b")), Path::new("/b/rootfs"));
        assert_eq!(spec(r#"{"root":{"path":"rootfs"}}"#).root_in(Path::new("/b")), Path::new("/b/rootfs"));
        assert_eq!(spec(r#"{"root":{"path":"/elsewhere"}}"#).root_in(Path::new("/b")), Path::new("/elsewhere"));
        assert_eq!(spec(r#"{"linux":{"cgroupsPath":"/a/b"}}"#).cgroups_path(), Some("/a/b"));
    }
}

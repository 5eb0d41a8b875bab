//! Which runtime there is: as told, or the first whose socket is there.

use std::{
    fmt, fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

/// How containers are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// containerd's own API at this socket: every namespace, and events.
    Containerd(PathBuf),
    /// The CRI at this socket.
    Cri(PathBuf),
    /// No API: the cgroup tree and `/proc`.
    Cgroups,
}

/// How who listens at a socket is followed.
type By = fn(PathBuf) -> Endpoint;

/// Where runtimes listen, the usual first: distributions' containerd, k3s and RKE2, MicroK8s; CRI-O; cri-dockerd.
const USUAL: [(&str, By); 6] = [
    ("run/containerd/containerd.sock", Endpoint::Containerd),
    ("run/k3s/containerd/containerd.sock", Endpoint::Containerd),
    ("var/snap/microk8s/common/run/containerd.sock", Endpoint::Containerd),
    ("run/crio/crio.sock", Endpoint::Cri),
    ("var/run/crio/crio.sock", Endpoint::Cri),
    ("run/cri-dockerd.sock", Endpoint::Cri),
];

impl Endpoint {
    /// The runtime of this machine; by its cgroups where no socket is in a usual place.
    #[must_use]
    pub fn detect() -> Self {
        Self::below(Path::new("/"))
    }

    fn below(root: &Path) -> Self {
        USUAL
            .iter()
            .map(|(socket, endpoint)| (root.join(socket), endpoint))
            .find(|(socket, _)| fs::metadata(socket).is_ok_and(|there| there.file_type().is_socket()))
            .map_or(Self::Cgroups, |(socket, endpoint)| endpoint(socket))
    }

    /// The socket, where there is one.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Containerd(socket) | Self::Cri(socket) => Some(socket),
            Self::Cgroups => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Containerd(socket) => write!(f, "containerd at {}", socket.display()),
            Self::Cri(socket) => write!(f, "the CRI at {}", socket.display()),
            Self::Cgroups => f.write_str("cgroups and /proc, without a runtime's API"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn unit_endpoint_is_the_first_usual_socket_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        let bind = |socket: &str| {
            let socket = root.path().join(socket);
            fs::create_dir_all(socket.parent().unwrap()).unwrap();
            drop(UnixListener::bind(&socket).unwrap());
            socket
        };
        assert_eq!(Endpoint::below(root.path()), Endpoint::Cgroups);
        let dockerd = bind("run/cri-dockerd.sock");
        assert_eq!(Endpoint::below(root.path()), Endpoint::Cri(dockerd));
        let crio = bind("run/crio/crio.sock");
        assert_eq!(Endpoint::below(root.path()), Endpoint::Cri(crio));
        fs::create_dir_all(root.path().join("run/containerd")).unwrap();
        fs::write(root.path().join("run/containerd/containerd.sock"), "a file").unwrap();
        assert!(matches!(Endpoint::below(root.path()), Endpoint::Cri(_)), "a file is no socket");
        fs::remove_file(root.path().join("run/containerd/containerd.sock")).unwrap();
        let containerd = bind("run/containerd/containerd.sock");
        assert_eq!(Endpoint::below(root.path()), Endpoint::Containerd(containerd));
    }
}

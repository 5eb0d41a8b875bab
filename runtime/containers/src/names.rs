//! Which cgroup is a container's, by the name that its runtime gave the directory.
//!
//! Pure: paths in, names out. What no row of this table names is the host's. A recognised directory is a container with all that is below
//! it: names further down are the container's own doing, and are not read.
//!
//! | runtime | systemd driver | cgroupfs driver |
//! |---|---|---|
//! | containerd (CRI) | `cri-containerd-<id>.scope` | `kubepods/…/pod<uid>/<id>` |
//! | CRI-O | `crio-<id>.scope` | `kubepods/…/pod<uid>/crio-<id>` |
//! | Docker | `docker-<id>.scope` | `docker/<id>` |
//! | Podman | `libpod-<id>.scope` | `libpod_parent/libpod-<id>` |
//! | systemd-nspawn | `machine.slice/machine-<name>.scope`, `systemd-nspawn@<name>.service` | |
//! | LXC | | `lxc.payload.<name>` |
//! | Garden, BuildKit | | `garden/<id>`, `buildkit/<id>` |
//!
//! containerd's own clients (`ctr`, nerdctl) name directories as they like (`/default/<id>`): such containers are only known by containerd.

use std::path::{Component, Path};

/// The runtime, as its cgroup names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Maker {
    Containerd,
    CriO,
    Docker,
    Podman,
    Nspawn,
    Lxc,
    Garden,
    BuildKit,
    /// A pod's container whose directory is its bare id.
    Kubernetes,
}

impl Maker {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Nspawn => "systemd-nspawn",
            Self::Lxc => "lxc",
            Self::Garden => "garden",
            Self::BuildKit => "buildkit",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// The kubelet's class of a pod, by where its cgroup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Guaranteed => "guaranteed",
            Self::Burstable => "burstable",
            Self::BestEffort => "besteffort",
        }
    }
}

/// A pod, as far as a path tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub uid: String,
    pub qos: Qos,
}

/// A container, as far as a path tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub id: String,
    pub maker: Maker,
    pub pod: Option<Pod>,
}

/// The container whose directory this is; `None` for the host's. `path` is below the unified mount and starts with `/`.
pub(crate) fn container(path: &Path) -> Option<Named> {
    let parts: Option<Vec<&str>> = path
        .components()
        .filter(|part| !matches!(part, Component::RootDir))
        .map(|part| part.as_os_str().to_str())
        .collect();
    let parts = parts?;
    let (own, above) = parts.split_last()?;
    let pod = pod(above);
    let named = |id: &str, maker| Some(Named { id: id.to_owned(), maker, pod: pod.clone() });
    if let Some((id, maker)) = by_prefix(own) {
        return named(id, maker);
    }
    // containerd with the cgroupfs driver, told a path of systemd's: `<slice>:cri-containerd:<id>`.
    if let Some((slice, rest)) = own.split_once(':')
        && let Some((prefix, id)) = rest.split_once(':')
        && is_id(id)
    {
        let pod = pod_of_slice(slice);
        return maker_of(prefix).map(|maker| Named { id: id.to_owned(), maker, pod });
    }
    match above.last() {
        Some(_) if pod.is_some() && is_id(own) => named(own, Maker::Kubernetes),
        Some(&"docker") if is_id(own) => named(own, Maker::Docker),
        Some(&"buildkit") if !own.is_empty() => named(own, Maker::BuildKit),
        Some(&"garden") if !own.is_empty() => named(own, Maker::Garden),
        _ => None,
    }
}

/// Whether runtimes make containers' cgroups in this directory; `Some(true)`: beside others, so that only a name tells them.
///
/// Not the directories themselves that runtimes put into a service's own (`system.slice/containerd.service`), nor the root.
pub(crate) fn place(path: &Path) -> Option<bool> {
    match path.file_name()?.to_str()? {
        "kubepods" | "kubepods.slice" => Some(false),
        own if own.ends_with("-kubepods.slice") => Some(false),
        // Monitors, machines of libvirt, and services are there, too.
        "system.slice" | "machine.slice" | "docker" | "libpod_parent" => Some(true),
        _ => None,
    }
}

/// `<maker>-<id>.scope` and the like.
fn by_prefix(own: &str) -> Option<(&str, Maker)> {
    let unit = own.strip_suffix(".scope").unwrap_or(own);
    if let Some((prefix, id)) = unit.rsplit_once('-')
        && is_id(id)
    {
        // `crio-conmon-<id>` and `libpod-conmon-<id>` are monitors, on the host.
        return maker_of(prefix).map(|maker| (id, maker));
    }
    if let Some(name) = own.strip_prefix("lxc.payload.").filter(|name| !name.is_empty()) {
        return Some((name, Maker::Lxc));
    }
    let nspawn = own.strip_prefix("systemd-nspawn@").and_then(|own| own.strip_suffix(".service"));
    let machine = own.strip_prefix("machine-").and_then(|own| own.strip_suffix(".scope"));
    // libvirt's machines are in scopes of the same form.
    nspawn.or(machine).filter(|name| !name.is_empty() && !name.starts_with("qemu")).map(|name| (name, Maker::Nspawn))
}

fn maker_of(prefix: &str) -> Option<Maker> {
    Some(match prefix {
        "cri-containerd" | "containerd" => Maker::Containerd,
        "crio" => Maker::CriO,
        "docker" => Maker::Docker,
        "libpod" => Maker::Podman,
        _ => return None,
    })
}

/// Runtimes make ids of 64 hexadecimal digits; Podman and old Kubernetes tools cut them to no less than 12.
fn is_id(text: &str) -> bool {
    (12..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The pod that the nearest directory above is of.
fn pod(above: &[&str]) -> Option<Pod> {
    let (own, above) = above.split_last()?;
    if let Some(pod) = own.strip_suffix(".slice").and_then(pod_of_slice_name) {
        return Some(pod);
    }
    let uid = own.strip_prefix("pod").filter(|uid| is_uid(uid))?;
    let qos = match above.split_last()? {
        (&"burstable", above) if above.last() == Some(&"kubepods") => Qos::Burstable,
        (&"besteffort", above) if above.last() == Some(&"kubepods") => Qos::BestEffort,
        (&"kubepods", _) => Qos::Guaranteed,
        _ => return None,
    };
    Some(Pod { uid: uid.to_owned(), qos })
}

fn pod_of_slice(slice: &str) -> Option<Pod> {
    pod_of_slice_name(slice.strip_suffix(".slice").unwrap_or(slice))
}

/// `kubepods[-<qos>]-pod<uid>`, perhaps below the kubelet's own root (`kubelet-kubepods-…`, as kind has it); systemd allows no `-` in
/// a name, so the UID's are `_`.
fn pod_of_slice_name(name: &str) -> Option<Pod> {
    let (_, rest) = name.split_once("kubepods-").filter(|(before, _)| before.is_empty() || before.ends_with('-'))?;
    let (qos, rest) = if let Some(rest) = rest.strip_prefix("burstable-") {
        (Qos::Burstable, rest)
    } else if let Some(rest) = rest.strip_prefix("besteffort-") {
        (Qos::BestEffort, rest)
    } else {
        (Qos::Guaranteed, rest)
    };
    let uid = rest.strip_prefix("pod").map(|uid| uid.replace('_', "-")).filter(|uid| is_uid(uid))?;
    Some(Pod { uid, qos })
}

/// A UUID, or the hash that static pods have.
fn is_uid(text: &str) -> bool {
    (32..=36).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";
    const UID: &str = "0e4f7e0c-4bd1-4c9a-8a54-1f2d5f6a7b8c";

    /// `maker id-prefix uid qos`
    fn told(path: &str) -> Option<String> {
        let named =
            container(Path::new(&path.replace("UID_", &UID.replace('-', "_")).replace("UID", UID).replace("ID", ID)))?;
        let pod =
            named.pod.map(|pod| format!(" {} {}", pod.uid.replace(UID, "uid"), pod.qos.name())).unwrap_or_default();
        Some(format!("{} {}{pod}", named.maker.name(), named.id.replace(ID, "id")))
    }

    #[test]
    fn unit_names_of_every_runtime_are_known() {
        for (path, expected) in [
            ("/kubepods/burstable/podUID/ID", "kubernetes id uid burstable"),
            ("/kubepods/besteffort/podUID/ID", "kubernetes id uid besteffort"),
            ("/kubepods/podUID/ID", "kubernetes id uid guaranteed"),
            ("/kubepods/podUID/crio-ID", "cri-o id uid guaranteed"),
            ("/kubelet/kubepods/burstable/podUID/ID", "kubernetes id uid burstable"),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUID_.slice/cri-containerd-ID.scope",
                "containerd id uid burstable",
            ),
            ("/kubepods.slice/kubepods-podUID_.slice/crio-ID.scope", "cri-o id uid guaranteed"),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUID_.slice/docker-ID.scope",
                "docker id uid besteffort",
            ),
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUID_.slice/cri-containerd-ID.scope",
                "containerd id uid guaranteed",
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-podUID_.slice:cri-containerd:ID",
                "containerd id uid burstable",
            ),
            ("/system.slice/docker-ID.scope", "docker id"),
            ("/docker/ID", "docker id"),
            ("/machine.slice/libpod-ID.scope", "podman id"),
            ("/machine.slice/machine-libpod_pod_ID.slice/libpod-ID.scope", "podman id"),
            ("/libpod_parent/libpod-ID", "podman id"),
            ("/machine.slice/machine-web.scope", "systemd-nspawn web"),
            ("/machine.slice/systemd-nspawn@web.service", "systemd-nspawn web"),
            ("/lxc.payload.web", "lxc web"),
            ("/garden/a1b2", "garden a1b2"),
            ("/buildkit/x7", "buildkit x7"),
        ] {
            assert_eq!(told(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn unit_names_of_places_in_which_runtimes_make_containers_are_known() {
        for (path, expected) in [
            ("/kubepods", Some(false)),
            ("/kubelet/kubepods", Some(false)),
            ("/kubepods.slice", Some(false)),
            ("/kubelet.slice/kubelet-kubepods.slice", Some(false)),
            ("/system.slice", Some(true)),
            ("/machine.slice", Some(true)),
            ("/docker", Some(true)),
            ("/user.slice", None),
            ("/xkubepods", None),
            ("/system.slice/containerd.service", None),
            ("/", None),
        ] {
            assert_eq!(place(Path::new(path)), expected, "{path}");
        }
    }

    #[test]
    fn unit_names_of_the_host_are_no_containers() {
        for path in [
            "/",
            "/init.scope",
            "/system.slice/docker.service",
            "/system.slice/crio.service",
            "/system.slice/crio-conmon-ID.scope",
            "/machine.slice/libpod-conmon-ID.scope",
            "/user.slice/user-0.slice/session-1.scope",
            "/kubepods.slice/kubepods-burstable.slice",
            "/kubepods.slice/kubepods-podUID_.slice",
            "/kubepods/podUID",
            "/kubepods/burstable/podUID/not-an-id",
            "/burstable/podUID/ID",
            "/docker/buildx",
            "/docker/..",
            "/docker-xyz.scope",
            "/docker-ABCDEF012345.scope",
            "/evil-ID.scope",
            "/lxc.payload.",
            "/machine-.scope",
            "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope",
            "/default/c1",
            "/xkubepods-podUID_.slice/ID",
        ] {
            assert_eq!(told(path), None, "{path}");
        }
    }
}

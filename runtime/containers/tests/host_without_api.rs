//! Containers that no runtime's API tells of: by their cgroups, their bundles and `/proc`. Ring: host (root).
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with the tests of the APIs")]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use palisade_containers::{Endpoint, NodeConfig, NodeContainers};
use palisade_world::ContainerChange;
use support::{Follower, IMAGE, NodeFollower, PrivateContainerd, Run, cgroup_inode, succeed};

const UID: &str = "0e4f7e0c-4bd1-4c9a-8a54-1f2d5f6a7b8c";

/// An id as runtimes make them, of this process alone.
fn id(number: u32) -> String {
    format!("{:032x}{number:032x}", std::process::id())
}

fn by_cgroups() -> NodeFollower {
    Follower(NodeContainers::new(NodeConfig { endpoint: Some(Endpoint::Cgroups), hook_socket: None, nri: None }))
}

fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    mounts.lines().find(|line| line.starts_with("cgroup2 ")).and_then(|line| line.split(' ').nth(1)).unwrap().into()
}

/// A process that does nothing, and ends with this value.
struct Process(Child);

impl Process {
    fn start() -> Self {
        Self(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap())
    }

    fn end(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A process in a cgroup that is named as a runtime names it.
struct Faked {
    directory: PathBuf,
    process: Option<Process>,
}

impl Faked {
    fn start(path: &str) -> Self {
        let directory = unified().join(path);
        fs::create_dir_all(&directory).unwrap();
        let mut faked = Self { directory, process: None };
        faked.run();
        faked
    }

    fn run(&mut self) {
        let process = Process::start();
        fs::write(self.directory.join("cgroup.procs"), process.0.id().to_string()).unwrap();
        self.process = Some(process);
    }

    fn end(&mut self) {
        self.process = None;
    }

    fn inode(&self) -> u64 {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(&self.directory).unwrap().ino()
    }
}

impl Drop for Faked {
    fn drop(&mut self) {
        self.end();
        // Up to the hierarchy, as far as nobody else is in it.
        for directory in self.directory.ancestors().take_while(|directory| *directory != unified()) {
            for _ in 0..50 {
                if fs::remove_dir(directory).is_ok() || !directory.exists() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Until the container of this id is told.
async fn started(follower: &mut NodeFollower, id: &str) -> palisade_world::Container {
    loop {
        if let ContainerChange::Started(container) = follower.next().await
            && container.id.0 == id
        {
            return container;
        }
    }
}

async fn stopped(follower: &mut NodeFollower, id: &str) {
    while follower.stopped_or_other().await.as_deref() != Some(id) {}
}

impl NodeFollower {
    async fn stopped_or_other(&mut self) -> Option<String> {
        match self.next().await {
            ContainerChange::Stopped(id) => Some(id.0),
            _ => None,
        }
    }
}

#[tokio::test]
async fn host_tree_knows_dockers_containers_by_their_cgroups_and_their_lives() {
    let (before, after) = (id(1), id(2));
    let mut first = Faked::start(&format!("docker/{before}"));
    let mut follower = by_cgroups();
    let told = started(&mut follower, &before).await;
    assert_eq!(
        (told.runtime_namespace.as_str(), told.pod.as_str(), told.namespace.as_str()),
        ("docker", before.as_str(), "default")
    );
    assert_eq!(told.pid, first.process.as_ref().unwrap().0.id());
    assert_eq!(told.cgroup.0, cgroup_inode(told.pid));
    let second = Faked::start(&format!("system.slice/docker-{after}.scope"));
    let told = started(&mut follower, &after).await;
    assert_eq!(told.cgroup.0, second.inode());
    first.end();
    stopped(&mut follower, &before).await;
    // The same path again is another cgroup, and another container.
    let old = first.inode();
    fs::remove_dir(&first.directory).unwrap();
    fs::create_dir(&first.directory).unwrap();
    first.run();
    let again = started(&mut follower, &before).await;
    assert_eq!(again.cgroup.0, first.inode());
    assert_ne!(again.cgroup.0, old);
}

#[tokio::test]
async fn host_tree_tells_an_exec_session_from_a_container_and_nested_cgroups_too() {
    let container = id(3);
    let mut follower = by_cgroups();
    follower.synchronize().await;
    let mut faked = Faked::start(&format!("kubepods/burstable/pod{UID}/{container}"));
    let told = started(&mut follower, &container).await;
    assert_eq!((told.namespace.as_str(), told.pod.as_str()), ("", format!("pod-{UID}").as_str()));
    assert_eq!(told.labels["palisade.dev/qos"], "burstable");
    // What enters from outside, and what the container makes below itself, is it: nobody new is told, and its end is the last one's.
    let mut session = Process::start();
    let nested = faked.directory.join(format!("docker-{}.scope", id(4)));
    fs::create_dir(&nested).unwrap();
    fs::write(nested.join("cgroup.procs"), session.0.id().to_string()).unwrap();
    faked.end();
    let more = tokio::time::timeout(Duration::from_millis(600), follower.next()).await;
    assert!(more.is_err(), "it lives on in what it made: {more:?}");
    session.end();
    stopped(&mut follower, &container).await;
    fs::remove_dir(&nested).unwrap();
}

#[tokio::test]
async fn host_tree_reads_no_name_of_a_directory_that_others_own() {
    let container = id(5);
    let mut follower = by_cgroups();
    follower.synchronize().await;
    let faked = Faked::start("user.slice/palisade-test");
    std::os::unix::fs::chown(&faked.directory, Some(1000), Some(1000)).unwrap();
    let theirs = faked.directory.join(format!("docker-{container}.scope"));
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(1000), Some(1000)).unwrap();
    let mut leaver = Process::start();
    fs::write(theirs.join("cgroup.procs"), leaver.0.id().to_string()).unwrap();
    let more = tokio::time::timeout(Duration::from_millis(800), follower.next()).await;
    leaver.end();
    fs::remove_dir(&theirs).unwrap();
    assert!(more.is_err(), "a user's cgroup took its process out of the host: {more:?}");
}

#[tokio::test]
async fn host_tree_finds_real_containers_beside_containerd_and_leaves_it_its_own() {
    let containerd = PrivateContainerd::start();
    let docker = id(6);
    let foreign = Faked::start(&format!("docker/{docker}"));
    let mut follower = containerd.follow_as_node(Endpoint::Containerd(containerd.socket()));
    assert_eq!(follower.synchronize().await, [format!("+{docker}")]);
    let own = id(7);
    let run = Run { id: &own, labels: &[("app", "web")], ..Run::default() };
    let (output, ()) = tokio::join!(containerd.run(&run), async {
        let (container, admission) = follower.starting().await;
        assert_eq!(container.id.0, own);
        admission.0.send(Ok(())).unwrap();
    });
    assert!(output.status.success(), "{output:?}");
    assert_eq!(follower.started().await.labels["app"], "web");
    let more = tokio::time::timeout(Duration::from_millis(1500), follower.next()).await;
    assert!(more.is_err(), "told once: {more:?}");
    containerd.ctr(&["tasks", "kill", "--signal", "KILL", &own]);
    assert_eq!(follower.stopped().await, own);
    drop(foreign);
    assert_eq!(follower.stopped().await, docker);
}

#[tokio::test]
async fn host_tree_tells_real_pods_of_containerd_without_its_api() {
    let containerd = PrivateContainerd::start();
    let container = id(8);
    let cgroup = format!("/kubepods/besteffort/pod{UID}/{container}");
    let mut follower = by_cgroups();
    follower.synchronize().await;
    let mut run = containerd.run_command(&Run { id: &container, hook: false, ..Run::default() });
    // `ctr run [flags] IMAGE ID COMMAND`: a flag of its own goes before the image.
    let words: Vec<_> = run.get_args().map(ToOwned::to_owned).collect();
    let at = words.iter().position(|word| word == IMAGE).unwrap();
    let mut ctr = Command::new(run.get_program());
    ctr.args(&words[..at]).args(["--cgroup", &cgroup]).args(&words[at..]);
    run = ctr;
    succeed(&mut run);
    let told = started(&mut follower, &container).await;
    assert_eq!((told.cgroup_path.as_path(), told.pid), (Path::new(&cgroup), containerd.pid_of(&container)));
    assert_eq!(told.runtime_namespace, "kubernetes");
    let comm = fs::read_to_string(format!("/proc/{}/comm", told.pid)).unwrap();
    assert_eq!(comm.trim(), "sleep", "it is told when the runtime has let it go");
    containerd.ctr(&["tasks", "kill", "--signal", "KILL", &container]);
    stopped(&mut follower, &container).await;
    containerd.ctr(&["tasks", "delete", &container]);
    for directory in unified().join(cgroup.trim_start_matches('/')).ancestors().skip(1).take(3) {
        fs::remove_dir(directory).ok();
    }
}

/// Podman as it comes from the distribution, with the storage and the network of this test alone.
struct Podman {
    root: tempfile::TempDir,
}

impl Podman {
    /// `None` where it is not installed.
    fn new() -> Option<Self> {
        let there = Command::new("podman").arg("--version").output().is_ok_and(|output| output.status.success());
        there.then(|| Self { root: tempfile::Builder::new().prefix("palisade-podman-").tempdir().unwrap() })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut podman = Command::new("podman");
        let directory = |name: &str| self.root.path().join(name);
        podman.arg("--root").arg(directory("root")).arg("--runroot").arg(directory("run"));
        podman.arg("--tmpdir").arg(directory("tmp")).args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        podman.args(["--runtime", "runc", "--events-backend", "file"]).args(words);
        podman
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.command(&["rm", "--force", "--all", "--time", "0"]).output().ok();
        fs::remove_dir(unified().join("libpod_parent")).ok();
    }
}

/// What `podman run` of the tests says before the image; this machine may set no higher limits.
const LIMITS: [&str; 6] = ["--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"];

impl Podman {
    fn with_image() -> Option<Self> {
        let Some(podman) = Self::new() else {
            println!("skipped: podman is not installed");
            return None;
        };
        let image = podman.root.path().join("image.tar");
        let make = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/image/make.sh");
        succeed(Command::new(make).arg(&image).arg(IMAGE));
        succeed(podman.command(&["load", "--input"]).arg(&image));
        Some(podman)
    }
}

#[tokio::test]
async fn host_tree_knows_podmans_containers_by_their_cgroups() {
    let Some(podman) = Podman::with_image() else { return };
    let mut follower = by_cgroups();
    follower.synchronize().await;
    let mut run = podman.command(&["run", "--detach"]);
    let container = succeed(run.args(LIMITS).args(["--name", "web", IMAGE, "/bin/sleep", "1000"])).trim().to_owned();
    let told = started(&mut follower, &container).await;
    let pid = succeed(&mut podman.command(&["inspect", "--format", "{{.State.Pid}}", "web"]));
    assert_eq!((told.runtime_namespace.as_str(), told.pid.to_string().as_str()), ("podman", pid.trim()));
    assert_eq!(told.cgroup.0, cgroup_inode(told.pid));
    assert_eq!(
        (told.name.as_str(), told.namespace.as_str()),
        (container.as_str(), "default"),
        "names are in its database: ids it is"
    );
    succeed(&mut podman.command(&["kill", "web"]));
    stopped(&mut follower, &container).await;
}

/// With `deploy/hooks.d/palisade.json`, which CRI-O takes as well: both keep their bundles in the same storage.
#[tokio::test]
async fn host_tree_podmans_containers_wait_in_the_hook_that_is_delivered_for_it() {
    let Some(podman) = Podman::with_image() else { return };
    let socket = podman.root.path().join("hook.sock");
    let hooks = podman.root.path().join("hooks.d");
    fs::create_dir(&hooks).unwrap();
    let delivered = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/hooks.d/palisade.json");
    let mut hook: serde_json::Value = serde_json::from_str(&fs::read_to_string(delivered).unwrap()).unwrap();
    assert_eq!(hook["hook"]["args"], serde_json::json!(["palisade", "hook"]));
    hook["hook"]["path"] = env!("CARGO_BIN_EXE_palisade-hook").into();
    hook["hook"]["args"] = serde_json::json!(["palisade-hook", "--socket", socket]);
    fs::write(hooks.join("palisade.json"), hook.to_string()).unwrap();
    let config = NodeConfig { endpoint: Some(Endpoint::Cgroups), hook_socket: Some(socket), nri: None };
    let mut follower = Follower(NodeContainers::new(config));
    follower.synchronize().await;
    let run = |name: &str, command: &[&str]| {
        let mut run = podman.command(&[]);
        run.arg("--hooks-dir")
            .arg(&hooks)
            .args(["run", "--detach"])
            .args(LIMITS)
            .args(["--name", name, IMAGE])
            .args(command);
        tokio::task::spawn_blocking(move || run.output().unwrap())
    };
    let running = run("web", &["/bin/sleep", "1000"]);
    let (announced, admission) = follower.starting().await;
    assert_eq!(announced.cgroup.0, cgroup_inode(announced.pid), "its cgroup is final");
    let comm = fs::read_to_string(format!("/proc/{}/comm", announced.pid)).unwrap();
    assert!(comm.starts_with("runc"), "nothing of it runs yet: {comm}");
    admission.0.send(Ok(())).unwrap();
    let output = running.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = follower.started().await;
    assert_eq!((&told.id, told.cgroup, told.pid), (&announced.id, announced.cgroup, announced.pid));

    let refused = run("refused", &["/bin/true"]);
    let (other, admission) = follower.starting().await;
    admission.0.send(Err("not this one".to_owned())).unwrap();
    assert!(!refused.await.unwrap().status.success());
    assert_eq!(follower.stopped().await, other.id.0);

    // One that is over before anybody saw it run ends, too.
    let short = run("short", &["/bin/true"]);
    let (brief, admission) = follower.starting().await;
    admission.0.send(Ok(())).unwrap();
    assert!(short.await.unwrap().status.success());
    stopped(&mut follower, &brief.id.0).await;
    succeed(&mut podman.command(&["kill", "web"]));
    stopped(&mut follower, &announced.id.0).await;
}

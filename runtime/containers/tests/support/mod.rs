//! A containerd of the test's own: its root, state and socket are in a temporary directory, and everything goes when it is dropped.
//!
//! Needs root, containerd, runc, jq, busybox-static and a C compiler; `tests/run.sh host` installs them.
#![expect(clippy::unwrap_used, reason = "a panic is how a test's bed says that it cannot be made")]

mod slow;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use palisade_containers::{
    Containerd, Cri, Endpoint, NodeConfig, NodeContainers, RuntimeConfig,
    nri::{NriConfig, NriSocket},
};
use palisade_world::{Admission, Container, ContainerChange, Containers};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(30);

pub const IMAGE: &str = "localhost/palisade-example:1";

pub struct PrivateContainerd {
    directory: tempfile::TempDir,
    process: Child,
    /// Where containerd's own programs are; empty: where the machine has them.
    programs: PathBuf,
    /// containerd's namespace, and with it the name of the cgroups; no two tests share it.
    pub namespace: String,
    /// What its containers leave in the cgroup tree.
    cgroup_parents: Vec<String>,
}

/// How a container is started.
pub struct Run<'a> {
    pub id: &'a str,
    pub labels: &'a [(&'a str, &'a str)],
    /// Whether runc calls the hook.
    pub hook: bool,
    /// Shown at `/out` inside.
    pub out: Option<&'a Path>,
    pub command: &'a [&'a str],
}

impl Default for Run<'_> {
    fn default() -> Self {
        Self { id: "c1", labels: &[], hook: true, out: None, command: &["/bin/sleep", "1000"] }
    }
}

impl PrivateContainerd {
    /// Starts it, with the image and with a hook that asks at [`Self::hook_socket`].
    pub fn start() -> Self {
        Self::start_with(Path::new(""), "disabled_plugins = [\"io.containerd.grpc.v1.cri\"]", |_| String::new())
    }

    /// As for Kubernetes: with the CRI, whose containers get the hook by a base specification. Pods' containers are in `k8s.io`.
    pub fn start_with_cri() -> Self {
        Self::start_for_pods(Path::new(""), cri_with_base_specification)
    }

    /// The same of the containerd of this folder, with NRI, and with the base specification only where it is asked for.
    pub fn start_with_nri(programs: &Path, base_specification: bool) -> Self {
        Self::start_for_pods(programs, |root| {
            let cri = if base_specification { cri_with_base_specification(root) } else { cri(root) };
            format!(
                "{cri}[plugins.\"io.containerd.nri.v1.nri\"]\ndisable = false\nsocket_path = {:?}\nplugin_path = {:?}\n\
                 plugin_config_path = {:?}\n",
                root.join("nri.sock"),
                root.join("nri"),
                root.join("nri"),
            )
        })
    }

    fn start_for_pods(programs: &Path, tables: impl FnOnce(&Path) -> String) -> Self {
        let mut this = Self::start_with(programs, "", tables);
        this.ctr(&["--namespace", "k8s.io", "images", "import", this.path("image.tar").to_str().unwrap()]);
        this.cgroup_parents.push(this.pods_cgroup());
        this
    }

    /// Where the tests' pods are in the cgroup tree.
    pub fn pods_cgroup(&self) -> String {
        format!("{}-pods", self.namespace)
    }

    /// `head` and what `tables` makes of the directory go into containerd's configuration.
    fn start_with(programs: &Path, head: &str, tables: impl FnOnce(&Path) -> String) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory =
            tempfile::Builder::new().prefix("palisade-containers-").tempdir().expect("a temporary directory");
        let root = directory.path();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n{head}\n[grpc]\naddress = {:?}\n{}",
            root.join("root"),
            root.join("state"),
            root.join("c.sock"),
            tables(root),
        );
        fs::write(root.join("config.toml"), config).unwrap();
        let namespace = format!("palisade-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let process = spawn(programs, root);
        let programs = programs.to_owned();
        let this = Self { directory, process, programs, cgroup_parents: vec![namespace.clone()], namespace };
        this.wait_until_it_answers();
        this.write_hook(&[]);
        symlink(deploy("hooks/runc-with-hook"), this.path("runc-with-hook")).unwrap();
        let image = this.path("image.tar");
        succeed(Command::new(deploy("image/make.sh")).arg(&image).arg(IMAGE));
        this.ctr(&["images", "import", image.to_str().unwrap()]);
        this
    }

    /// The hook's entry, with more arguments for it.
    pub fn write_hook(&self, more: &[&str]) {
        let hook = env!("CARGO_BIN_EXE_palisade-hook");
        let socket = self.hook_socket();
        let mut words = vec!["palisade-hook", "--socket", socket.to_str().unwrap()];
        words.extend(more);
        let entry = format!("{{\"path\": {hook:?}, \"args\": {words:?}, \"timeout\": 20}}");
        fs::write(self.path("hook.json"), entry).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn hook_socket(&self) -> PathBuf {
        self.path("hook.sock")
    }

    pub fn follow(&self) -> Follower {
        let config = RuntimeConfig { address: self.path("c.sock"), hook_socket: Some(self.hook_socket()) };
        Follower(Containerd::new(config))
    }

    /// For several at a time: the hook's socket is one node's.
    pub fn follow_without_hooks(&self) -> Follower {
        Follower(Containerd::new(RuntimeConfig { address: self.path("c.sock"), hook_socket: None }))
    }

    /// By the CRI alone, as CRI-O is.
    pub fn follow_by_cri(&self) -> CriFollower {
        let hook_socket = Some(self.hook_socket());
        Follower(Cri::new(RuntimeConfig { address: self.path("c.sock"), hook_socket }))
    }

    /// As a node does: by the endpoint and by the cgroup tree.
    pub fn follow_as_node(&self, endpoint: Endpoint) -> NodeFollower {
        self.follow_with(endpoint, None)
    }

    /// The same, of a containerd that hears and is heard only so much later.
    pub fn follow_as_node_slowly(&self, by: Duration) -> NodeFollower {
        let socket = self.path("slow.sock");
        slow::slowed(&self.socket(), &socket, by);
        self.follow_as_node(Endpoint::Containerd(socket))
    }

    /// The same, as a plugin of NRI.
    pub fn follow_as_plugin(&self, endpoint: Endpoint) -> NodeFollower {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_palisade-hook"));
        self.follow_with(endpoint, Some(NriConfig { socket: NriSocket::At(self.nri_socket()), program }))
    }

    fn follow_with(&self, endpoint: Endpoint, nri: Option<NriConfig>) -> NodeFollower {
        let (endpoint, hook_socket) = (Some(endpoint), Some(self.hook_socket()));
        Follower(NodeContainers::new(NodeConfig { endpoint, hook_socket, nri }))
    }

    pub fn nri_socket(&self) -> PathBuf {
        self.path("nri.sock")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn socket(&self) -> PathBuf {
        self.path("c.sock")
    }

    /// Stops or continues it: what hangs keeps its socket.
    pub fn signal(&self, name: &str) {
        succeed(Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]));
    }

    /// Kills it, without a word to its containers.
    pub fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it was killed");
    }

    pub fn start_again(&mut self) {
        self.process = spawn(&self.programs, self.directory.path());
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        for _ in 0..300 {
            if self.ctr_command(&["version"]).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("containerd does not answer: {}", fs::read_to_string(self.path("log")).unwrap_or_default());
    }

    pub fn ctr_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("c.sock")).args(["--namespace", &self.namespace]).args(words);
        command
    }

    pub fn ctr(&self, words: &[&str]) -> String {
        succeed(&mut self.ctr_command(words))
    }

    pub fn run_command(&self, run: &Run<'_>) -> Command {
        let mut command = self.ctr_command(&["run", "--detach"]);
        if run.hook {
            command.arg("--runc-binary").arg(self.path("runc-with-hook"));
        }
        for (name, value) in run.labels {
            command.args(["--label", &format!("{name}={value}")]);
        }
        if let Some(out) = run.out {
            command.args(["--mount", &format!("type=bind,src={},dst=/out,options=rbind:rw", out.display())]);
        }
        command.args([IMAGE, run.id]).args(run.command);
        command
    }

    /// Runs a container and waits for `ctr`, on a thread of its own: the hook waits for whoever follows on this one.
    pub async fn run(&self, run: &Run<'_>) -> std::process::Output {
        let mut command = self.run_command(run);
        tokio::task::spawn_blocking(move || command.output().expect("ctr runs")).await.expect("no panic there")
    }

    /// Where containerd says that the init of a container is.
    pub fn pid_of(&self, id: &str) -> u32 {
        let tasks = self.ctr(&["tasks", "list"]);
        let line = tasks.lines().find(|line| line.split_whitespace().next() == Some(id)).expect("it has a task");
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Until nothing is left: a start that a failing test walked away from may still come through.
    fn clean_up(&mut self) {
        for _ in 0..20 {
            let namespaces = words(&quietly(&mut self.ctr_command(&["namespaces", "list", "-q"])));
            if namespaces.iter().filter(|namespace| !self.empty(namespace)).count() == 0 {
                namespaces.iter().chain(&self.cgroup_parents).for_each(|name| remove_cgroups(name));
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        eprintln!("containers are left in {}", self.directory.path().display());
    }

    /// Removes what is in a namespace; whether nothing was.
    fn empty(&self, namespace: &str) -> bool {
        let ctr = |more: &[&str]| words(&quietly(self.ctr_command(&["--namespace", namespace]).args(more)));
        let (tasks, containers) = (ctr(&["tasks", "list", "-q"]), ctr(&["containers", "list", "-q"]));
        for id in &tasks {
            ctr(&["tasks", "delete", "--force", id]);
        }
        for id in &containers {
            ctr(&["containers", "delete", id]);
        }
        tasks.is_empty() && containers.is_empty()
    }
}

impl Drop for PrivateContainerd {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(None)) {
            // The test killed it and then failed: its containers can only be ended by it.
            self.process = spawn(&self.programs, self.directory.path());
            self.wait_until_it_answers();
        }
        self.clean_up();
        quietly(Command::new("kill").arg(self.process.id().to_string()));
        self.process.wait().ok();
    }
}

/// The CRI without a network of its own.
fn cri(root: &Path) -> String {
    format!(
        "[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {IMAGE:?}\ndisable_apparmor = true\nrestrict_oom_score_adj = true\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {:?}\nconf_dir = {:?}\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n",
        root.join("cni"),
        root.join("cni"),
    )
}

fn cri_with_base_specification(root: &Path) -> String {
    // `palisade hook` in the specification is this crate's own program of the same code.
    let program = format!("#!/bin/sh\nshift\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_palisade-hook"));
    let palisade = root.join("palisade");
    fs::write(&palisade, program).unwrap();
    fs::set_permissions(&palisade, fs::Permissions::from_mode(0o755)).unwrap();
    let spec = succeed(Command::new(deploy("hooks/base-runtime-spec.sh")).arg(palisade).arg(root.join("hook.sock")));
    fs::write(root.join("base.json"), spec).unwrap();
    format!("{}base_runtime_spec = {:?}\n", cri(root), root.join("base.json"))
}

fn spawn(programs: &Path, root: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(root.join("log")).unwrap();
    // Its shims are beside it.
    let path = std::env::var("PATH").unwrap_or_default();
    let path = if programs.as_os_str().is_empty() { path } else { format!("{}:{path}", programs.display()) };
    Command::new(programs.join("containerd"))
        .env("PATH", path)
        .arg("--config")
        .arg(root.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("containerd is installed")
}

/// runc removes a container's cgroups and leaves the namespace's above them, in each hierarchy.
fn remove_cgroups(namespace: &str) {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
        fs::remove_dir(hierarchy.join(namespace)).ok();
    }
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

pub fn succeed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn quietly(command: &mut Command) -> String {
    command.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The inode of the cgroup of a process, found as a person would: by the mount table of `findmnt`'s source and the `0::` line.
pub fn cgroup_inode(pid: u32) -> u64 {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = lines.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let point =
        mounts.lines().find(|line| line.starts_with("cgroup2 ")).and_then(|line| line.split(' ').nth(1)).unwrap();
    fs::metadata(Path::new(point).join(path)).unwrap().ino()
}

pub struct Follower<C = Containerd>(pub C);
pub type CriFollower = Follower<Cri>;
pub type NodeFollower = Follower<NodeContainers>;

impl<C: Containers> Follower<C> {
    pub async fn next(&mut self) -> ContainerChange {
        self.try_next().await.expect("containerd is there")
    }

    pub async fn try_next(&mut self) -> Result<ContainerChange, palisade_world::ContainersError> {
        timeout(PATIENCE, self.0.next()).await.expect("a change in time")
    }

    /// The changes up to `Synchronized`, spelt `+id` and `-id`, sorted (a list has no order).
    pub async fn synchronize(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        loop {
            match self.next().await {
                ContainerChange::Synchronized => break,
                ContainerChange::Started(container) => told.push(format!("+{}", container.id)),
                ContainerChange::Stopped(id) => told.push(format!("-{id}")),
                other => panic!("unexpected: {other:?}"),
            }
        }
        told.sort();
        told
    }

    /// Until the adapter says what it lacks, or that it lacks nothing more.
    pub async fn limited(&mut self) -> Option<String> {
        loop {
            match self.try_next().await {
                Ok(ContainerChange::Limited(lacking)) => break lacking,
                Ok(ContainerChange::Started(_) | ContainerChange::Synchronized | ContainerChange::Stopped(_)) => {}
                Ok(other @ ContainerChange::Starting(..)) => panic!("unexpected: {other:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
    }

    /// The same, of a runtime that may need more than one connection; a call that fails is made again, as the node does.
    pub async fn synchronize_over_errors(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..20 {
            match self.try_next().await {
                Ok(ContainerChange::Synchronized) => break,
                Ok(ContainerChange::Started(container)) => told.push(format!("+{}", container.id)),
                Ok(ContainerChange::Stopped(id)) => told.push(format!("-{id}")),
                Ok(other) => panic!("unexpected: {other:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
            }
        }
        told
    }

    pub async fn starting(&mut self) -> (Container, Admission) {
        match self.next().await {
            ContainerChange::Starting(container, admission) => (container, admission),
            other => panic!("not starting: {other:?}"),
        }
    }

    pub async fn started(&mut self) -> Container {
        match self.next().await {
            ContainerChange::Started(container) => container,
            other => panic!("not started: {other:?}"),
        }
    }

    pub async fn stopped(&mut self) -> String {
        match self.next().await {
            ContainerChange::Stopped(id) => id.0,
            other => panic!("not stopped: {other:?}"),
        }
    }
}

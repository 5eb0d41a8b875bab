//! A whole node of the test's own: containerd, runc with the hook, the image with `act`, and `palisade node` as a process that may be
//! killed and started again. All of it lies in one temporary directory and on a BPF file system of its own, and goes when it is dropped.
//!
//! Needs root, containerd, runc, jq, busybox-static and a C compiler; `tests/run.sh host` installs them.
#![expect(clippy::unwrap_used, reason = "a panic is how a test's bed says that it cannot be made")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file is a program of its own and uses its part of the bed"
)]

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixStream,
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

/// `app: client` may not connect to port 5000.
pub const FORBIDS_5000: &str = "apiVersion: palisade.dev/v1alpha1
kind: PalisadePolicy
metadata: {name: no-port-5000, namespace: example}
spec:
  selector: {matchLabels: {app: client}}
  network: {destinations: [{ports: [5000], protocol: TCP}]}
  action: Block
";

/// `app: client` may not open, execute and connect to this: a rule each for what different means hold.
pub const FORBIDS_OF_EACH: &str = "apiVersion: palisade.dev/v1alpha1
kind: PalisadePolicy
metadata: {name: mixed, namespace: example}
spec:
  selector: {matchLabels: {app: client}}
  file: {matchPaths: [{path: /etc/bin/secret}]}
  process: {matchPaths: [{path: /etc/bin/tool}]}
  network: {destinations: [{ports: [5000], protocol: TCP}]}
  action: Block
";

/// Longer than anything here takes on a busy machine of two cores.
pub const PATIENCE: Duration = Duration::from_secs(90);
const IMAGE: &str = "localhost/palisade-example:1";
const PALISADE: &str = env!("CARGO_BIN_EXE_palisade");

/// The namespace of all pods here.
pub const POD_NAMESPACE: &str = "example";

pub struct NodeBed {
    work: tempfile::TempDir,
    namespace: String,
    containerd: Option<Child>,
    node: Option<Child>,
    others: Vec<Child>,
    pods: Vec<String>,
    /// Further arguments of `palisade node`.
    pub node_arguments: Vec<String>,
    /// The program: another one than was built here, where a test says so.
    pub palisade: PathBuf,
    /// What executes `palisade` in the end (`unshare`): the node, and commands that ask it, see the machine as that leaves it.
    pub under: Vec<String>,
}

/// runc with the hook, for containers that share the host's processes: `ctr` has no flag for it.
const WITH_HOST_PID: &str = r#"#!/bin/sh
set -eu
previous=
for word; do
    if [ "$previous" = --bundle ]; then
        jq 'del(.linux.namespaces[] | select(.type == "pid"))' "$word/config.json" >"$word/config.new"
        mv "$word/config.new" "$word/config.json"
    fi
    previous=$word
done
exec "$(dirname "$0")/runc-with-hook" "$@"
"#;

/// What the kubelet would label a container with.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    pub app: &'a str,
    pub pod: &'a str,
    pub container: &'a str,
}

/// A container that runs.
pub struct Pod {
    /// containerd's id, and the pod's name.
    pub name: String,
    /// Its first process.
    pub pid: u32,
}

impl Pod {
    /// A file of the container as the host reads it.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// The directory of its cgroup on the host.
    pub fn cgroup(&self) -> PathBuf {
        let of_pod = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap();
        let path = of_pod.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
        unified().join(path)
    }
}

impl NodeBed {
    /// With these policy files (name, text); nothing but containerd runs yet.
    pub fn new(policies: &[(&str, &str)]) -> Self {
        // Short: paths of sockets end at 107 bytes.
        let work = tempfile::Builder::new().prefix("pn.").tempdir_in("/tmp").unwrap();
        let namespace = format!("bed-{}", work.path().extension().unwrap().to_str().unwrap());
        for folder in ["policies", "bpf", "fifo"] {
            fs::create_dir(work.path().join(folder)).unwrap();
        }
        succeed(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(work.path().join("bpf")));
        let bed = Self {
            work,
            namespace,
            containerd: None,
            node: None,
            others: vec![],
            pods: vec![],
            node_arguments: vec![],
            palisade: PALISADE.into(),
            under: vec![],
        };
        for (name, text) in policies {
            bed.write_policy(name, text);
        }
        bed.with_containerd()
    }

    fn with_containerd(mut self) -> Self {
        let (image, work) = (self.path("image.tar"), self.work.path().display().to_string());
        let toml = format!(
            "version = 2\nroot = \"{work}/root\"\nstate = \"{work}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{work}/c.sock\"\n"
        );
        fs::write(self.path("containerd.toml"), toml).unwrap();
        self.start_containerd();
        succeed(Command::new(deploy("image/make.sh")).arg(&image).arg(IMAGE));
        self.ctr(&["images", "import", image.to_str().unwrap()]);
        symlink(deploy("hooks/runc-with-hook"), self.path("runc-with-hook")).unwrap();
        let hook = serde_json::json!({"path": PALISADE, "timeout": 20,
            "args": ["palisade", "hook", "--socket", self.path("hook.sock"), "--timeout", "15"]});
        fs::write(self.path("hook.json"), hook.to_string()).unwrap();
        self
    }

    /// A path in the bed's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// Writes a policy file, whole.
    pub fn write_policy(&self, name: &str, text: &str) {
        let staged = self.path("policy.new");
        fs::write(&staged, text).unwrap();
        fs::rename(staged, self.path("policies").join(name)).unwrap();
    }

    pub fn start_containerd(&mut self) {
        let child =
            self.spawn("containerd", Command::new("containerd").arg("--config").arg(self.path("containerd.toml")));
        self.containerd = Some(child);
        let socket = self.path("c.sock");
        eventually("containerd answers", || {
            Command::new("ctr").arg("--address").arg(&socket).arg("version").output().unwrap().status.success()
        });
    }

    /// Takes containerd away; its containers run on, and their shims.
    pub fn kill_containerd(&mut self) {
        let mut containerd = self.containerd.take().expect("it runs");
        containerd.kill().unwrap();
        containerd.wait().unwrap();
    }

    fn spawn(&self, name: &str, command: &mut Command) -> Child {
        let log = File::options().create(true).append(true).open(self.path(&format!("{name}.log"))).unwrap();
        let errors = log.try_clone().unwrap();
        command.stdin(Stdio::null()).stdout(log).stderr(errors).env("NO_COLOR", "1").spawn().unwrap()
    }

    /// Starts the node without waiting for it.
    pub fn spawn_node(&mut self) {
        assert!(self.node.is_none(), "the node runs");
        let mut command = self.program();
        command.arg("node").args(["--node-name", "bed", "--no-alert-stdout"]);
        for (flag, name) in [
            ("--policy-dir", "policies"),
            ("--containerd", "c.sock"),
            ("--hook-socket", "hook.sock"),
            ("--admin-socket", "admin.sock"),
            ("--admin-token-file", "admin.token"),
            ("--alert-file", "alerts.jsonl"),
            ("--pin-root", "bpf/palisade"),
        ] {
            command.arg(flag).arg(self.path(name));
        }
        command.args(&self.node_arguments);
        self.node = Some(self.spawn("node", &mut command));
    }

    fn program(&self) -> Command {
        let [first, rest @ ..] = &self.under[..] else { return Command::new(&self.palisade) };
        let mut command = Command::new(first);
        command.args(rest).arg(&self.palisade);
        command
    }

    /// What a command says that sees the machine as the node does.
    pub fn palisade(&self, words: &[&str]) -> Output {
        self.program().args(words).env("NO_COLOR", "1").output().unwrap()
    }

    /// What `palisade doctor` says of this node.
    pub fn doctor(&self) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        let mut words = vec!["doctor".to_owned()];
        for (flag, name) in [
            ("--containerd", "c.sock"),
            ("--policy-dir", "policies"),
            ("--admin-socket", "admin.sock"),
            ("--pin-root", "bpf/palisade"),
        ] {
            words.extend([flag.to_owned(), at(name)]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        String::from_utf8(self.palisade(&words).stdout).unwrap()
    }

    /// A document of the admin socket.
    pub fn document(&self, route: &str) -> Value {
        let (status, body) = self.get(route).unwrap();
        assert_eq!(status, 200, "{route}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// (what, reason) of each part of a policy that is not held of the pod.
    pub fn not_held(&self, pod: &str) -> Vec<(String, String)> {
        let document = self.document("/v1/workloads");
        let rows = document["workloads"].as_array().unwrap();
        let row = rows.iter().find(|row| row["workload"]["name"] == pod).unwrap_or_else(|| panic!("{document:#}"));
        let text = |part: &Value, key: &str| part[key].as_str().unwrap().to_owned();
        let parts = row["policy"]["notHeld"].as_array().unwrap_or_else(|| panic!("{row:#}"));
        parts.iter().map(|part| (text(part, "what"), text(part, "reason"))).collect()
    }

    /// Starts the node, and waits until it is ready.
    pub fn start_node(&mut self) {
        self.spawn_node();
        self.wait_ready();
    }

    pub fn wait_ready(&self) {
        eventually("the node is ready", || self.get("/readyz").is_some_and(|(status, _)| status == 200));
    }

    /// Kills the node as the kernel's memory killer does. Returns false where it had ended by itself.
    pub fn kill_node(&mut self) -> bool {
        let mut node = self.node.take().expect("the node was started");
        let ended = node.try_wait().unwrap();
        node.kill().unwrap();
        node.wait().unwrap();
        ended.is_none()
    }

    /// Stops the node in order.
    pub fn stop_node(&mut self) {
        let mut node = self.node.take().expect("the node was started");
        succeed(Command::new("kill").arg(node.id().to_string()));
        let status = node.wait().unwrap();
        assert!(status.success(), "the node ended with {status}, signal {:?}", status.signal());
    }

    /// The node's process.
    pub fn node_pid(&self) -> u32 {
        self.node.as_ref().expect("the node was started").id()
    }

    /// Resident memory of the node's process in KiB.
    pub fn node_rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.node_pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    /// Status and body of a GET on the admin socket; `None` while nobody answers.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.path("admin.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// The value of a metric, all of its series added up; `None` where there is none.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
            value.trim().parse::<f64>().ok()
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    fn ctr(&self, arguments: &[&str]) -> Output {
        succeed(&mut self.ctr_command(arguments))
    }

    fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("c.sock")).args(["--namespace", &self.namespace]).args(arguments);
        command
    }

    /// Starts a container that is labelled `app: NAME` and runs the shell's words.
    pub fn pod(&mut self, name: &str, words: &str) -> Pod {
        self.pod_with(name, words, &[])
    }

    /// The same with further flags of `ctr run`.
    pub fn pod_with(&mut self, name: &str, words: &str, flags: &[&str]) -> Pod {
        self.pod_by(name, words, &self.path("runc-with-hook"), flags)
    }

    /// The same by plain runc: nobody is asked.
    pub fn pod_without_hook(&mut self, name: &str, words: &str) -> Pod {
        self.pod_by(name, words, Path::new("runc"), &[])
    }

    fn pod_by(&mut self, name: &str, words: &str, runc: &Path, flags: &[&str]) -> Pod {
        let labels = Labels { app: name, pod: name, container: "main" };
        self.try_container(name, labels, words, runc, flags).unwrap_or_else(|said| panic!("{name}: {said}"))
    }

    /// A container with the hook, of a pod that may have others.
    pub fn container(&mut self, id: &str, labels: Labels<'_>, words: &str, flags: &[&str]) -> Pod {
        let runc = self.path("runc-with-hook");
        self.try_container(id, labels, words, &runc, flags).unwrap_or_else(|said| panic!("{id}: {said}"))
    }

    /// The same in the host's process namespace, as a pod with hostPID is: its specification names none.
    pub fn container_with_host_pid(&mut self, id: &str, labels: Labels<'_>, words: &str, flags: &[&str]) -> Pod {
        let runc = self.path("runc-with-host-pid");
        if !runc.exists() {
            fs::write(&runc, WITH_HOST_PID).unwrap();
            fs::set_permissions(&runc, fs::Permissions::from_mode(0o755)).unwrap();
        }
        self.try_container(id, labels, words, &runc, flags).unwrap_or_else(|said| panic!("{id}: {said}"))
    }

    /// What the runtime says where a container is refused in its hook.
    pub fn refused_pod(&mut self, name: &str) -> String {
        let (runc, labels) = (self.path("runc-with-hook"), Labels { app: name, pod: name, container: "main" });
        self.try_container(name, labels, "sleep 1000", &runc, &[]).err().expect("it is refused")
    }

    fn try_container(
        &mut self,
        name: &str,
        Labels { app, pod, container }: Labels<'_>,
        words: &str,
        runc: &Path,
        flags: &[&str],
    ) -> Result<Pod, String> {
        let fifo = self.path("fifo");
        let label = |key: &str, value: &str| format!("{key}={value}");
        let first = ["run", "--detach", "--null-io"];
        let rest = [
            "--runc-binary",
            runc.to_str().unwrap(),
            "--fifo-dir",
            fifo.to_str().unwrap(),
            "--label",
            &label("app", app),
            "--label",
            &label("io.kubernetes.pod.name", pod),
            "--label",
            &label("io.kubernetes.pod.namespace", POD_NAMESPACE),
            "--label",
            &label("io.kubernetes.container.name", container),
            IMAGE,
            name,
            "/bin/sh",
            "-c",
            words,
        ];
        let ran = self.ctr_command(&[&first, flags, &rest].concat()).output().unwrap();
        if !ran.status.success() {
            return Err(String::from_utf8_lossy(&ran.stderr).into_owned());
        }
        self.pods.push(name.to_owned());
        let list = self.ctr(&["tasks", "list"]);
        let list = String::from_utf8(list.stdout).unwrap();
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap_or_else(|| panic!("no task {name}: {list}"));
        Ok(Pod { name: name.to_owned(), pid: line.split_whitespace().nth(1).unwrap().parse().unwrap() })
    }

    /// Ends a container's first process; the runtime keeps what is left of it.
    pub fn kill_pod(&self, name: &str) {
        self.ctr(&["tasks", "kill", "--signal", "SIGKILL", name]);
    }

    /// Ends a container and forgets it.
    pub fn remove_pod(&mut self, name: &str) {
        self.ctr(&["tasks", "delete", "--force", name]);
        self.ctr(&["containers", "delete", name]);
        self.pods.retain(|pod| pod != name);
    }

    /// Runs the words in the container, and says whether they succeeded.
    pub fn run_in(&self, pod: &Pod, id: &str, words: &[&str]) -> bool {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.path("c.sock")).args(["--namespace", &self.namespace, "tasks", "exec"]);
        command.arg("--fifo-dir").arg(self.path("fifo")).args(["--exec-id", id, &pod.name]).args(words);
        command.stdin(Stdio::null()).output().unwrap().status.success()
    }

    /// A TCP server in the container's network, which greets whoever connects.
    pub fn serve(&mut self, pod: &Pod, port: u16) {
        let act = self.path("act");
        if !act.exists() {
            fs::copy(pod.file("/bin/act"), &act).unwrap();
        }
        let log = format!("server-{port}");
        let child = self.spawn(
            &log,
            Command::new("nsenter").args(["--target", &pod.pid.to_string(), "--net"]).arg(act).args([
                "serve",
                "127.0.0.1",
                &port.to_string(),
            ]),
        );
        self.others.push(child);
        let log = self.path(&format!("{log}.log"));
        eventually("the server serves", || fs::read_to_string(&log).unwrap().contains("serving"));
    }

    /// What alerts were written.
    pub fn alerts(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("alerts.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// All of a log.
    pub fn log_whole(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// The end of a log, for messages.
    pub fn log_end(&self, name: &str) -> String {
        let text = self.log_whole(name);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for NodeBed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of the node's log:\n{}", self.log_end("node"));
        }
        for other in &mut self.others {
            _ = other.kill();
            _ = other.wait();
        }
        for pod in std::mem::take(&mut self.pods) {
            let ctr = Command::new("ctr")
                .arg("--address")
                .arg(self.path("c.sock"))
                .args(["--namespace", &self.namespace])
                .args(["tasks", "delete", "--force", &pod])
                .output();
            drop(ctr);
        }
        if let Some(mut node) = self.node.take() {
            _ = Command::new("kill").arg(node.id().to_string()).status();
            _ = node.wait();
        }
        _ = Command::new(PALISADE).arg("unload").arg("--pin-root").arg(self.path("bpf/palisade")).output();
        if let Some(mut containerd) = self.containerd.take() {
            _ = Command::new("kill").arg(containerd.id().to_string()).status();
            _ = containerd.wait();
        }
        unmount_below(self.work.path());
        _ = fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.namespace));
    }
}

/// Where the unified hierarchy is mounted.
pub fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let unified = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).unwrap();
    PathBuf::from(unified.split(' ').nth(1).unwrap())
}

/// Deepest first.
fn unmount_below(folder: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<&str> = table.lines().filter_map(|line| line.split_whitespace().nth(4)).collect();
    points.retain(|point| Path::new(point).starts_with(folder));
    points.sort_unstable();
    for point in points.into_iter().rev() {
        _ = Command::new("umount").arg("--lazy").arg(point).status();
    }
}

/// Waits until it is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let pause = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if is_so() {
            return;
        }
        thread::sleep(pause);
    }
    panic!("{what}: not within {PATIENCE:?}");
}

/// Runs it to its end, which must be a good one.
pub fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name).canonicalize().unwrap()
}

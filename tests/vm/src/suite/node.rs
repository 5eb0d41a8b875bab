//! The whole node in the guest: policy files, containerd's events, the OCI hook, programs on LSM hooks, alerts.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use libtest_mimic::{Failed, Trial};
use palisade_domain::Tier;
use serde_json::Value;

use super::{
    Checked, ensure,
    fixture::{containerd, ensure_outcomes, hooks},
};
use crate::{
    act::Act,
    containerd::{self, Container},
};

/// The hook's wrapper around runc, and beside it the hook itself: `deploy/hooks`.
const RUNC: &str = "/hooks/runc-with-hook";
const HOOK: &str = "/hooks/hook.json";
/// Of anything that the node does by itself; emulated, so far longer than on any machine.
const PATIENCE: Duration = Duration::from_secs(400);
const PAUSE: Duration = Duration::from_millis(200);

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test("vm_node_holds_a_container_from_its_start_and_explains_the_denial", || {
            with_running(holds_and_explains)
        }),
        Trial::test("vm_node_puts_a_changed_policy_in_force_for_a_running_container", || with_running(changes)),
        Trial::test("vm_node_that_was_killed_leaves_policy_in_force_and_lets_no_container_start", || with_node(killed)),
    ]
}

/// A running node with directories of its own; what it left in the kernel is unloaded when it is dropped.
pub(crate) struct Node {
    process: Child,
    pub(crate) folder: PathBuf,
}

impl Node {
    pub(crate) fn start(name: &str, policy: &str) -> Result<Self, Failed> {
        Self::start_with(name, policy, &[])
    }

    /// One beside another that holds the containers.
    pub(crate) fn start_beside(name: &str, more: &[&str]) -> Result<Self, Failed> {
        Self::start_following(&["--no-containers"], name, "", more)
    }

    /// The same with further arguments.
    pub(crate) fn start_with(name: &str, policy: &str, more: &[&str]) -> Result<Self, Failed> {
        Self::start_following(&["--containerd", containerd::SOCKET], name, policy, more)
    }

    /// One that holds the host alone.
    pub(crate) fn start_alone(name: &str, policy: &str) -> Result<Self, Failed> {
        Self::start_following(&["--no-containers", "--host-policy"], name, policy, &[])
    }

    fn start_following(runtime: &[&str], name: &str, policy: &str, more: &[&str]) -> Result<Self, Failed> {
        let folder = PathBuf::from("/run").join(name);
        fs::create_dir_all(folder.join("policies"))?;
        let at = |file: &str| folder.join(file).display().to_string();
        let hook = format!(
            r#"{{"path": "/bin/palisade", "args": ["palisade", "hook", "--socket", "{}", "--timeout", "240"], "timeout": 300}}"#,
            at("hook.sock")
        );
        if runtime.contains(&"--containerd") {
            fs::write(HOOK, hook)?;
        }
        fs::write(folder.join("policies/suite.yaml"), policy)?;
        let process = Command::new("/bin/palisade")
            .args(["node", "--node-name", "guest", "--no-alert-stdout"])
            .args(runtime)
            .args([
                "--state-dir",
                &at("state"),
                "--policy-dir",
                &at("policies"),
                "--hook-socket",
                &at("hook.sock"),
                "--admin-socket",
                &at("admin.sock"),
            ])
            .args(["--admin-token-file", &at("admin.token"), "--alert-file", &at("alerts.jsonl")])
            .args(["--pin-root", &pin_root(name)])
            .args(more)
            .stdin(Stdio::null())
            .stdout(fs::File::create(folder.join("out"))?)
            .stderr(fs::File::create(folder.join("log"))?)
            .spawn()?;
        let node = Self { process, folder };
        // Without containers nobody's hook asks.
        let sockets: &[&str] =
            if runtime.contains(&"--containerd") { &["hook.sock", "admin.sock"] } else { &["admin.sock"] };
        node.wait_for("the node's sockets", || sockets.iter().all(|socket| node.folder.join(socket).exists()))?;
        Ok(node)
    }

    pub(crate) fn wait_for(&self, what: &str, happened: impl Fn() -> bool) -> Checked {
        for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
            if happened() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(15).collect();
        Err(format!("{what} did not come; the node's log, last line first:\n{}", tail.join("\n")).into())
    }

    pub(crate) fn alerts(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.folder.join("alerts.jsonl")).unwrap_or_default();
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What its admin endpoint says of the workloads.
    pub(crate) fn workloads(&self) -> Result<Value, Failed> {
        self.document("/v1/workloads")
    }

    pub(crate) fn document(&self, path: &str) -> Result<Value, Failed> {
        let mut stream = UnixStream::connect(self.folder.join("admin.sock"))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: node\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(serde_json::from_str(body).map_err(|error| format!("{error}: {answer}"))?)
    }

    /// A node on the same pins after one that was killed.
    pub(crate) fn again(&mut self, policy: &str, more: &[&str]) -> Checked {
        let name = self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        for socket in ["hook.sock", "admin.sock"] {
            fs::remove_file(self.folder.join(socket)).ok();
        }
        let mut next = Self::start_with(&name, policy, more)?;
        // What is dropped is the process that is over.
        std::mem::swap(&mut self.process, &mut next.process);
        std::mem::forget(next);
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn pins(&self) -> PathBuf {
        PathBuf::from(pin_root(self.folder.file_name().and_then(|name| name.to_str()).unwrap_or_default()))
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) -> Checked {
        Command::new("kill").arg(self.process.id().to_string()).status()?;
        let status = self.process.wait()?;
        ensure(status.success(), || format!("the node ended with {status}"))
    }

    pub(crate) fn kill(&mut self) -> Checked {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        if let Some(name) = self.folder.file_name().and_then(|name| name.to_str()) {
            palisade_kernel::unload(Path::new(&pin_root(name))).ok();
        }
    }
}

fn pin_root(name: &str) -> String {
    format!("/sys/fs/bpf/{name}")
}

/// A policy of the pods labelled `app: held`.
pub(crate) fn blocks(path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{ name: blocks, namespace: shop }}\nspec:\n  \
         selector: {{ matchLabels: {{ app: held }} }}\n  file:\n    matchPaths: [ {{ path: {path} }} ]\n  message: not for you\n  \
         action: Block\n"
    )
}

/// `ctr` options that make a container a pod of the label, with the hook in it.
pub(crate) fn pod(app: &str) -> [String; 10] {
    let label = |text: String| ["--label".to_owned(), text];
    let [a, b] = label(format!("app={app}"));
    let [c, d] = label(format!("io.kubernetes.pod.name={app}-pod"));
    let [e, f] = label("io.kubernetes.pod.namespace=shop".to_owned());
    let [g, h] = label("io.kubernetes.container.name=main".to_owned());
    [a, b, c, d, e, f, g, h, "--runc-binary".to_owned(), RUNC.to_owned()]
}

pub(crate) fn started(id: &str, app: &str) -> Result<Container, Failed> {
    started_with(id, app, &[])
}

/// The same with further options.
pub(crate) fn started_with(id: &str, app: &str, more: &[&str]) -> Result<Container, Failed> {
    let pod = pod(app);
    let options: Vec<&str> = pod.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Ok(containerd()?.hold(id, &options)?)
}

fn open(path: &str) -> Act {
    Act::Open(path.into())
}

/// The node that the tests here share, blocking `/etc/secret`: to start one is minutes of emulated time.
fn with_node(check: impl FnOnce(&mut Option<Node>) -> Checked) -> Checked {
    static SHARED: Mutex<Option<Node>> = Mutex::new(None);
    // containerd first: the node follows it.
    containerd()?;
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        *shared = Some(Node::start("node-shared", &blocks("/etc/secret"))?);
    }
    check(&mut shared)
}

fn with_running(check: impl FnOnce(&Node) -> Checked) -> Checked {
    with_node(|node| check(node.as_ref().ok_or("no node")?))
}

fn holds_and_explains(node: &Node) -> Checked {
    let containerd = containerd()?;
    let acts = [open("/etc/secret"), open("/etc/public")];
    let held = containerd.run("held", &pod("held").each_ref().map(String::as_str), &acts)?;
    ensure_outcomes(&acts, &held, 1)?;
    let other = containerd.run("other", &pod("other").each_ref().map(String::as_str), &acts)?;
    ensure_outcomes(&acts, &other, 0)?;
    // What a runtime does before its container is known is audited, and no denial.
    let denials = || -> Vec<_> { node.alerts().into_iter().filter(|alert| alert["verdict"] == "denied").collect() };
    node.wait_for("an alert", || !denials().is_empty())?;
    let alerts = denials();
    let [alert] = &alerts[..] else { return Err(format!("one act was denied: {alerts:#?}").into()) };
    for (pointer, wanted) in [
        ("/workload/name", "held-pod"),
        ("/workload/namespace", "shop"),
        ("/workload/container", "main"),
        ("/verdict", "denied"),
        ("/tier", if hooks()? == Tier::BpfLsm { "bpf-lsm" } else { "fmod-ret" }),
        ("/rule/policyName", "blocks"),
        ("/rule/message", "not for you"),
        ("/processChain/0/executable", "/bin/vm_actor"),
    ] {
        let said = alert.pointer(pointer).and_then(Value::as_str);
        ensure(said == Some(wanted), || format!("{pointer} should be {wanted}: {alert:#}"))?;
    }
    Ok(())
}

fn changes(node: &Node) -> Checked {
    let container = started("changing", "held")?;
    let (secret, public) = (open("/etc/secret"), open("/etc/public"));
    let before = [secret.clone(), public.clone()];
    ensure_outcomes(&before, &container.exec(&before)?, 1)?;
    fs::write(node.folder.join("policies/suite.yaml"), blocks("/etc/public"))?;
    let after = [public, secret];
    // The act itself is the only honest sign that the change is in force.
    node.wait_for("the changed policy", || container.exec(&after[..1]).is_ok_and(|outcomes| outcomes[0].is_denied()))?;
    ensure_outcomes(&after, &container.exec(&after)?, 1)?;
    fs::write(node.folder.join("policies/suite.yaml"), blocks("/etc/secret"))?;
    node.wait_for("the first policy", || container.exec(&before[..1]).is_ok_and(|outcomes| outcomes[0].is_denied()))?;
    container.remove()?;
    Ok(())
}

/// It takes the node with it.
fn killed(node: &mut Option<Node>) -> Checked {
    let mut node = node.take().ok_or("no node")?;
    let container = started("orphan", "held")?;
    node.kill()?;
    let acts = [open("/etc/secret"), open("/etc/public")];
    ensure_outcomes(&acts, &container.exec(&acts)?, 1)?;
    let options = pod("held");
    let refused = containerd()?.run("late", &options.each_ref().map(String::as_str), &acts);
    ensure(refused.is_err(), || format!("a container started without the node: {refused:?}"))?;
    drop(node);
    ensure_outcomes(&acts, &container.exec(&acts)?, 0)?;
    container.remove()?;
    Ok(())
}

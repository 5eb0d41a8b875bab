//! Signals to a node that starts: one that asks for a reload costs it no program, one that stops it leaves nothing.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use tokio::time::Instant;

/// Longer than a node takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

struct Node {
    folder: tempfile::TempDir,
    process: Child,
    pins: PathBuf,
}

impl Node {
    fn start(name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("palisade-signals-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        let pins = PathBuf::from(format!("/sys/fs/bpf/palisade-signals-{}-{name}", std::process::id()));
        let process = Command::new(env!("CARGO_BIN_EXE_palisade"))
            .args(["node", "--by-cgroups", "--no-alert-stdout", "--policy-dir"])
            .arg(at("policies"))
            .arg("--hook-socket")
            .arg(at("hook.sock"))
            .arg("--admin-socket")
            .arg(at("admin.sock"))
            .arg("--admin-token-file")
            .arg(at("token"))
            .arg("--state-dir")
            .arg(at("state"))
            .arg("--pin-root")
            .arg(&pins)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        Self { folder, process, pins }
    }

    fn signal(&self, name: &str) {
        // It may be over.
        Command::new("kill").args([&format!("-{name}"), &self.process.id().to_string()]).status().ok();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    fn answers(&self) -> bool {
        UnixStream::connect(self.at("admin.sock")).is_ok() && self.log().contains("admin endpoint")
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {}", self.log());
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn ended(&mut self) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return (status, begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "it does not stop: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        let mut unload = Command::new(env!("CARGO_BIN_EXE_palisade"));
        unload.args(["unload", "--force", "--pin-root"]).arg(&self.pins).output().ok();
    }
}

#[test]
fn host_node_that_is_told_to_reload_while_it_starts_loads_every_program() {
    let mut node = Node::start("reload");
    // Its pins come after it hears signals.
    node.until("its first pin", |node| node.pins.exists());
    node.until("it answers", |node| {
        node.signal("HUP");
        node.answers()
    });
    let log = node.log();
    assert!(!log.contains("temporarily unavailable"), "a program was given up for a signal:\n{log}");
    node.signal("TERM");
    assert!(node.ended().0.success(), "{}", node.log());
}

#[test]
fn host_node_that_is_stopped_while_it_starts_leaves_nothing_and_says_so() {
    for (number, wait) in [0, 400, 1500, 3000].into_iter().enumerate() {
        let mut node = Node::start(&format!("stop{number}"));
        node.until("its first pin", |node| node.pins.exists());
        thread::sleep(Duration::from_millis(wait));
        node.signal("TERM");
        let (status, took) = node.ended();
        assert!(wait > 0 || node.log().contains("before it had started"), "it went on starting:\n{}", node.log());
        println!("stopped {wait} ms after its first pin: ended after {took:?}");
        assert!(status.success(), "{status}: {}", node.log());
        assert!(!node.pins.exists(), "pins are left");
        assert!(!node.at("admin.sock").exists() && !node.at("hook.sock").exists(), "sockets are left");
        assert!(node.log().contains("stopped"), "{}", node.log());
    }
}

//! A real node without containers that holds the host to policies, with pins, sockets and policies of its own; it goes when it is dropped.
#![expect(clippy::unwrap_used, reason = "a panic is how a test's bed says that it cannot be made")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test file is a program of its own and uses its part of the bed"
)]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Looks until it is too late, a minute at least: loading BPF programs in a debug build on a busy machine.
const LOOKS: u32 = 600;

pub struct Node {
    folder: tempfile::TempDir,
    child: Child,
}

impl Node {
    /// A node that is ready. Its pins are named by the test, so that two tests never meet.
    pub fn start(name: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("policies")).unwrap();
        let root = folder.path().display();
        let config = format!(
            "policyDir: {root}/policies\nadminSocket: {root}/admin.sock\nhookSocket: {root}/hook.sock\nadminTokenFile: {root}/token\n\
             pinRoot: /sys/fs/bpf/palisade-{name}\nnoContainers: true\nhostPolicy: true\nnodeName: here\n{more}"
        );
        fs::write(folder.path().join("config.yaml"), config).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_palisade"))
            .args(["node", "--config"])
            .arg(folder.path().join("config.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let node = Self { folder, child };
        node.until("it is ready", |node| {
            node.path("admin.sock").exists() && node.get("/readyz").1.get("ready") == Some(&json!(true))
        });
        node
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let held = (0..LOOKS).any(|_| {
            let held = holds(self);
            if !held {
                std::thread::sleep(LOOK_EVERY);
            }
            held
        });
        assert!(held, "not so within a minute: {what}\n{}", self.log());
    }

    pub fn ask(&self, route: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.path("admin.sock")).unwrap();
        write!(stream, "GET {route} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// All that comes, head and body.
    pub fn text(&self, route: &str) -> String {
        let mut text = String::new();
        self.ask(route).read_to_string(&mut text).unwrap();
        text
    }

    /// A command that goes on; its output is in the file `followed`.
    pub fn follow(&self, words: &[&str]) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        let file = fs::File::create(self.path("followed")).unwrap();
        command.env("PALISADE_CONFIG", self.path("config.yaml")).args(words).stdout(file).spawn().unwrap()
    }

    /// Status and body; null where it is no JSON.
    pub fn get(&self, route: &str) -> (u16, Value) {
        let mut text = String::new();
        let _ = self.ask(route).read_to_string(&mut text);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or_default())
    }

    pub fn condition(&self, name: &str) -> Value {
        self.get("/readyz").1["conditions"][name].clone()
    }

    /// A command that finds the node by the configuration.
    pub fn palisade(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_palisade"));
        command.env("PALISADE_CONFIG", self.path("config.yaml")).args(words).output().unwrap()
    }

    pub fn change(&self, from: &str, to: &str) {
        let config = fs::read_to_string(self.path("config.yaml")).unwrap();
        assert!(config.contains(from), "{config}");
        // As editors do: whole, under another name, and then in its place.
        fs::write(self.path("new"), config.replace(from, to)).unwrap();
        fs::rename(self.path("new"), self.path("config.yaml")).unwrap();
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::TERM);
        for _ in 0..LOOKS {
            if self.child.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.child.kill().unwrap();
    }
}

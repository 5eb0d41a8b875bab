//! A whole node on a machine that is full already: what ran before it is known rightly, its memory stays where it is, and a policy that
//! changes is in force for all.
//!
//! Sizes are for a busy machine of two cores; the bench ring asks for the stated ones by `PALISADE_PROCESSES` (32,000),
//! `PALISADE_CONTAINERS` (110) and `PALISADE_CHURN` (10,000). Containers are cgroups with real processes, named as Docker names them.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::time::Instant;

/// Longer than a node takes to start on a busy machine that is full of processes.
const PATIENCE: Duration = Duration::from_secs(120);

const POLICY: &str = r#"
apiVersion: palisade.dev/v1alpha1
kind: PalisadePolicy
metadata: { name: no-port-9, namespace: default }
spec:
  selector: { matchLabels: { palisade.dev/runtime: docker } }
  network: { destinations: [{ ports: [9], protocol: TCP }] }
  action: Block
"#;

/// The same for another port, which comes with each change.
fn policy_of(port: u16) -> String {
    POLICY.replace("ports: [9]", &format!("ports: [{port}]"))
}

/// Forks as many children as it is told, which do nothing, and tells when they are there; they end with it.
const CROWD: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>
int main(int count, char **words)
{
	long left = count > 1 ? atol(words[1]) : 0;
	pid_t parent = getpid();
	while (left-- > 0) {
		pid_t child = fork();
		if (child < 0) { perror("fork"); return 1; }
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent) return 0;
			for (;;) pause();
		}
	}
	puts("there");
	fflush(stdout);
	getchar();
	return 0;
}
"#;

fn asked(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    mounts.lines().find(|line| line.starts_with("cgroup2 ")).and_then(|line| line.split(' ').nth(1)).unwrap().into()
}

/// An id as Docker makes them, of this process alone.
fn id(number: u32) -> String {
    format!("{:032x}{number:032x}", std::process::id())
}

fn docker() -> PathBuf {
    unified().join("docker")
}

fn remove(directory: &Path) {
    for _ in 0..200 {
        if fs::remove_dir(directory).is_ok() || !directory.exists() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A cgroup with a shell in it that waits for a word, and then connects to port 9.
struct Container {
    id: String,
    directory: PathBuf,
    shell: Child,
    word: Option<ChildStdin>,
}

impl Container {
    fn start(number: u32) -> Self {
        let id = id(number);
        let directory = docker().join(&id);
        fs::create_dir_all(&directory).unwrap();
        let script = "read word; (exec 3<>/dev/tcp/127.0.0.1/9) 2>&1; read word";
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        fs::write(directory.join("cgroup.procs"), shell.id().to_string()).unwrap();
        let word = shell.stdin.take();
        Self { id, directory, shell, word }
    }

    /// What the shell says of its connection.
    fn connect(&mut self) -> String {
        self.word.as_mut().unwrap().write_all(b"now\n").unwrap();
        let mut line = String::new();
        BufReader::new(self.shell.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.shell.kill().ok();
        self.shell.wait().ok();
        remove(&self.directory);
    }
}

/// Many processes that do nothing.
struct Crowd(Child);

impl Crowd {
    fn start(folder: &Path, count: u32) -> Self {
        let (source, program) = (folder.join("crowd.c"), folder.join("crowd"));
        fs::write(&source, CROWD).unwrap();
        assert!(
            Command::new("cc").args(["-static", "-O1", "-o"]).arg(&program).arg(&source).status().unwrap().success()
        );
        let mut crowd = Command::new(program);
        crowd.arg(count.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut crowd = Self(crowd.spawn().unwrap());
        let mut line = String::new();
        BufReader::new(crowd.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "there\n", "is kernel.pid_max large enough for {count} more?");
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A process that ends with this value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Raises `kernel.pid_max` for as long as it lives.
struct PidMax(Option<String>);

impl PidMax {
    fn at_least(wanted: u32) -> Self {
        let before = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
        let enough = before.trim().parse::<u32>().unwrap() >= wanted;
        if !enough {
            fs::write("/proc/sys/kernel/pid_max", wanted.to_string()).unwrap();
        }
        Self((!enough).then_some(before))
    }
}

impl Drop for PidMax {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            fs::write("/proc/sys/kernel/pid_max", before).ok();
        }
    }
}

/// A node that knows containers by their cgroups.
struct Node {
    folder: tempfile::TempDir,
    process: Child,
    pins: PathBuf,
    started: Instant,
}

impl Node {
    fn start(max_workloads: u32) -> Self {
        Self::start_with(max_workloads, POLICY, &[])
    }

    fn start_with(max_workloads: u32, policy: &str, more: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("palisade-scale-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("policies")).unwrap();
        fs::write(at("policies/p.yaml"), policy).unwrap();
        let pins = PathBuf::from(format!("/sys/fs/bpf/palisade-scale-{}", std::process::id()));
        let started = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_palisade"))
            .args(["node", "--by-cgroups", "--no-alert-stdout"])
            .args(more)
            .args(["--max-workloads", &max_workloads.to_string(), "--policy-dir"])
            .arg(at("policies"))
            .arg("--hook-socket")
            .arg(at("hook.sock"))
            .arg("--admin-socket")
            .arg(at("admin.sock"))
            .arg("--admin-token-file")
            .arg(at("token"))
            .arg("--alert-file")
            .arg(at("alerts"))
            .arg("--pin-root")
            .arg(&pins)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        Self { folder, process, pins, started }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }

    /// The status and body of an answer; `None` while nobody answers.
    fn get(&self, route: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.at("admin.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {route} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The containers that it holds to a policy.
    fn held(&self) -> Vec<String> {
        let Some((200, body)) = self.get("/v1/workloads") else { return Vec::new() };
        // Chunked: the document is between the first and the last brace.
        let document = body.find('{').and_then(|from| body.rfind('}').map(|to| &body[from..=to]));
        let Some(document) = document.map(|text| text.replace("\r\n", "")) else { return Vec::new() };
        let Ok(value) = serde_json::from_str::<Value>(&document) else { return Vec::new() };
        let rows = value["workloads"].as_array().cloned().unwrap_or_default();
        let held = rows.iter().filter(|row| !row["policy"].is_null());
        held.filter_map(|row| row["workload"]["container_id"].as_str().map(str::to_owned)).collect()
    }

    fn until(&self, what: &str, mut done: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if done() {
                return self.started.elapsed();
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("not in time: {what}\n{}", self.log().lines().rev().take(20).collect::<Vec<_>>().join("\n"));
    }

    /// Resident memory of the node and of its responder, in bytes.
    fn resident(&self) -> u64 {
        let own = self.process.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
        let all = std::iter::once(own).chain(children.split_whitespace().filter_map(|pid| pid.parse().ok()));
        all.map(resident_of).sum()
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get("/metrics").expect("it answers");
        let line = body.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with("{}")));
        let line = line.unwrap_or_else(|| panic!("no {name}: {body}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// Asks as the hook does: a container is about to start with this init process.
    fn ask(&self, id: &str, pid: u32, bundle: &Path) -> Value {
        let mut stream = UnixStream::connect(self.at("hook.sock")).unwrap();
        let question = json!({ "version": 1, "namespace": "moby", "id": id, "pid": pid, "bundle": bundle });
        writeln!(stream, "{question}").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

/// Says when each policy is in force, and which blob it is. Whom nobody admitted has none.
const TELLING: [&str; 6] = [
    "--log-format",
    "json",
    "--log-level",
    "info,palisade_enforcer=debug,palisade_policy_compiler=debug",
    "--on-unknown-workload",
    "allow",
];
/// Milliseconds of a day, at each of which the clock of a day begins anew.
const DAY_MS: f64 = 86_400_000.0;

/// One change of the policy, as the node's log has it: milliseconds since the file had its content.
#[derive(Debug)]
struct Change {
    generation: u64,
    read: f64,
    /// When the compiler gave its first and its last answer.
    compiled: (f64, f64),
    /// When the first and the last workload was held to it.
    in_force: (f64, f64),
    /// The blobs that it was compiled to.
    blobs: BTreeSet<String>,
    /// How often it was put in force, by slot.
    times: BTreeMap<u64, u32>,
}

impl Change {
    /// The newest, once it is in force for so many.
    fn newest(log: &str, file: &Path, workloads: usize) -> Option<Self> {
        let written = fs::metadata(file).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
        let since = |line: &Value| (ms_of_day(line) - written.as_secs_f64() * 1e3).rem_euclid(DAY_MS);
        let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let says = |line: &&Value, what: &str| line["fields"]["message"] == what;
        let begun = lines.iter().rposition(|line| says(&line, "policy set in force"))?;
        let generation = lines[begun]["fields"]["generation"].as_u64()?;
        let compiled: Vec<&Value> = lines[begun..].iter().filter(|line| says(line, "policy compiled")).collect();
        let of_it = |line: &&Value| says(line, "policy in force") && line["fields"]["generation"] == generation;
        let in_force: Vec<&Value> = lines[begun..].iter().filter(of_it).collect();
        let mut times = BTreeMap::new();
        in_force.iter().for_each(|line| *times.entry(line["fields"]["slot"].as_u64().unwrap()).or_default() += 1);
        let span = |lines: &[&Value]| Some((since(lines.first()?), since(lines.last()?)));
        let blobs = compiled.iter().map(|line| line["fields"]["blob"].to_string()).collect();
        let change = Self {
            generation,
            read: since(&lines[begun]),
            compiled: span(&compiled)?,
            in_force: span(&in_force)?,
            blobs,
            times,
        };
        let workloads_held = change.times.keys().filter(|slot| (1..4095).contains(*slot)).count();
        (workloads_held >= workloads).then_some(change)
    }

    /// From the set that the node has read to the last workload that it holds.
    fn took(&self) -> f64 {
        self.in_force.1 - self.read
    }
}

/// `2026-11-25T21:37:41.123456Z`, without its day.
fn ms_of_day(line: &Value) -> f64 {
    let (_, time) = line["timestamp"].as_str().unwrap().trim_end_matches('Z').split_once('T').unwrap();
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap()) * 1e3
}

/// Of a debug build without the pages of the program's own file: it is four times as large as a release, how much of it is mapped depends on
/// how the page cache came by it, and the kernel takes those pages back whenever it wants. Of a release all counts.
fn resident_of(pid: u32) -> u64 {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default().display().to_string();
    let mut counts = true;
    let mut kibibytes = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default().lines() {
        let is_head = line.split(' ').next().is_some_and(|first| first.contains('-'));
        if is_head {
            counts = !cfg!(debug_assertions) || program.is_empty() || !line.ends_with(&program);
        } else if let Some(rest) = line.strip_prefix("Rss:").filter(|_| counts) {
            kibibytes += rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
        }
    }
    kibibytes << 10
}

impl Drop for Node {
    fn drop(&mut self) {
        Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status().ok();
        self.process.wait().ok();
        Command::new(env!("CARGO_BIN_EXE_palisade"))
            .args(["unload", "--force", "--pin-root"])
            .arg(&self.pins)
            .output()
            .ok();
        fs::remove_dir(docker()).ok();
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[test]
fn host_node_that_starts_late_knows_what_runs_and_stays_within_its_memory() {
    let (processes, containers) = (asked("PALISADE_PROCESSES", 1000), asked("PALISADE_CONTAINERS", 50));
    let _numbers = PidMax::at_least(2 * processes);
    let folder = tempfile::tempdir().unwrap();
    let mut before: Vec<Container> = (0..containers).map(Container::start).collect();
    let crowd = Crowd::start(folder.path(), processes);
    let node = Node::start(4094);
    let ready = node.until("ready", || matches!(node.get("/readyz"), Some((200, _))));
    let all = node.until("every container is held", || node.held().len() >= before.len());
    println!("beside {processes} processes: ready after {ready:?}, {containers} containers held after {all:?}");
    assert!(node.log().contains("memory at most, with every table full"), "the bound is said:\n{}", node.log());

    // What ran before is who it is, and so are its ancestors.
    let said = before[0].connect();
    assert!(said.contains("not permitted"), "{said}");
    let mut alert = Value::Null;
    node.until("the alert", || {
        let text = fs::read_to_string(node.at("alerts")).unwrap_or_default();
        alert = text.lines().next().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        !alert.is_null()
    });
    let text = alert.to_string();
    assert!(text.contains(&before[0].id) && !text.contains(&before[1].id), "{text}");
    assert!(text.contains("no-port-9") && text.contains("bash"), "{text}");
    let chain = text.contains(&std::process::id().to_string());
    assert!(chain, "the shell's parent ran before the node, too: {text}");

    let full = node.resident();
    println!("resident with {containers} containers and {processes} processes: {:.1} MiB", mib(full));
    let most = if cfg!(debug_assertions) { 72 } else { 100 };
    assert!(full < most << 20, "{:.1} MiB of {most}", mib(full));
    assert!(node.metric("palisade_processes") >= f64::from(processes), "all are known");
    drop(crowd);
    before.truncate(0);
    node.until("their ends", || node.held().is_empty());
}

#[test]
fn host_node_puts_a_changed_policy_in_force_once_for_each_of_its_containers_from_one_blob() {
    let containers = asked("PALISADE_CONTAINERS", 50);
    let mut all: Vec<Container> = (0..containers).map(Container::start).collect();
    let node = Node::start_with(4094, &policy_of(100), &TELLING);
    node.until("ready", || matches!(node.get("/readyz"), Some((200, _))));
    node.until("every container is held", || node.held().len() >= all.len());
    let file = node.at("policies/p.yaml");
    let mut changes = Vec::new();
    // The last one forbids what the containers try below.
    for port in [101, 102, 103, 104, 9] {
        let generation = changes.last().map(|change: &Change| change.generation);
        fs::write(node.at("new"), policy_of(port)).unwrap();
        fs::rename(node.at("new"), &file).unwrap();
        node.until("the change is in force for all", || {
            let newest = Change::newest(&node.log(), &file, all.len());
            let newest = newest.filter(|change| change.read < 60_000.0 && Some(change.generation) > generation);
            newest.map(|change| changes.push(change)).is_some()
        });
    }
    for Change { generation, read, compiled, in_force, blobs, times } in &changes {
        println!(
            "generation {generation}, {containers} containers, ms since the file: read {read:.1}, compiled {:.1} to {:.1}, in force {:.1} to {:.1}",
            compiled.0, compiled.1, in_force.0, in_force.1
        );
        assert_eq!(blobs.len(), 1, "they share it: {blobs:?}");
        let other = times.iter().find(|(_, times)| **times != 1);
        assert_eq!(other, None, "one word for each slot, written once: {times:?}");
    }
    let least = changes.iter().map(Change::took).fold(f64::MAX, f64::min);
    println!("from the set that is read to the last of {containers} containers: {least:.1} ms at least");
    // Sizes are asked for by the bench ring, whose build is a release.
    assert!(cfg!(debug_assertions) || least < 50.0, "{least:.1} ms");
    for container in &mut all {
        let said = container.connect();
        assert!(said.contains("not permitted"), "{}: {said}", container.id);
    }
}

#[test]
fn host_node_is_the_same_after_many_short_containers() {
    let churn = asked("PALISADE_CHURN", 300);
    // As many slots as are used over and over by so many, and for the stated number all that there can be.
    let slots = if churn >= 10_000 { 4094 } else { 128 };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), "{}").unwrap();
    let node = Node::start(slots);
    node.until("ready", || matches!(node.get("/readyz"), Some((200, _))));
    let init = Process(Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap());
    let parent = docker();
    fs::create_dir_all(&parent).unwrap();
    let mut refused = 0;
    // Starts one, and says whether it was admitted; its cgroup stays.
    let admit = |number: u32| {
        let id = id(1_000_000 + number);
        let directory = parent.join(&id);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("cgroup.procs"), init.0.id().to_string()).unwrap();
        let answer = node.ask(&id, init.0.id(), folder.path());
        let admitted = answer["admitted"] == true;
        assert!(admitted || answer["reason"].as_str().unwrap().contains("no slot is free"), "{answer}");
        admitted
    };
    let end = |number: u32| {
        fs::write(unified().join("cgroup.procs"), init.0.id().to_string()).unwrap();
        remove(&parent.join(id(1_000_000 + number)));
    };
    let mut run = |numbers: std::ops::Range<u32>| {
        for number in numbers {
            while !admit(number) {
                // All slots rest: the runtime would try again.
                refused += 1;
                thread::sleep(Duration::from_millis(200));
            }
            end(number);
        }
    };
    // What is filled once is filled: a slot's entries stay for its next owner. A slot that has rested is given before one that was never
    // used, so all are only in use when as many containers are there at a time as there are slots; the next one finds none.
    for number in 0..slots {
        assert!(admit(number), "{number} of {slots} slots are taken");
    }
    assert!(!admit(slots), "every slot is taken");
    (0..=slots).for_each(end);
    let first = slots + 1;
    let held = || node.get("/v1/workloads").is_none_or(|(_, body)| body.contains("container_id\":\"0"));
    let quiet = || node.until("their ends", || !held());
    quiet();
    // Freed slots rest for 10 s. Then each is given out once more, so that what a second owner adds is there, too.
    thread::sleep(Duration::from_secs(11));
    run(first..first + slots);
    let first = first + slots;
    thread::sleep(Duration::from_secs(3));
    quiet();
    let (memory, files, maps) = (node.resident(), node.descriptors(), node.metric("palisade_map_bytes"));
    let begun = Instant::now();
    run(first..first + churn);
    let took = begun.elapsed();
    quiet();
    thread::sleep(Duration::from_secs(3));
    let (memory_after, files_after, maps_after) =
        (node.resident(), node.descriptors(), node.metric("palisade_map_bytes"));
    println!(
        "{churn} short containers in {took:?} ({refused} waits for a slot): resident {:.1} -> {:.1} MiB, descriptors {files} -> {files_after}, maps {maps} -> {maps_after} bytes",
        mib(memory),
        mib(memory_after)
    );
    drop(init);
    let pinned = fs::read_dir(node.pins.join("cgroup")).map(Iterator::count).unwrap_or(0);
    assert!(
        pinned <= palisade_kernel::cgroup::PROGRAMS.len(),
        "a link each, however many containers there were: {pinned}"
    );
    assert!(maps_after <= maps + f64::from(256 << 10), "{maps} -> {maps_after}");
    assert!(files_after <= files + 4, "{files} -> {files_after}");
    assert!(memory_after < memory + (4 << 20), "{:.1} -> {:.1} MiB", mib(memory), mib(memory_after));
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

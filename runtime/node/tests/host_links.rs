//! Real nodes that are linked, each in a network namespace as on a host of its own: what any of them shows of all, while one is killed and
//! comes back, shows an expired certificate, or is revoked while it is linked; and while its authority is made anew, or the file system of
//! its key is dead.
//!
//! As root, with pins, sockets and policies of their own, over a bridge that nothing else is on; no policy here holds anything.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "real nodes are waited for in real time")]

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use palisade_world::Rng;
use serde_json::{Value, json};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Until it is too late: three nodes load BPF programs in a debug build on a busy machine.
const WITHIN: Duration = Duration::from_secs(180);

const BRIDGE: &str = "pal-links";

fn ran(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words:?}: {said}");
    said
}

fn palisade(words: &[&str]) -> String {
    ran(env!("CARGO_BIN_EXE_palisade"), words)
}

/// A bridge with a namespace for each of some hosts.
struct Network(Vec<String>);

impl Network {
    fn of(hosts: u8) -> Self {
        // What a run before this one left.
        Self((1..=hosts).map(|host| format!("pal-links-{host}")).collect()).take_away();
        ran("ip", &["link", "add", BRIDGE, "type", "bridge"]);
        ran("ip", &["link", "set", BRIDGE, "up"]);
        let mut network = Self(Vec::new());
        for host in 1..=hosts {
            let (space, link) = (format!("pal-links-{host}"), format!("pal-l{host}"));
            ran("ip", &["netns", "add", &space]);
            ran("ip", &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            ran("ip", &["link", "set", &link, "master", BRIDGE, "up"]);
            let address = format!("10.77.0.{host}/24");
            ran("ip", &["-n", &space, "address", "add", &address, "dev", "eth0"]);
            ran("ip", &["-n", &space, "link", "set", "eth0", "up"]);
            network.0.push(space);
        }
        network
    }

    fn take_away(&self) {
        for space in &self.0 {
            let _ = Command::new("ip").args(["netns", "delete", space]).stderr(Stdio::null()).status();
        }
        let _ = Command::new("ip").args(["link", "delete", BRIDGE]).stderr(Stdio::null()).status();
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.take_away();
    }
}

/// A node on one of the hosts.
struct Node {
    name: &'static str,
    host: u8,
    folder: PathBuf,
    child: Child,
}

impl Node {
    /// `dials` are names and hosts.
    fn start(name: &'static str, host: u8, dials: &[(&str, u8)], root: &Path) -> Self {
        Self::start_in(name, root.join(name), host, dials, root)
    }

    /// Another of the same name and certificate.
    fn copy(name: &'static str, host: u8, dials: &[(&str, u8)], root: &Path) -> Self {
        Self::start_in(name, root.join(format!("{name}-copy")), host, dials, root)
    }

    fn start_in(name: &'static str, folder: PathBuf, host: u8, dials: &[(&str, u8)], root: &Path) -> Self {
        fs::create_dir_all(folder.join("policies")).unwrap();
        let policy = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {{name: watch-{name}}}\nspec:\n  \
             nodeSelector: {{matchLabels: {{kubernetes.io/hostname: {name}}}}}\n  severity: 1\n  apparmor: |\n    deny /x r,\n"
        );
        fs::write(folder.join("policies/watch.yaml"), policy).unwrap();
        let (at, certificates) = (folder.display(), root.join("ca").display().to_string());
        let peers: Vec<String> = dials.iter().map(|(peer, host)| format!("{peer}: \"10.77.0.{host}:7117\"")).collect();
        let config = format!(
            "policyDir: {at}/policies\nstateDir: {at}/state\nadminSocket: {at}/admin.sock\nhookSocket: {at}/hook.sock\n\
             adminTokenFile: {at}/token\npinRoot: /sys/fs/bpf/palisade-links-{name}-{host}\nnoContainers: true\nhostPolicy: true\n\
             nodeName: {name}\nlinkListen: \"10.77.0.{host}:7117\"\nlinkPeers: {{{}}}\nlinkCertificate: {certificates}/{name}.pem\n\
             linkKey: {certificates}/{name}.key\nlinkCa: {certificates}/ca.pem\nlinkRevoked: {certificates}/revoked.pem\n",
            peers.join(", ")
        );
        fs::write(folder.join("config.yaml"), config).unwrap();
        let child = Self::process(&folder, host);
        Self { name, host, folder, child }
    }

    /// Only the network is another's: `ip netns exec` would hide the BPF file system as well.
    fn process(folder: &Path, host: u8) -> Child {
        Command::new("nsenter")
            .arg(format!("--net=/run/netns/pal-links-{host}"))
            .args([env!("CARGO_BIN_EXE_palisade"), "node", "--config"])
            .arg(folder.join("config.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap())
            .spawn()
            .unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The body; empty while nobody answers.
    fn text(&self, route: &str) -> String {
        let Ok(mut stream) = UnixStream::connect(self.folder.join("admin.sock")) else { return String::new() };
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = String::new();
        let _ = write!(stream, "GET {route} HTTP/1.0\r\nHost: x\r\n\r\n")
            .and_then(|()| stream.read_to_string(&mut text).map(drop));
        text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }

    fn nodes(&self) -> Value {
        serde_json::from_str(&self.text("/v1/nodes")).unwrap_or_default()
    }

    /// How it says that another is.
    fn of(&self, other: &str) -> Value {
        let nodes = self.nodes();
        let all = nodes["nodes"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|node| node["node"] == other).unwrap_or_default()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < WITHIN, "{}: {what}\n{}\n{}", self.name, self.nodes(), self.log());
            std::thread::sleep(LOOK_EVERY);
        }
        begun.elapsed()
    }

    fn until_linked(&self, others: &[&str]) {
        self.until("it is linked", |node| others.iter().all(|other| node.of(other)["state"] == "linked"));
    }

    /// What a person at this node types and sees.
    fn typed(&self, words: &[&str]) -> String {
        let socket = self.folder.join("admin.sock").display().to_string();
        palisade(&[words, &["--admin-socket", &socket]].concat())
    }

    /// As the service manager stops it; how long that took.
    fn stop(&mut self) -> Duration {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} does not stop\n{}", self.name, self.log());
            std::thread::sleep(LOOK_EVERY);
        }
        begun.elapsed()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if self.child.try_wait().unwrap().is_some() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.child.kill();
    }
}

/// Holds what a node tells of all nodes to its own OpenAPI document; objects have no field that is not stated.
fn check_schemas(node: &Node) {
    fn closed(schema: &mut Value) {
        match schema {
            Value::Object(fields) => {
                if fields.contains_key("properties") {
                    fields.insert("additionalProperties".into(), false.into());
                }
                fields.values_mut().for_each(closed);
            }
            Value::Array(items) => items.iter_mut().for_each(closed),
            _ => {}
        }
    }
    let mut openapi: Value = serde_json::from_str(&node.text("/v1/openapi.json")).unwrap();
    closed(&mut openapi["components"]["schemas"]);
    let check = |name: &str, value: &Value| {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}"), "components": openapi["components"] });
        if let Err(error) = jsonschema::validator_for(&schema).unwrap().validate(value) {
            panic!("{name}: {error} at {}: {value}", error.instance_path());
        }
    };
    check("Nodes", &node.nodes());
    let trees: Value = serde_json::from_str(&node.text("/v1/tree?nodes=all")).unwrap();
    check("Trees", &trees);
    check("TreeOrTrees", &trees);
    for line in node.text("/v1/alerts?nodes=all").lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if line.get("link").is_some() {
            check("NodeMark", &line);
        }
    }
}

/// `palisade logs --nodes all --follow`, line by line.
struct Followed(Child, PathBuf);

impl Followed {
    fn start(node: &Node) -> Self {
        let path = node.folder.join("followed");
        let out = fs::File::create(&path).unwrap();
        let socket = node.folder.join("admin.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_palisade"))
            .args(["logs", "--nodes", "all", "--follow", "--admin-socket"])
            .arg(socket)
            .stdout(out)
            .spawn()
            .unwrap();
        Self(child, path)
    }

    fn until(&self, what: &str, holds: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let text = fs::read_to_string(&self.1).unwrap();
            if holds(&text) {
                return;
            }
            assert!(begun.elapsed() < WITHIN, "{what}: {text}");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The cable of a host.
fn cable(host: u8, state: &str) {
    ran("ip", &["-n", &format!("pal-links-{host}"), "link", "set", "eth0", state]);
}

/// Another policy that cannot be held, of which a node raises an alert.
fn raise(node: &Node, name: &str) {
    let policy = fs::read_to_string(node.folder.join("policies/watch.yaml")).unwrap();
    let other = policy.replace(&format!("watch-{}", node.name), name);
    fs::write(node.folder.join(format!("policies/{name}.yaml")), other).unwrap();
}

/// Names of nodes that a stream of lines is of, and the marks before them by name.
fn alerts(node: &Node) -> (Vec<String>, Vec<(String, String)>) {
    let text = node.text("/v1/alerts?nodes=all");
    let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut of: Vec<String> = lines.iter().filter_map(|line| Some(line["node"].as_str()?.to_owned())).collect();
    of.sort_unstable();
    of.dedup();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let marks = lines.iter().filter(|line| line.get("link").is_some());
    (of, marks.map(|line| (word(&line["link"]["node"]), word(&line["link"]["state"]))).collect())
}

#[test]
fn host_links_show_all_nodes_at_any_while_one_is_killed_expired_or_revoked() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("ca").display().to_string();
    let at = ["--directory", directory.as_str()];
    palisade(&[&["certificate", "authority"], &at[..]].concat());
    for (name, days) in [("a", "1"), ("b", "1"), ("c", "1"), ("late", "0")] {
        palisade(&[&["certificate", "issue", name, "--days", days], &at[..]].concat());
    }
    let _network = Network::of(4);
    let a = Node::start("a", 1, &[("b", 2), ("c", 3)], root.path());
    let mut b = Node::start("b", 2, &[("c", 3)], root.path());
    let c = Node::start("c", 3, &[], root.path());
    a.until_linked(&["b", "c"]);
    b.until_linked(&["a", "c"]);
    c.until_linked(&["a", "b"]);

    for node in [&a, &b, &c] {
        node.until("it shows the alerts of all", |node| alerts(node).0 == ["a", "b", "c"]);
        let trees: Value = serde_json::from_str(&node.text("/v1/tree?nodes=all")).unwrap();
        let trees = trees["nodes"].as_array().unwrap();
        assert_eq!(trees.len(), 3, "{trees:?}");
        for tree in trees {
            let rows = tree["rows"].as_array().unwrap();
            assert_eq!((&rows[0]["name"], &rows[0]["state"]), (&"palisade".into(), &"running".into()), "{tree}");
            assert!(rows.iter().any(|row| row["name"] == "peers" && row["state"] == "running"), "{tree}");
        }
        let typed = node.typed(&["tree", "--nodes", "all"]);
        assert_eq!(typed.matches("policy-keeper").count(), 3, "{typed}");
    }
    let typed = a.typed(&["logs", "--nodes", "all"]);
    assert!(
        typed.contains("# b is linked since ") && typed.contains("watch-b") && typed.contains("watch-a"),
        "{typed}"
    );

    check_schemas(&a);
    let followed = Followed::start(&a);
    followed.until("the past of all", |text| ["watch-a", "watch-b", "watch-c"].iter().all(|name| text.contains(name)));
    raise(&c, "fresh-c");
    followed.until("an alert of c as it comes", |text| text.contains("fresh-c"));

    // A cable is pulled for less than the peers wait: no connection ends. For longer: what was sent meanwhile comes when it is back.
    let counts = |node: &Node, other: &str| node.of(other)["counts"].clone();
    let linked = counts(&a, "c")["linked"].clone();
    cable(3, "down");
    std::thread::sleep(Duration::from_secs(1));
    cable(3, "up");
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!((a.of("c")["state"].as_str(), &counts(&a, "c")["linked"]), (Some("linked"), &linked));
    cable(3, "down");
    a.until("c is parted", |node| node.of("c")["state"] == "out");
    c.until("it knows", |node| node.of("a")["state"] == "out" && node.of("b")["state"] == "out");
    followed.until("the mark of who is parted", |text| text.contains("# c is out since "));
    raise(&c, "parted-c");
    std::thread::sleep(Duration::from_secs(5));
    cable(3, "up");
    a.until_linked(&["c"]);
    b.until_linked(&["c"]);
    followed.until("what c said meanwhile", |text| text.contains("parted-c"));
    let (here, there) = (counts(&a, "c"), counts(&c, "a"));
    assert_eq!((&here["lost"], &there["lost"]), (&json!(0), &json!(0)), "it went on where it was: {here} {there}");
    assert!(here["linked"].as_u64() > linked.as_u64(), "{here}");
    a.until("all that was sent is taken", |node| {
        let counts = counts(node, "c");
        counts["takenByPeer"].as_u64() > here["takenByPeer"].as_u64()
    });

    // One is killed: it is marked, what it last said stays, and it comes back.
    let since = a.of("b")["since"].clone();
    b.kill();
    let took = a.until("it sees that b is out", |node| node.of("b")["state"] == "out");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let out = a.of("b");
    assert!(out["since"].as_str() > since.as_str() && out["why"] == "it does not answer", "{out}");
    let (of, marks) = alerts(&a);
    assert_eq!(of, ["a", "b", "c"]);
    assert_eq!(marks[1], ("b".to_owned(), "out".to_owned()), "{marks:?}");
    let typed = a.typed(&["tree", "--nodes", "all"]);
    assert!(typed.contains("b is out since ") && typed.contains("(as it said "), "{typed}");
    let typed = a.typed(&["nodes"]);
    assert!(typed.lines().any(|line| line.starts_with("b ") && line.contains("out")), "{typed}");
    assert_eq!(a.of("c")["state"], "linked");
    b.child = Node::process(&b.folder, b.host);
    a.until_linked(&["b"]);
    b.until_linked(&["a", "c"]);
    followed.until("marks of b", |text| text.contains("# b is out since "));
    drop(followed);
    check_schemas(&a);

    // A certificate, a key and, later, the list change under nodes that are linked: each moves to a new connection, and none is out.
    let (since, linked) = (a.of("c")["since"].clone(), counts(&a, "c")["linked"].as_u64());
    palisade(&[&["certificate", "issue", "c", "--days", "2", "--replace"], &at[..]].concat());
    a.until("it is linked anew", |node| counts(node, "c")["linked"].as_u64() > linked);
    let after = a.of("c");
    assert_eq!(
        (&after["since"], after["state"].as_str(), &after["counts"]["lost"]),
        (&since, Some("linked"), &json!(0))
    );
    palisade(&[&["certificate", "renew-list"], &at[..]].concat());

    // One that the others do not trust parts nobody: the link of before stands, and both say so until there is a good one.
    let elsewhere = root.path().join("elsewhere").display().to_string();
    palisade(&["certificate", "authority", "--directory", &elsewhere]);
    palisade(&["certificate", "issue", "c", "--days", "1", "--directory", &elsewhere]);
    let files = ["c.key", "c.pem"].map(|name| root.path().join("ca").join(name));
    let good = files.clone().map(|file| fs::read(file).unwrap());
    for file in &files {
        fs::copy(Path::new(&elsewhere).join(file.file_name().unwrap()), file).unwrap();
    }
    let refused = "refuses this node's certificate (unknown-authority)";
    c.until("who dials refuses it", |node| node.text("/readyz").contains(refused));
    let shown = "c shows another certificate, which is refused (unknown-authority)";
    a.until("it says what it refuses", |node| node.text("/readyz").contains(shown));
    let stands = a.of("c");
    assert_eq!((&stands["since"], &stands["state"]), (&since, &"linked".into()), "{stands}");
    files.iter().zip(&good).for_each(|(file, text)| fs::write(file, text).unwrap());
    a.until("it refuses nothing", |node| !node.text("/readyz").contains(shown));
    assert_eq!(a.of("c")["since"], since);

    // A pipe in the place of a file holds up nothing: the last good one is in force.
    let (file, aside) = (root.path().join("ca/a.pem"), root.path().join("ca/a.pem.aside"));
    fs::rename(&file, &aside).unwrap();
    ran("mkfifo", &[file.to_str().unwrap()]);
    a.until("its condition says so", |node| node.text("/readyz").contains("a.pem: it is no file"));
    assert_eq!(a.of("b")["state"], "linked", "{}", a.of("b"));
    fs::rename(&aside, &file).unwrap();
    a.until("it is sound again", |node| !node.text("/readyz").contains("it is no file"));

    // A stranger, of another authority of the same name, is refused, and both say so.
    palisade(&["certificate", "issue", "stranger", "--days", "1", "--directory", &elsewhere, "--into", &directory]);
    let stranger = Node::start("stranger", 4, &[("a", 1)], root.path());
    stranger.until("it is refused", |node| node.of("a")["why"] == "unknown-authority");
    let of_stranger = |one: &Value| one["address"].as_str().is_some_and(|at| at.starts_with("10.77.0.4:"));
    a.until("it says so, too", |node| {
        let away = node.nodes()["turnedAway"].clone();
        away.as_array().is_some_and(|all| all.iter().any(|one| of_stranger(one) && one["why"] == "unknown-authority"))
    });
    let counted = r#"link_turned_away_total{why="unknown-authority",refused_by="node"}"#;
    assert!(a.text("/metrics").contains(counted), "{}", a.text("/metrics"));
    let doctor = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(["doctor", "--config"])
        .arg(stranger.folder.join("config.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("BAD  links") && said.contains("unknown-authority"), "{said}");
    drop(stranger);

    // Two with one certificate: whoever is asked names both addresses.
    let copy = Node::copy("c", 4, &[("a", 1)], root.path());
    a.until("it sees two", |node| node.of("c")["doubled"]["addresses"].as_array().is_some_and(|both| both.len() == 2));
    let doubled = a.of("c")["doubled"].clone();
    let text = doubled["addresses"].to_string();
    assert!(text.contains("10.77.0.3:") && text.contains("10.77.0.4:"), "{doubled}");
    let typed = a.typed(&["nodes"]);
    assert!(typed.contains("show copies of one certificate"), "{typed}");
    a.until("its condition says so", |node| node.text("/readyz").contains("show copies of one certificate"));
    check_schemas(&a);
    drop(copy);
    a.until_linked(&["c"]);

    // One with an expired certificate is refused, and both say so.
    let late = Node::start("late", 4, &[("a", 1)], root.path());
    late.until("it is refused", |node| node.of("a")["state"] == "refused");
    let refused = late.of("a");
    assert_eq!((&refused["why"], &refused["refusedHere"]), (&"expired".into(), &false.into()), "{refused}");
    let away = a.nodes()["turnedAway"].clone();
    let late_one = |one: &Value| one["why"] == "expired" && one["refusedHere"] == true;
    assert!(away.as_array().is_some_and(|all| all.iter().any(late_one)), "{away}");
    assert!(late.nodes()["troubles"][0].as_str().is_some_and(|said| said.contains("ended")), "{}", late.nodes());
    drop(late);

    // The list of peers changes under a node that runs: one is let go, and comes back.
    let config = fs::read_to_string(b.folder.join("config.yaml")).unwrap();
    let without = config.replace("linkPeers: {c: \"10.77.0.3:7117\"}", "linkPeers: {}");
    assert_ne!(config, without);
    fs::write(b.folder.join("config.yaml"), without).unwrap();
    b.until("c is no longer its peer", |node| node.of("c").is_null());
    c.until("it is told", |node| node.of("b")["state"] == "out");
    assert!(!b.text("/readyz").contains("needs a restart"), "{}", b.text("/readyz"));
    fs::write(b.folder.join("config.yaml"), config).unwrap();
    b.until_linked(&["a", "c"]);

    // One is revoked while it is linked; a new certificate brings it back without a restart of any.
    let before = a.of("c")["counts"]["linked"].clone();
    let certificate = format!("{directory}/b.pem");
    palisade(&[&["certificate", "revoke", &certificate], &at[..]].concat());
    a.until("it refuses b", |node| node.of("b")["why"] == "revoked");
    b.until("it is told why", |node| node.of("a")["why"] == "revoked" || node.of("c")["why"] == "revoked");
    assert_eq!(a.of("b")["refusedHere"], true, "{}", a.of("b"));
    palisade(&[&["certificate", "issue", "b", "--days", "1", "--replace"], &at[..]].concat());
    a.until_linked(&["b"]);
    c.until_linked(&["a", "b"]);
    assert_eq!(a.of("c")["counts"]["linked"], before, "the link to c was never touched");
}

/// The machine's randomness, but for the four bytes by which names of authorities differ: an authority that is made anew has its old name.
struct OneName;

impl Rng for OneName {
    fn fill(&self, bytes: &mut [u8]) {
        match bytes.len() {
            4 => bytes.fill(7),
            _ => palisade_link::MachineRng.fill(bytes),
        }
    }
}

/// A file system that answers nothing, as one of the network whose server is gone: whoever opens a file on it waits.
struct Dead(PathBuf, Option<fs::File>);

impl Dead {
    fn mount(at: PathBuf) -> Self {
        use std::os::fd::AsRawFd as _;
        fs::create_dir(&at).unwrap();
        let server = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").expect("`modprobe fuse`");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("dead", &at, "fuse", rustix::mount::MountFlags::empty(), options.as_c_str()).unwrap();
        Self(at, Some(server))
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // Whoever waits for it gets an error.
        drop(self.1.take());
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn host_links_move_to_an_authority_that_is_made_anew_and_outlast_a_dead_file_system() {
    use palisade_link::authority::{self, Issued};
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("ca");
    fs::create_dir(&folder).unwrap();
    let now = || {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        palisade_domain::UnixNanos(u64::try_from(since.as_nanos()).unwrap())
    };
    let make = || authority::authority("links", 180, now(), &OneName).unwrap();
    let ((old, old_list), (new, new_list)) = (make(), make());
    // As whoever rolls files out does: each is replaced whole.
    let write = |name: &str, text: &str| {
        fs::write(folder.join("beside"), text).unwrap();
        fs::rename(folder.join("beside"), folder.join(name)).unwrap();
    };
    let issue = |by: &Issued, name: &str| {
        let issued = authority::issue(by, &name.parse().unwrap(), 90, now(), &OneName).unwrap();
        write(&format!("{name}.key"), &issued.key);
        write(&format!("{name}.pem"), &issued.certificate);
        issued
    };
    let subject = |text: &str| match authority::describe(text.as_bytes()).unwrap().remove(0) {
        authority::Described::Certificate { subject, .. } => subject,
        other => panic!("{other:?}"),
    };
    assert_eq!(subject(&old.certificate), subject(&new.certificate));
    write("ca.pem", &old.certificate);
    write("revoked.pem", &old_list);
    for name in ["a", "b"] {
        issue(&old, name);
    }
    let _network = Network::of(2);
    let mut a = Node::start("a", 1, &[("b", 2)], root.path());
    let b = Node::start("b", 2, &[], root.path());
    a.until_linked(&["b"]);
    b.until_linked(&["a"]);
    let since = (a.of("b")["since"].clone(), b.of("a")["since"].clone());
    let linked = || a.of("b")["counts"]["linked"].as_u64().unwrap_or_default();
    let sound = |node: &Node| node.nodes()["troubles"] == json!([]);

    // First both believe both, then each has a certificate of the new one, then nobody believes the old one.
    write("ca.pem", &(old.certificate.clone() + &new.certificate));
    write("revoked.pem", &(old_list + &new_list));
    std::thread::sleep(Duration::from_secs(3));
    for (name, before) in [("b", 1), ("a", 2)] {
        issue(&new, name);
        a.until("the link moves", |_| linked() > before);
        for node in [&a, &b] {
            node.until("nothing is wrong", sound);
        }
    }
    write("ca.pem", &new.certificate);
    a.until("it says whose list is left over", |node| node.text("/readyz").contains("counts for nothing"));
    write("revoked.pem", &new_list);
    for node in [&a, &b] {
        node.until("nothing is wrong", sound);
    }
    std::thread::sleep(Duration::from_secs(3));
    let here = a.of("b");
    assert_eq!((here["since"].clone(), b.of("a")["since"].clone()), since, "the link was out\n{}", a.log());
    assert_eq!((here["state"].as_str(), &here["counts"]["lost"], linked()), (Some("linked"), &json!(0), 3), "{here}");

    // The file system of a's key is dead: the link stands, the file is named, and the other files count as ever.
    let dead = Dead::mount(root.path().join("dead"));
    fs::remove_file(folder.join("a.key")).unwrap();
    std::os::unix::fs::symlink(dead.0.join("a.key"), folder.join("a.key")).unwrap();
    a.until("its condition names the file", |node| {
        node.text("/readyz").contains("a.key: its file system does not answer: reading it began ")
    });
    assert_eq!(a.of("b")["since"], since.0);
    let typed = a.typed(&["nodes"]);
    assert!(typed.contains("a.key: its file system does not answer"), "{typed}");
    let begun = Instant::now();
    let doctor = Command::new(env!("CARGO_BIN_EXE_palisade"))
        .args(["doctor", "--config"])
        .arg(a.folder.join("config.yaml"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("BAD  links") && said.contains("a.key: its file system does not answer"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let certificate = fs::read_to_string(folder.join("b.pem")).unwrap();
    write("revoked.pem", &authority::revoke(&new, &new_list, &certificate, now()).unwrap());
    let took = a.until("it refuses b", |node| node.of("b")["why"] == "revoked");
    assert!(took < Duration::from_secs(5), "{took:?}: it waits for the file that hangs");
    let took = a.stop();
    assert!(took < Duration::from_secs(20), "{took:?}: it waits for the file that hangs\n{}", a.log());
    let config = a.folder.join("config.yaml");
    let begun = Instant::now();
    let none = Command::new(env!("CARGO_BIN_EXE_palisade")).arg("node").arg("--config").arg(config).output().unwrap();
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(!none.status.success() && said.contains("a.key: its file system does not answer"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

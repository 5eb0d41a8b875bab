//! Palisade's protection of itself against a privileged container that sees the host's processes, BPF file system and cgroups.
//!
//! Each act is tried for real, in one session inside, and must fail with EPERM; the same on the host, where it does no harm, succeeds.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{
    Checked, ensure,
    fixture::{containerd, ensure_outcomes},
    node::{Node, blocks, started_with},
};
use crate::{
    act::{Act, Change},
    containerd::Container,
};

const NAME: &str = "node-guarded";
/// The node's cgroup.
const HOME: &str = "host.slice/palisade.service";
const BPFFS: &str = "/sys/fs/bpf";
/// As alerts call what no policy decided.
const OWN: &str = "PalisadeSelfProtection";

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("vm_guard_keeps_a_privileged_container_from_the_node_and_from_what_it_left", explained)]
}

/// With what the node was refused, where it failed.
fn explained() -> Checked {
    guarded().map_err(|failed| {
        let log = fs::read_to_string(Path::new("/run").join(NAME).join("log")).unwrap_or_default();
        let refused: Vec<&str> =
            log.lines().filter(|line| line.contains("refuses") || line.contains("ERROR")).collect();
        format!("{}\nof the node's log:\n{}", failed.message().unwrap_or_default(), refused.join("\n")).into()
    })
}

fn privileged(id: &str) -> Result<Container, Failed> {
    let options = [
        "--privileged",
        "--with-ns",
        "pid:/proc/1/ns/pid",
        "--mount",
        "type=bind,src=/sys/fs/bpf,dst=/sys/fs/bpf,options=rbind:rw",
        "--mount",
        "type=bind,src=/sys/fs/cgroup,dst=/run/cgroups,options=rbind:rw",
    ];
    started_with(id, "held", &options)
}

/// What the node has open of a kind, by its descriptors' own words.
fn ids(node: &Node, word: &str) -> Result<String, Failed> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", node.pid()))? {
        // A descriptor may be closed meanwhile.
        let said = fs::read_to_string(entry?.path()).unwrap_or_default();
        let of_kind = said.lines().filter_map(|line| line.strip_prefix(word)?.strip_prefix(':'));
        ids.extend(of_kind.filter_map(|id| id.trim().parse::<u32>().ok()));
    }
    ensure(ids.len() > 4, || format!("the node has open {word}: {ids:?}"))?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    Ok(ids.join(","))
}

/// A link that its holder may detach; others refuse that by themselves.
fn detachable(node: &Node) -> Result<PathBuf, Failed> {
    let mut below = Vec::new();
    for directory in fs::read_dir(node.pins())? {
        let directory = directory?.path();
        if directory.is_dir() {
            below.extend(fs::read_dir(directory)?.flatten().map(|entry| entry.path()));
        }
    }
    let found =
        below.iter().find(|path| path.display().to_string().contains("cgroup") || path.ends_with("judge_connect4"));
    found.cloned().ok_or_else(|| format!("no link of a cgroup program is pinned: {below:?}").into())
}

fn against(way: String) -> Act {
    Act::Against(way)
}

/// What is protected while a node runs.
fn acts(node: &Node, links: &str) -> Result<Vec<Act>, Failed> {
    let (pid, pins) = (node.pid(), node.pins());
    let (maps, programs) = (ids(node, "map_id")?, ids(node, "prog_id")?);
    Ok(vec![
        against(format!("open-maps {maps}")),
        against(format!("open-programs {programs}")),
        against(format!("open-links {links}")),
        against(format!("open-pin {}", pins.join("slots").display())),
        against(format!("open-pin {}", pins.join("guarded").display())),
        against(format!("detach-pin {}", detachable(node)?.display())),
        against(format!("signal {pid} 9")),
        against(format!("signal {pid} 19")),
        against(format!("trace {pid}")),
        against(format!("limit {pid}")),
        against(format!("nice {pid}")),
    ])
}

fn change(change: Change, path: &Path) -> Act {
    Act::Change(change, path.to_path_buf(), PathBuf::new())
}

/// Against the pins, whoever holds them.
fn against_pins(pins: &Path) -> Vec<Act> {
    let (map, links) = (pins.join("slots"), pins.join("links"));
    let to = |change, path: &Path, to: &Path| Act::Change(change, path.to_path_buf(), to.to_path_buf());
    let elsewhere = Path::new(BPFFS).join("elsewhere");
    vec![
        change(Change::Unlink, &map),
        change(Change::Unlink, &links.join("judge_open")),
        to(Change::Rename, &map, &elsewhere),
        to(Change::Rename, pins, &elsewhere),
        to(Change::Link, &map, &elsewhere),
        change(Change::Rmdir, &links),
        change(Change::Mkdir, &pins.join("fresh")),
        to(Change::Symlink, Path::new("nowhere"), &pins.join("fresh")),
        change(Change::Chmod, &map),
        Act::Chown(map.clone()),
        // As a node does that takes the lock on it.
        Act::Open(pins.to_path_buf()),
        change(Change::Mount, pins),
        to(Change::Bind, Path::new("/tmp"), &links),
        change(Change::Umount, Path::new(BPFFS)),
    ]
}

/// Against the node by its cgroup's files, and by those of the one above.
fn against_cgroups() -> Vec<Act> {
    let file = |cgroup: &str, file: &str| against(format!("open-write /run/cgroups/{cgroup}/{file}"));
    let files = ["cgroup.procs", "cgroup.freeze", "cgroup.kill"];
    let above = HOME.split('/').next().unwrap_or_default();
    files.iter().map(|name| file(HOME, name)).chain([file(above, "cgroup.freeze")]).collect()
}

/// What it is not kept from: names of others on the same file system.
fn ensure_others_are_free(container: &Container) -> Checked {
    let other = Path::new(BPFFS).join("others");
    let acts = [
        change(Change::Mkdir, &other),
        change(Change::Chmod, &other),
        change(Change::Rmdir, &other),
        against("open-write /run/cgroups/default/cgroup.freeze".to_owned()),
    ];
    ensure_outcomes(&acts, &container.exec(&acts)?, 0)
}

/// A node in a cgroup of its own below another one, as a service is.
fn node_at_home(policy: &str) -> Result<Node, Failed> {
    let cgroups = Path::new("/sys/fs/cgroup");
    fs::create_dir_all(cgroups.join(HOME))?;
    let me = std::process::id().to_string();
    fs::write(cgroups.join(HOME).join("cgroup.procs"), &me)?;
    let node = Node::start_with(NAME, policy, &["--no-alert-throttling"]);
    fs::write(cgroups.join("cgroup.procs"), &me)?;
    node
}

/// The ids of what the node has pinned that is a link.
fn links(node: &Node) -> Result<String, Failed> {
    let ids = palisade_kernel::pinned_links(&node.pins())?;
    ensure(ids.len() > 10, || format!("pinned links: {ids:?}"))?;
    let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
    Ok(ids.join(","))
}

fn guarded() -> Checked {
    containerd()?;
    let network = "  network:\n    matchProtocols: [ { protocol: udp } ]\n";
    let mut node = node_at_home(&format!("{}{network}", blocks("/etc/secret")))?;
    println!("step: the node runs as {}", node.pid());
    let container = privileged("intruder").map_err(|failed| format!("the container: {:?}", failed.message()))?;
    println!("step: the container runs as {}", container.pid);
    ensure_held(&container, 1)?;
    println!("step: the policy is in force");
    let links = links(&node)?;
    while_it_runs(&node, &container, &links)?;
    from_outside(&node, &container, &links)?;
    node.kill()?;
    println!("step: the node was killed");
    when_it_is_gone(&node, &container, &links)?;
    container.remove()?;
    Ok(())
}

/// The policy that the node put in force denies so many of two acts.
fn ensure_held(container: &Container, denied: usize) -> Checked {
    let acts = [Act::Open("/etc/secret".into()), Act::Open("/etc/public".into())];
    ensure_outcomes(&acts, &container.exec(&acts)?, denied)
}

fn while_it_runs(node: &Node, container: &Container, links: &str) -> Checked {
    let mut tried = acts(node, links)?;
    tried.extend(against_pins(&node.pins()));
    tried.extend(against_cgroups());
    let outcomes = container.exec(&tried)?;
    for (act, outcome) in tried.iter().zip(&outcomes) {
        println!("inside: {act}: {outcome}");
    }
    ensure_denied(&tried, &outcomes)?;
    // Something is mounted there anyway: the error alone tells.
    let over = [change(Change::Mount, Path::new(BPFFS))];
    let outcome = container.exec(&over)?[0];
    ensure(outcome.errno == 1, || format!("{}: {outcome}", over[0]))?;
    // Nobody is told what became of such a signal, but for who would have got it.
    let by_file = [against(format!("file-signal {} 9", node.pid()))];
    println!("inside: {}: {}", by_file[0], container.exec(&by_file)?[0]);
    let runs = Path::new(&format!("/proc/{}/exe", node.pid())).exists();
    ensure(runs, || "a file's signal has ended the node".to_owned())?;
    // Whether it is there may be asked.
    let harmless = [against(format!("signal {} 0", node.pid()))];
    ensure_outcomes(&harmless, &container.exec(&harmless)?, 0)?;
    ensure_others_are_free(container)?;
    ensure_held(container, 1)?;
    told(node, tried.len() + over.len())
}

fn when_it_is_gone(node: &Node, container: &Container, links: &str) -> Checked {
    let mut standing = vec![
        against(format!("open-links {links}")),
        against(format!("open-pin {}", node.pins().join("slots").display())),
        against(format!("detach-pin {}", detachable(node)?.display())),
    ];
    standing.extend(against_pins(&node.pins()));
    ensure_denied(&standing, &container.exec(&standing)?)?;
    ensure_held(container, 1)?;
    palisade_kernel::unload(&node.pins())?;
    ensure(!node.pins().exists(), || "an unload leaves pins".to_owned())?;
    ensure_held(container, 0)
}

/// Every one with EPERM, and no other error.
fn ensure_denied(acts: &[Act], outcomes: &[crate::act::Outcome]) -> Checked {
    let failed = acts.iter().zip(outcomes).filter(|(_, outcome)| outcome.errno != 1 || outcome.effect);
    let failed: Vec<String> = failed.map(|(act, outcome)| format!("{act}: {outcome}")).collect();
    ensure(acts.len() == outcomes.len() && failed.is_empty(), || format!("not denied:\n{}", failed.join("\n")))
}

/// The image's own program, on the host: no workload.
fn from_outside(node: &Node, container: &Container, links: &str) -> Checked {
    let mapper = container.outside("/bin/mapper");
    let copy = Path::new("/run/mapper");
    fs::copy(&mapper, copy)?;
    for words in [
        vec!["open-maps".to_owned(), ids(node, "map_id")?],
        vec!["open-links".to_owned(), links.to_owned()],
        vec!["open-pin".to_owned(), node.pins().join("slots").display().to_string()],
        vec!["signal".to_owned(), node.pid().to_string(), "0".to_owned()],
        vec!["nice".to_owned(), node.pid().to_string()],
    ] {
        let status = Command::new(copy).args(&words).status()?;
        ensure(status.success(), || format!("on the host, {words:?} ended with {status}"))?;
    }
    Ok(())
}

/// Every act against Palisade is an alert under its own name.
fn told(node: &Node, acts: usize) -> Checked {
    let own = |alert: &Value| alert["rule"]["policyName"] == OWN && alert["verdict"] == "denied";
    let told = || node.alerts().iter().filter(|alert| own(alert)).count();
    node.wait_for("alerts about acts against Palisade", || told() >= acts)?;
    let alerts = node.alerts();
    for operation in [
        "bpf", "kill", "ptrace", "syscall", "unlink", "rename", "link", "rmdir", "mkdir", "symlink", "chmod", "chown",
        "mount", "umount", "open",
    ] {
        let found = alerts.iter().any(|alert| own(alert) && alert["subject"]["operation"] == operation);
        ensure(found, || format!("no alert tells of {operation}: {alerts:#?}"))?;
    }
    Ok(())
}

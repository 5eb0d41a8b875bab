//! Palisade's protection of itself against privileged containers that see the host's processes, BPF file system, cgroups and mounts.
//!
//! Each act is tried for real, in one session inside, and must fail with EPERM and be told by just as many alerts as it is tries; the same
//! on the host, where it does no harm, succeeds.

mod acts;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use libtest_mimic::{Failed, Trial};
use nix::mount::{MsFlags, mount};

use self::acts::{against, change, ids, links};
use super::{
    Checked, ensure,
    fixture::{containerd, ensure_outcomes},
    node::{Node, blocks, started_with},
};
use crate::{
    act::{Act, Change, Outcome},
    containerd::Container,
};

const NAME: &str = "node-guarded";
/// The node's cgroup.
const HOME: &str = "host.slice/palisade.service";
const BPFFS: &str = "/sys/fs/bpf";
/// The host's cgroups, in the containers.
const CGROUPS: &str = "/run/cgroups";
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

/// It sees all of the host's that may be of use.
fn privileged(id: &str, app: &str) -> Result<Container, Failed> {
    let shared = format!("type=bind,src={BPFFS},dst={},options=rbind:rshared:rw", acts::SHARED);
    let options = [
        "--privileged",
        "--with-ns",
        "pid:/proc/1/ns/pid",
        "--mount",
        "type=bind,src=/sys/fs/bpf,dst=/sys/fs/bpf,options=rbind:rw",
        "--mount",
        &shared,
        "--mount",
        "type=bind,src=/sys/fs/cgroup,dst=/run/cgroups,options=rbind:rw",
    ];
    let started = started_with(id, app, &options);
    started.map_err(|failed| format!("the container {id}: {:?}", failed.message()).into())
}

/// What containers are not kept from: names and cgroups of others, and what is shown to themselves alone.
fn ensure_others_are_free(container: &Container) -> Checked {
    let other = Path::new(BPFFS).join("others");
    let acts = [
        change(Change::Mkdir, &other),
        change(Change::Chmod, &other),
        change(Change::Rmdir, &other),
        against("open-write /run/cgroups/default/cgroup.freeze".to_owned()),
        change(Change::Mkdir, &Path::new(CGROUPS).join("host.slice/other")),
        change(Change::Rmdir, &Path::new(CGROUPS).join("host.slice/other")),
        // As agents do that measure.
        Act::Open(Path::new(CGROUPS).join(HOME).join("cgroup.procs")),
        Act::Open(Path::new(CGROUPS).join(HOME).join("cgroup.events")),
    ];
    ensure_outcomes(&acts, &container.exec(&acts)?, 0)
}

/// Nor from what its own mounts show to itself alone, as a service manager in it changes that for its services; nor from the host's others.
fn ensure_own_mounts_are_free(free: &Container) -> Checked {
    let ways = [
        format!("read-only-mount {}", acts::SHARED),
        format!("cover {BPFFS}"),
        format!("uncover {BPFFS}"),
        format!("uncover {}", acts::SHARED),
        "in-host-mounts cover /run/away".to_owned(),
        "in-host-mounts uncover /run/away".to_owned(),
    ];
    let acts = ways.map(against);
    ensure_outcomes(&acts, &free.exec(&acts)?, 0)
}

/// A node in a cgroup of its own below another one, as a service is.
fn node_at_home(policy: &str) -> Result<Node, Failed> {
    let home = Path::new("/sys/fs/cgroup").join(HOME);
    fs::create_dir_all(home.join(acts::BELOW))?;
    let me = std::process::id().to_string();
    fs::write(home.join("cgroup.procs"), &me)?;
    let node = Node::start_with(NAME, policy, &["--no-alert-throttling"]);
    fs::write("/sys/fs/cgroup/cgroup.procs", &me)?;
    node
}

const NETWORK: &str = "  network:\n    matchProtocols: [ { protocol: udp } ]\n";

fn guarded() -> Checked {
    containerd()?;
    fs::create_dir_all(acts::AWAY)?;
    mount(None::<&str>, BPFFS, None::<&str>, MsFlags::MS_SHARED, None::<&str>)?;
    let mut node = node_at_home(&format!("{}{NETWORK}", blocks("/etc/secret")))?;
    println!("step: the node runs as {}", node.pid());
    let container = privileged("intruder", "held")?;
    let free = privileged("free", "free")?;
    println!("step: the containers run as {} and {}", container.pid, free.pid);
    ensure_held(&container, 1)?;
    println!("step: the policy is in force");
    let links = links(&node)?;
    while_it_runs(&node, &container, &links)?;
    from_outside(&node, &container, &links)?;
    ensure_own_mounts_are_free(&free)?;
    in_others_cgroups(&node, &free)?;
    wherever_it_is_put(&node, &free, &container)?;
    node.kill()?;
    println!("step: the node was killed");
    when_it_is_gone(&node, &container, &links)?;
    free.remove()?;
    container.remove()?;
    Ok(())
}

/// The policy that the node put in force denies so many of two acts.
fn ensure_held(container: &Container, denied: usize) -> Checked {
    let acts = [Act::Open("/etc/secret".into()), Act::Open("/etc/public".into())];
    ensure_outcomes(&acts, &container.exec(&acts)?, denied)
}

fn while_it_runs(node: &Node, container: &Container, links: &str) -> Checked {
    let mut tried = acts::on_the_node(node, links)?;
    tried.extend(acts::on_pins(&node.pins()));
    tried.extend(acts::on_mounts(&node.pins()));
    tried.extend(acts::on_cgroups());
    ensure_denied_and_told(node, container, &tried)?;
    // Nobody is told what became of such a signal, but for who would have got it.
    let by_file = [against(format!("file-signal {} 9", node.pid()))];
    println!("inside: {}: {}", by_file[0], container.exec(&by_file)?[0]);
    let runs = Path::new(&format!("/proc/{}/exe", node.pid())).exists();
    ensure(runs, || "a file's signal has ended the node".to_owned())?;
    // Whether it is there may be asked.
    let harmless = [against(format!("signal {} 0", node.pid()))];
    ensure_outcomes(&harmless, &container.exec(&harmless)?, 0)?;
    ensure_others_are_free(container)?;
    ensure_held(container, 1)
}

/// Of a container that no policy holds, in a session whose processes go elsewhere before they act.
fn in_others_cgroups(node: &Node, free: &Container) -> Checked {
    ensure_denied_and_told(node, free, &acts::as_others(node, "default/intruder"))
}

/// A container that no policy holds moves the node into a cgroup that it has made. It goes on with its work, and is kept there, too, from
/// who moved it.
fn wherever_it_is_put(node: &Node, free: &Container, held: &Container) -> Checked {
    let (pid, trap) = (node.pid(), format!("{CGROUPS}/host.slice/trap"));
    let put = [change(Change::Mkdir, Path::new(&trap)), against(format!("put {pid} {trap}"))];
    ensure_outcomes(&put, &free.exec(&put)?, 0)?;
    let there = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    ensure(there.contains("host.slice/trap"), || format!("the node was not put there: {there}"))?;
    let freeze = [against(format!("open-write {trap}/cgroup.freeze"))];
    ensure_denied_and_told(node, free, &freeze)?;
    for denied in ["/etc/public", "/etc/secret"] {
        fs::write(node.folder.join("policies/suite.yaml"), format!("{}{NETWORK}", blocks(denied)))?;
        let act = [Act::Open(denied.into())];
        let in_force = || held.exec(&act).is_ok_and(|outcomes| outcomes[0].is_denied());
        node.wait_for("the changed policy, from where the node was put", in_force)?;
    }
    fs::write(Path::new("/sys/fs/cgroup").join(HOME).join("cgroup.procs"), pid.to_string())?;
    Ok(())
}

fn when_it_is_gone(node: &Node, container: &Container, links: &str) -> Checked {
    let mut standing = acts::on_objects(node, links)?;
    standing.extend(acts::on_pins(&node.pins()));
    standing.extend(acts::on_mounts(&node.pins()));
    standing.extend(acts::on_cgroups());
    ensure_denied(&standing, &container.exec(&standing)?)?;
    ensure_held(container, 1)?;
    palisade_kernel::unload(&node.pins())?;
    ensure(!node.pins().exists(), || "an unload leaves pins".to_owned())?;
    ensure_held(container, 0)
}

/// Every one with EPERM, and no other error.
fn ensure_denied(acts: &[Act], outcomes: &[Outcome]) -> Checked {
    for (act, outcome) in acts.iter().zip(outcomes) {
        println!("inside: {act}: {outcome}");
    }
    let failed = acts.iter().zip(outcomes).filter(|(_, outcome)| outcome.errno != 1 || outcome.effect);
    let failed: Vec<String> = failed.map(|(act, outcome)| format!("{act}: {outcome}")).collect();
    ensure(acts.len() == outcomes.len() && failed.is_empty(), || format!("not denied:\n{}", failed.join("\n")))
}

/// The same, and each try is an alert under Palisade's own name: as many of each operation as there were tries, and no other.
fn ensure_denied_and_told(node: &Node, container: &Container, acts: &[Act]) -> Checked {
    let before = told(node);
    ensure_denied(acts, &container.exec(acts)?)?;
    let wanted = acts::tales(acts);
    let since = || {
        let mut told = told(node);
        for (operation, count) in &before {
            *told.entry(operation.clone()).or_default() -= count;
        }
        told.retain(|_, count| *count > 0);
        told
    };
    let reached = || since().values().sum::<usize>() >= wanted.values().sum();
    node.wait_for("alerts about acts against Palisade", reached).map_err(|late| {
        let said = since();
        Failed::from(format!("{:?}: {said:?}, and wanted {wanted:?}", late.message()))
    })?;
    // Who tells one of them more has told it by now: alerts are written in their order.
    let said = since();
    ensure(said == wanted, || format!("told are {said:?}, and tried were {wanted:?}"))
}

/// Alerts under Palisade's own name, by their operation.
fn told(node: &Node) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for alert in node.alerts() {
        if alert["rule"]["policyName"] == OWN && alert["verdict"] == "denied" {
            let operation = alert["subject"]["operation"].as_str().unwrap_or_default().to_owned();
            *told.entry(operation).or_default() += 1;
        }
    }
    told
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
        vec!["open-write".to_owned(), format!("/sys/fs/cgroup/{HOME}/cgroup.procs")],
    ] {
        let status = Command::new(copy).args(&words).status()?;
        ensure(status.success(), || format!("on the host, {words:?} ended with {status}"))?;
    }
    Ok(())
}

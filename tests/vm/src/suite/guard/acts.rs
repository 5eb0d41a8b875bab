//! What a privileged container tries against Palisade, and as what each try is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Failed;

use super::{
    super::{ensure, node::Node},
    BPFFS, CGROUPS, HOME,
};
use crate::act::{Act, Change};

/// Of the pins' file system, in the container, as a peer of the host's mount.
pub const SHARED: &str = "/run/shared-pins";
/// Where mounts would go; on the host.
pub const AWAY: &str = "/run/away";
/// Below the node's cgroup.
pub const BELOW: &str = "below";

pub fn against(way: String) -> Act {
    Act::Against(way)
}

pub fn change(change: Change, path: &Path) -> Act {
    Act::Change(change, path.to_path_buf(), PathBuf::new())
}

/// Numbers, as one word.
fn word(ids: impl IntoIterator<Item = u32>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(",")
}

/// What the node has open of a kind, by its descriptors' own words.
pub fn ids(node: &Node, kind: &str) -> Result<String, Failed> {
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{}/fdinfo", node.pid()))? {
        // A descriptor may be closed meanwhile.
        let said = fs::read_to_string(entry?.path()).unwrap_or_default();
        let of_kind = said.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(':'));
        ids.extend(of_kind.filter_map(|id| id.trim().parse::<u32>().ok()));
    }
    ensure(ids.len() > 4, || format!("the node has open {kind}: {ids:?}"))?;
    Ok(word(ids))
}

/// The ids of what the node has pinned that is a link.
pub fn links(node: &Node) -> Result<String, Failed> {
    let ids = palisade_kernel::pinned_links(&node.pins())?;
    ensure(ids.len() > 10, || format!("pinned links: {ids:?}"))?;
    Ok(word(ids))
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

/// What is protected while a node runs.
pub fn on_the_node(node: &Node, links: &str) -> Result<Vec<Act>, Failed> {
    let pid = node.pid();
    let mut acts = vec![
        against(format!("open-maps {}", ids(node, "map_id")?)),
        against(format!("open-programs {}", ids(node, "prog_id")?)),
    ];
    acts.extend(on_objects(node, links)?);
    let ways = ["signal PID 9", "signal PID 19", "trace PID", "limit PID", "nice PID"];
    acts.extend(ways.map(|way| against(way.replace("PID", &pid.to_string()))));
    Ok(acts)
}

/// Against what is in the kernel, whether or not a node runs.
pub fn on_objects(node: &Node, links: &str) -> Result<Vec<Act>, Failed> {
    let pins = node.pins();
    Ok(vec![
        against(format!("open-links {links}")),
        against(format!("open-pin {}", pins.join("slots").display())),
        against(format!("open-pin {}", pins.join("guarded").display())),
        against(format!("detach-pin {}", detachable(node)?.display())),
    ])
}

/// Against the pins, whoever holds them.
pub fn on_pins(pins: &Path) -> Vec<Act> {
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
    ]
}

/// Against the sight of the pins, from the host's mounts and by what spreads to them.
pub fn on_mounts(pins: &Path) -> Vec<Act> {
    let pins = pins.display();
    let in_host = [
        format!("cover {pins}"),
        format!("cover {BPFFS}"),
        "cover /sys/fs".to_owned(),
        "cover /sys".to_owned(),
        "cover /".to_owned(),
        "bind /run /sys".to_owned(),
        format!("uncover {BPFFS}"),
        "uncover /sys".to_owned(),
        format!("carry {BPFFS} {AWAY}"),
        format!("carry /sys {AWAY}"),
        format!("move-mount {BPFFS} {AWAY}"),
        format!("move-mount /sys {AWAY}"),
        format!("read-only-mount {BPFFS}"),
        format!("pivot-root /run {AWAY}"),
    ];
    let in_host = in_host.into_iter().map(|way| against(format!("in-host-mounts {way}")));
    in_host.chain([against(format!("read-only {BPFFS}")), against(format!("cover {SHARED}"))]).collect()
}

/// Against the node by its cgroup's files, by those of the one above and below, and by a new one.
pub fn on_cgroups() -> Vec<Act> {
    let home = Path::new(CGROUPS).join(HOME);
    let write = |file: PathBuf| against(format!("open-write {}", file.display()));
    let above = home.parent().unwrap_or(&home);
    let files = ["cgroup.procs", "cgroup.threads", "cgroup.freeze", "cgroup.kill"].map(|name| home.join(name));
    let others = [above.join("cgroup.freeze"), home.join(BELOW).join("cgroup.procs")];
    files.into_iter().chain(others).map(write).chain([change(Change::Mkdir, &home.join("fresh"))]).collect()
}

/// Acts in the guise of others: of a container beside, and of the node's own cgroup.
pub fn as_others(node: &Node, beside: &str) -> Vec<Act> {
    let (pid, slots) = (node.pid(), node.pins().join("slots"));
    [
        format!("entered {CGROUPS}/{beside} signal {pid} 9"),
        format!("born-in {CGROUPS}/{beside} signal {pid} 9"),
        format!("born-in {CGROUPS}/{beside} open-pin {}", slots.display()),
        format!("born-in {CGROUPS}/{HOME} signal {pid} 9"),
        format!("born-in {CGROUPS}/{HOME} open-pin {}", slots.display()),
    ]
    .map(against)
    .into()
}

/// How many alerts of which operation acts are told by.
pub fn tales<'a>(acts: impl IntoIterator<Item = &'a Act>) -> BTreeMap<String, usize> {
    let mut tales = BTreeMap::new();
    for act in acts {
        let (operation, count) = tale(act);
        *tales.entry(operation.to_owned()).or_default() += count;
    }
    tales
}

fn tale(act: &Act) -> (&str, usize) {
    match act {
        Act::Against(way) => tale_of_way(&way.split(' ').collect::<Vec<_>>()),
        Act::Open(_) => ("open", 1),
        Act::Chown(_) => ("chown", 1),
        Act::Change(Change::Unlink, ..) => ("unlink", 1),
        Act::Change(Change::Rename, ..) => ("rename", 1),
        Act::Change(Change::Link, ..) => ("link", 1),
        Act::Change(Change::Rmdir, ..) => ("rmdir", 1),
        Act::Change(Change::Mkdir, ..) => ("mkdir", 1),
        Act::Change(Change::Symlink, ..) => ("symlink", 1),
        Act::Change(Change::Chmod, ..) => ("chmod", 1),
        _ => ("not an act against Palisade", 1),
    }
}

fn tale_of_way<'a>(words: &[&'a str]) -> (&'a str, usize) {
    match words {
        ["in-host-mounts", rest @ ..] | ["entered" | "born-in", _, rest @ ..] => tale_of_way(rest),
        ["open-maps" | "open-programs" | "open-links", ids] => ("bpf", ids.split(',').count()),
        ["open-pin" | "detach-pin", ..] => ("bpf", 1),
        ["signal", ..] => ("kill", 1),
        ["trace", ..] => ("ptrace", 1),
        ["limit" | "nice" | "read-only", ..] => ("syscall", 1),
        ["cover" | "bind" | "carry" | "read-only-mount", ..] => ("mount", 1),
        ["uncover", ..] => ("umount", 1),
        ["move-mount", ..] => ("move-mount", 1),
        ["pivot-root", ..] => ("pivot-root", 1),
        ["open-write", ..] => ("open", 1),
        _ => ("not an act against Palisade", 1),
    }
}

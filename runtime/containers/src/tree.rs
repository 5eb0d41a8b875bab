//! Containers by the cgroup tree and `/proc`, for runtimes that nobody follows by an API: Docker and Podman beside containerd, and all of
//! them where no API answers.
//!
//! A thread of its own walks the unified hierarchy, woken by inotify on the directories that may get containers and on `cgroup.events`
//! of those that are some. Everything it reads is the kernel's or written by a runtime's root process (`bundle`).
//!
//! Invariants:
//! - Only directories that root owns are read as containers. Who may make cgroups in a subtree of their own (rootless Podman, systemd
//!   `Delegate=`) could otherwise call one `docker-<id>.scope` and leave the host's policy; rootless containers are therefore the host's.
//! - What is below a container is the container's: no name further down makes another one.
//! - A container is its directory's inode, not its path: the same path again is another container.
//! - A walk that did not see everything ends nothing.
//!
//! Units: inodes are cgroup ids; times are of the thread's own clock.
//! Bounds: [`MAX_DIRECTORIES`] are walked, [`crate::MAX_CONTAINERS`] are told; past either, that is said, and the rest counts as the host's.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId};
use palisade_world::{Container, ContainerPlace};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    fs::inotify,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    MAX_CONTAINERS,
    bundle::Places,
    cgroup::{Cgroup, CgroupError, Hierarchy},
    identity::{self, Metadata, POD_NAME, POD_NAMESPACE, POD_UID, Placement},
    names::{self, Named},
    nri::Pods,
};

/// Directories of one walk; what is below containers does not count.
const MAX_DIRECTORIES: usize = 65_536;
/// Between two walks, however much happens: each reads some hundred directories.
const WALK_AT_MOST_EVERY: Duration = Duration::from_millis(100);
/// Between two walks when nothing happens, against events that were lost.
const WALK_AT_LEAST_EVERY: Duration = Duration::from_secs(5);
/// How soon a container that is not ready is looked at again.
const UNREADY: Duration = Duration::from_millis(20);
/// How long one that seems to be its runtime's still is waited for: one in the host's own root looks so for ever.
const READY_WITHIN: Duration = Duration::from_secs(2);
/// How long the first walks take at most: whatever was there at the first is ready by then.
const FIRST_WITHIN: Duration = Duration::from_millis(2500);
const _: () = assert!(FIRST_WITHIN.as_millis() > READY_WITHIN.as_millis() + 4 * UNREADY.as_millis());
/// Processes of a cgroup that are looked at for the eldest.
const MAX_MEMBERS: usize = 256;
/// Changes that wait for the reader: a burst of starts; the thread waits beyond.
const WAITING: usize = 256;

/// Who is told of places in which containers are made.
pub type PlaceListener = dyn Fn(&[ContainerPlace]) + Send + Sync;

/// The listener that is told at once and on this thread.
#[derive(Clone)]
pub(crate) struct PlacesFound(pub Arc<PlaceListener>);

impl std::ops::Deref for PlacesFound {
    type Target = PlaceListener;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::fmt::Debug for PlacesFound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PlacesFound")
    }
}

/// What the thread says.
#[derive(Debug)]
pub(crate) enum Sight {
    /// A container runs.
    Appeared(Box<Container>),
    /// Its directory is gone or empty.
    Gone(ContainerId),
    /// What was there at the beginning has been told.
    Complete,
}

/// The watching thread; it ends within seconds of this value.
#[derive(Debug)]
pub(crate) struct Tree {
    sights: mpsc::Receiver<Sight>,
}

impl Tree {
    /// Starts to watch. What is there at the first walk is told at once, and then [`Sight::Complete`]; what comes later once it has been
    /// there for `grace`, which is for another source to tell it first.
    pub(crate) fn watch(
        hierarchy: Hierarchy,
        places: Places,
        pods: Pods,
        grace: Duration,
        found: Option<PlacesFound>,
    ) -> io::Result<Self> {
        let (sender, sights) = mpsc::channel(WAITING);
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let watcher = Watcher {
            hierarchy,
            places,
            pods,
            grace,
            complete: false,
            events,
            watched: BTreeMap::new(),
            known: BTreeMap::new(),
            found,
            told_places: BTreeMap::new(),
            sender,
        };
        thread::Builder::new().name("cgroup-tree".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { sights })
    }

    /// The next sight; `None` when the thread is over. Cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Sight> {
        self.sights.recv().await
    }
}

#[derive(Debug)]
struct Known {
    cgroup: CgroupId,
    id: ContainerId,
    since: Instant,
    told: bool,
}

#[derive(Debug)]
struct Watcher {
    hierarchy: Hierarchy,
    places: Places,
    pods: Pods,
    grace: Duration,
    /// [`Sight::Complete`] was said.
    complete: bool,
    events: OwnedFd,
    /// By the path of what is watched. A watch ends with its directory.
    watched: BTreeMap<PathBuf, u64>,
    known: BTreeMap<PathBuf, Known>,
    found: Option<PlacesFound>,
    /// Of places of containers that were told: the inode.
    told_places: BTreeMap<PathBuf, u64>,
    sender: mpsc::Sender<Sight>,
}

/// Nobody listens any more.
struct Over;

impl Watcher {
    fn run(mut self) {
        let start = Instant::now();
        loop {
            let began = Instant::now();
            let Ok(unready) = self.walk() else { return };
            if !self.complete && (!unready || start.elapsed() > FIRST_WITHIN) {
                self.complete = true;
                if self.say(Sight::Complete).is_err() {
                    return;
                }
            }
            let pause = if unready { UNREADY } else { WALK_AT_LEAST_EVERY };
            self.sleep(pause);
            if self.sender.is_closed() {
                return;
            }
            // A burst of events is one walk; what is not ready is looked at sooner.
            let least = if unready { UNREADY } else { WALK_AT_MOST_EVERY };
            thread::sleep(least.saturating_sub(began.elapsed()));
            self.drain();
        }
    }

    /// Until something happens in the tree, a second has gone (is anybody there?), or `pause`.
    fn sleep(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.sender.is_closed() {
            let left = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(1));
            if left.is_zero() {
                return;
            }
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(left.subsec_nanos().max(u32::from(left.as_secs() > 0) * 999_999_999)),
            };
            match poll(&mut [PollFd::new(&self.events, PollFlags::IN)], Some(&wait)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                _ => return,
            }
        }
    }

    /// Which event it was does not matter: the walk sees what is there.
    fn drain(&self) {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.events, &mut buffer);
        while reader.next().is_ok() {}
    }

    /// Sees what there is and tells what changed; whether some of it is not ready.
    fn walk(&mut self) -> Result<bool, Over> {
        let mut found = walk(&self.hierarchy, MAX_DIRECTORIES);
        if !found.complete {
            tracing::error!(bound = MAX_DIRECTORIES, "not the whole cgroup tree was seen: containers may be missing");
        }
        self.watch(&found);
        self.tell_places(&found);
        let there = |path: &PathBuf, known: &Known| {
            found.containers.get(path).map_or(!found.complete, |one| one.cgroup == known.cgroup && one.populated)
        };
        let gone: Vec<PathBuf> =
            self.known.iter().filter(|(path, known)| !there(path, known)).map(|(path, _)| path.clone()).collect();
        for path in gone {
            if let Some(known) = self.known.remove(&path).filter(|known| known.told) {
                self.say(Sight::Gone(known.id))?;
            }
        }
        let mut unready = false;
        for (path, one) in std::mem::take(&mut found.containers) {
            unready |= one.populated && self.meet(path, &one)?;
        }
        Ok(unready)
    }

    /// Places in which containers are made, once each; told before any container that is in them.
    fn tell_places(&mut self, found: &Found) {
        let Some(tell) = &self.found else { return };
        let is_new = |path: &&PathBuf, inode: u64| self.told_places.get(*path) != Some(&inode);
        let named = found.directories.iter().filter_map(|(path, inode)| Some((path, *inode, names::place(path)?)));
        let new: Vec<ContainerPlace> = named
            .filter(|(path, inode, _)| is_new(path, *inode))
            .map(|(path, inode, mixed)| place(found, path, inode, mixed))
            .collect();
        if new.is_empty() {
            return;
        }
        tell(&new);
        self.told_places.retain(|path, _| found.directories.contains_key(path) || !found.complete);
        self.told_places.extend(new.into_iter().map(|place| (place.path, place.cgroup.0)));
    }

    /// Whether it is to be looked at again soon.
    fn meet(&mut self, path: PathBuf, one: &One) -> Result<bool, Over> {
        let id = ContainerId(one.named.id.clone());
        if !self.known.contains_key(&path) {
            if self.known.len() >= MAX_CONTAINERS {
                tracing::error!(container = %id, bound = MAX_CONTAINERS, "container is outside policy: too many");
                return Ok(false);
            }
            if self.known.values().any(|known| known.id == id) {
                tracing::warn!(container = %id, path = %path.display(), "a second cgroup of this id: left to the host");
                return Ok(false);
            }
            let since = Instant::now();
            self.known.insert(path.clone(), Known { cgroup: one.cgroup, id, since, told: false });
        }
        let Some(known) = self.known.get_mut(&path).filter(|known| !known.told) else { return Ok(false) };
        let age = known.since.elapsed();
        let Some(pid) = eldest(&self.hierarchy, &path) else { return Ok(true) };
        if (self.complete && age < self.grace) || (age < READY_WITHIN && is_runtimes(pid)) {
            return Ok(true);
        }
        known.told = true;
        let container = describe(&self.places, &self.pods, &one.named, Cgroup { id: one.cgroup, path }, pid);
        self.say(Sight::Appeared(Box::new(container)))?;
        Ok(false)
    }

    fn say(&self, sight: Sight) -> Result<(), Over> {
        self.sender.blocking_send(sight).map_err(|_| Over)
    }

    /// Directories that may get containers, and the state of those that are some.
    fn watch(&mut self, found: &Found) {
        use inotify::WatchFlags;
        let places = found
            .directories
            .iter()
            .map(|(path, inode)| (path.clone(), *inode, WatchFlags::CREATE | WatchFlags::DELETE));
        let containers = found.containers.iter();
        let states = containers.map(|(path, one)| (path.join("cgroup.events"), one.cgroup.0, WatchFlags::MODIFY));
        let mut seen = BTreeSet::new();
        for (path, inode, flags) in places.chain(states) {
            seen.insert(path.clone());
            if self.watched.get(&path) == Some(&inode) {
                continue;
            }
            let Some(place) = self.hierarchy.directory(&path) else { continue };
            match inotify::add_watch(&self.events, &place, flags) {
                Ok(_) => {
                    self.watched.insert(path, inode);
                }
                Err(rustix::io::Errno::NOENT) => {}
                // The walk every few seconds sees it all the same.
                Err(error) => tracing::debug!(path = %place.display(), %error, "cannot be watched"),
            }
        }
        self.watched.retain(|path, _| seen.contains(path));
    }
}

/// A directory that is a container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct One {
    named: Named,
    cgroup: CgroupId,
    populated: bool,
}

#[derive(Debug, Default)]
struct Found {
    containers: BTreeMap<PathBuf, One>,
    /// Those that are none, with their inodes.
    directories: BTreeMap<PathBuf, u64>,
    complete: bool,
}

/// Below a mixed place, nothing that is there already is known to be unknown.
fn place(found: &Found, path: &Path, inode: u64, mixed: bool) -> ContainerPlace {
    let is_below = |other: &&PathBuf| !mixed && other.starts_with(path) && *other != path;
    let below = found.directories.iter().filter(|(other, _)| is_below(other));
    ContainerPlace {
        cgroup: CgroupId(inode),
        path: path.to_path_buf(),
        mixed,
        below: below.map(|(_, inode)| CgroupId(*inode)).collect(),
    }
}

fn walk(hierarchy: &Hierarchy, bound: usize) -> Found {
    let mut found = Found { complete: true, ..Found::default() };
    let mut waiting = vec![hierarchy.top().to_path_buf()];
    while let Some(path) = waiting.pop() {
        let Some(directory) = hierarchy.directory(&path) else { continue };
        let Ok(own) = fs::metadata(&directory) else { continue };
        if let Some(named) = names::container(&path).filter(|_| own.uid() == 0) {
            let populated = is_populated(&directory);
            found.containers.insert(path, One { named, cgroup: CgroupId(own.ino()), populated });
            continue;
        }
        if found.directories.len() >= bound {
            found.complete = false;
            return found;
        }
        found.directories.insert(path.clone(), own.ino());
        // Two links and one for each child: most directories have none, and are not read.
        if own.nlink() == 2 {
            continue;
        }
        match fs::read_dir(&directory) {
            Ok(entries) => {
                let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                waiting.extend(below.map(|entry| path.join(entry.file_name())));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => found.complete = false,
        }
    }
    found
}

/// Whether a process is in the cgroup or below it.
pub(crate) fn is_populated(directory: &Path) -> bool {
    let events = fs::read(directory.join("cgroup.events")).unwrap_or_default();
    events.split(|byte| *byte == b'\n').any(|line| line == b"populated 1")
}

/// The process of the cgroup, or of one below it, that began first: init, for as long as that lives.
fn eldest(hierarchy: &Hierarchy, path: &Path) -> Option<u32> {
    let mut waiting = vec![hierarchy.directory(path)?];
    let mut looked = 0;
    while let Some(directory) = waiting.pop() {
        looked += 1;
        let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        let members = members.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0);
        let eldest = members.take(MAX_MEMBERS).filter_map(|pid| Some((started(pid)?, pid))).min();
        if let Some((_, pid)) = eldest {
            return Some(pid);
        }
        if looked < MAX_MEMBERS {
            let below = fs::read_dir(&directory).into_iter().flatten().flatten();
            waiting.extend(
                below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
            );
        }
    }
    None
}

/// Field 22 of `/proc/<pid>/stat`; the name before it may hold anything.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(after + 2..)?).ok()?;
    text.split(' ').nth(19)?.parse().ok()
}

/// Whether the process is (still) the runtime's init: it has not entered the container's root, or not executed anything there.
fn is_runtimes(pid: u32) -> bool {
    let root = |pid: &str| fs::metadata(format!("/proc/{pid}/root")).map(|root| (root.dev(), root.ino()));
    let (Ok(own), Ok(host)) = (root(&pid.to_string()), root("self")) else { return true };
    let comm = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    own == host || [&b"runc"[..], b"crun", b"conmon", b"youki"].iter().any(|name| comm.starts_with(name))
}

fn describe(places: &Places, pods: &Pods, named: &Named, cgroup: Cgroup, pid: u32) -> Container {
    let mut metadata: Metadata = places.metadata(&named.id);
    label(places, named, &mut metadata.labels);
    let sandbox = pods.of(&metadata).or_else(|| metadata.sandbox_id().map(|id| places.metadata(id)));
    let placement = Placement { pid, cgroup, root: None };
    let id = ContainerId(named.id.clone());
    let mut container = identity::container(id, named.maker.name(), &metadata, sandbox.as_ref(), placement);
    if named.pod.is_some() && !container.labels.contains_key(POD_NAMESPACE) {
        tracing::warn!(container = %container.id, "its pod's namespace is not known: no policy of a namespace selects it");
        container.namespace = String::new();
    }
    container
}

/// What the path says, as labels; names that files gave stay.
fn label(places: &Places, named: &Named, labels: &mut BTreeMap<String, String>) {
    let mut add = |key: &str, value: &str| {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    };
    add("palisade.dev/runtime", named.maker.name());
    let Some(pod) = &named.pod else { return };
    add("palisade.dev/qos", pod.qos.name());
    add(POD_UID, &pod.uid);
    match places.pod(&pod.uid) {
        Some((name, namespace)) => {
            add(POD_NAME, &name);
            add(POD_NAMESPACE, &namespace);
        }
        None => add(POD_NAME, &format!("pod-{}", pod.uid)),
    }
}

/// The hierarchy of this machine.
pub(crate) fn hierarchy() -> Result<Hierarchy, CgroupError> {
    crate::cgroup::mounted().map(|(hierarchy, _)| hierarchy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945";

    fn tree(directories: &[&str]) -> (tempfile::TempDir, Hierarchy) {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            let directory = root.path().join(directory.replace("ID", ID));
            fs::create_dir_all(&directory).unwrap();
            for directory in directory.ancestors().take_while(|directory| *directory != root.path()) {
                fs::write(directory.join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
            }
        }
        let hierarchy = Hierarchy::at(root.path());
        (root, hierarchy)
    }

    fn paths(found: &Found) -> Vec<String> {
        found.containers.keys().map(|path| path.display().to_string().replace(ID, "ID")).collect()
    }

    #[test]
    fn unit_tree_walk_finds_containers_and_reads_nothing_below_them() {
        let (_root, hierarchy) = tree(&["docker/ID", "system.slice/docker-ID.scope/docker-ID.scope", "user.slice/x/y"]);
        if fs::metadata(hierarchy.directory(Path::new("/")).unwrap()).unwrap().uid() != 0 {
            println!("skipped: only root makes directories of root's");
            return;
        }
        let found = walk(&hierarchy, 100);
        assert_eq!(paths(&found), ["/docker/ID", "/system.slice/docker-ID.scope"]);
        assert!(found.complete && found.containers.values().all(|one| one.populated));
        assert!(!walk(&hierarchy, 3).complete, "a walk that was cut says so");
    }

    #[test]
    fn unit_tree_walk_passes_over_what_root_does_not_own() {
        let (root, hierarchy) = tree(&["user.slice/docker-ID.scope"]);
        let delegated = root.path().join("user.slice").join(format!("docker-{ID}.scope"));
        if std::os::unix::fs::chown(&delegated, Some(1000), None).is_err() {
            println!("skipped: only root gives directories away");
            return;
        }
        assert_eq!(paths(&walk(&hierarchy, 100)), Vec::<String>::new());
    }

    #[test]
    fn unit_tree_a_pod_of_no_known_namespace_is_of_none() {
        let named =
            names::container(Path::new(&format!("/kubepods/pod0e4f7e0c-4bd1-4c9a-8a54-1f2d5f6a7b8c/{ID}"))).unwrap();
        let root = tempfile::tempdir().unwrap();
        let places = Places::below(root.path());
        let at = || Cgroup { id: CgroupId(9), path: "/x".into() };
        let told = describe(&places, &Pods::default(), &named, at(), 7);
        assert_eq!((told.namespace.as_str(), told.pod.as_str()), ("", "pod-0e4f7e0c-4bd1-4c9a-8a54-1f2d5f6a7b8c"));
        assert_eq!((told.labels["palisade.dev/qos"].as_str(), told.name.as_str()), ("guaranteed", ID));
        fs::create_dir_all(root.path().join("var/log/pods/shop_web-1_0e4f7e0c-4bd1-4c9a-8a54-1f2d5f6a7b8c")).unwrap();
        let told = describe(&places, &Pods::default(), &named, at(), 7);
        assert_eq!((told.namespace.as_str(), told.pod.as_str()), ("shop", "web-1"));
    }
}

//! All containers of a node: those that the runtime's API tells, and those of other runtimes by their cgroups.
//!
//! Decision: the tree is watched beside every API, not only in place of one. Docker's or Podman's containers on a node of containerd are
//! seen by nobody else; and while the API is away, what starts then is seen at all.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use palisade_domain::{CgroupId, ContainerId};
use palisade_world::{Container, ContainerChange, ContainerPlace, Containers, ContainersError};
use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    api::{ContainerdRuntime, unreachable},
    bundle::Places,
    cgroup::Hierarchy,
    cri::{self, Cri},
    endpoint::Endpoint,
    follow::{Followed, RuntimeConfig},
    no_api::NoApi,
    nri::{Nri, NriConfig, Pods},
    roster::Changes,
    shares::Shares,
    tree::{self, PlaceListener, PlacesFound, Sight, Tree},
};

/// How long an API has to tell a container before the tree does: two of the CRI's looks.
const GRACE: Duration = Duration::from_secs(1);
const _: () = assert!(GRACE.as_millis() >= 2 * cri::POLL.as_millis(), "else names would change after a start");

/// How long the first walk of the tree is waited for before all is called told.
const FIRST_WALK: Duration = Duration::from_secs(5);

/// Namespaces that are remembered as told; past it they are told again, which changes nothing.
const MAX_NAMESPACES: usize = 64;

/// Between two looks for announced containers that never ran.
const SWEEP: Duration = Duration::from_secs(1);

/// How a node knows its containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// By which API; `None`: by that of the first runtime that is found, also where it comes later.
    pub endpoint: Option<Endpoint>,
    /// The socket for `palisade hook`; without one, containers are only known once they run.
    pub hook_socket: Option<PathBuf>,
    /// Have the runtime add the hook, by NRI. Only with a hook's socket.
    pub nri: Option<NriConfig>,
}

/// See the module.
#[derive(Debug)]
pub struct NodeContainers {
    api: Api,
    hook_socket: Option<PathBuf>,
    nri: Option<NriConfig>,
    /// Once hooks are answered.
    plugin: Option<Nri>,
    pods: Pods,
    /// No runtime was found yet.
    detects: bool,
    /// Whether an API can tell a container first.
    has_api: bool,
    tree: Option<Tree>,
    hierarchy: Option<Hierarchy>,
    /// The tree has been walked once, or the API was not held up for it any longer.
    walked: bool,
    /// The API has told all, and the tree has not yet: until when it is waited for.
    synchronized: Option<Instant>,
    shares: Shares,
    changes: Changes,
    sweep: Option<Interval>,
    places: Option<PlacesFound>,
    /// Namespaces of containerd's own clients, as cgroups: told once each.
    told_namespaces: BTreeMap<PathBuf, CgroupId>,
}

#[derive(Debug)]
enum Api {
    Containerd(Box<Followed<ContainerdRuntime>>),
    Cri(Box<Followed<Cri>>),
    None(Box<Followed<NoApi>>),
}

impl Api {
    async fn next(&mut self) -> Result<(ContainerChange, bool), ContainersError> {
        Ok(match self {
            Self::Containerd(followed) => (followed.next().await?, followed.last_is_unwatched()),
            Self::Cri(followed) => (followed.next().await?, followed.last_is_unwatched()),
            Self::None(followed) => (followed.next().await?, followed.last_is_unwatched()),
        })
    }
}

impl Api {
    fn of(endpoint: Endpoint, hook_socket: Option<PathBuf>, pods: Pods) -> Self {
        let follow = |address| RuntimeConfig { address, hook_socket };
        match endpoint {
            Endpoint::Containerd(socket) => Self::Containerd(Box::new(Followed::with_foreign(follow(socket), pods))),
            Endpoint::Cri(socket) => Self::Cri(Box::new(Followed::with_foreign(follow(socket), pods))),
            Endpoint::Cgroups => Self::None(Box::new(Followed::with_foreign(follow(PathBuf::new()), pods))),
        }
    }

    /// [`Followed::busy`].
    fn busy(&self) -> watch::Receiver<bool> {
        match self {
            Self::Containerd(followed) => followed.busy(),
            Self::Cri(followed) => followed.busy(),
            Self::None(followed) => followed.busy(),
        }
    }

    fn forget_announced(&mut self, id: &ContainerId) {
        match self {
            Self::Containerd(followed) => followed.forget_announced(id),
            Self::Cri(followed) => followed.forget_announced(id),
            Self::None(followed) => followed.forget_announced(id),
        }
    }
}

impl NodeContainers {
    /// Nothing is opened until the first [`Containers::next`].
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        let endpoint = config.endpoint.clone().unwrap_or_else(Endpoint::detect);
        tracing::info!(%endpoint, told = config.endpoint.is_some(), "containers are known by");
        let detects = config.endpoint.is_none() && endpoint == Endpoint::Cgroups;
        let pods = Pods::default();
        let api = Api::of(endpoint, config.hook_socket.clone(), pods.clone());
        let has_api = !matches!(api, Api::None(_));
        Self {
            has_api,
            api,
            hook_socket: config.hook_socket,
            nri: config.nri,
            plugin: None,
            pods,
            detects,
            tree: None,
            hierarchy: None,
            walked: false,
            synchronized: None,
            shares: if has_api { Shares::deferring() } else { Shares::default() },
            changes: Changes::new(),
            sweep: None,
            places: None,
            told_namespaces: BTreeMap::new(),
        }
    }

    /// Tells where containers are made, before any container that is there: who is made there later, perhaps while nobody looks, is one.
    #[must_use]
    pub fn telling_places(mut self, tell: Arc<PlaceListener>) -> Self {
        self.places = Some(PlacesFound(tell));
        self
    }

    /// Begins to watch, where that has not begun or the watching thread is over.
    fn watch(&mut self) -> Result<(), ContainersError> {
        if self.tree.is_some() {
            return Ok(());
        }
        let failed = |reason: String| unreachable(std::path::Path::new("/sys/fs/cgroup"), reason);
        let hierarchy = tree::hierarchy().map_err(|error| failed(error.to_string()))?;
        let grace = if self.has_api { GRACE } else { Duration::ZERO };
        let watched = Tree::watch(hierarchy.clone(), Places::default(), self.pods.clone(), grace, self.places.clone());
        self.tree = Some(watched.map_err(|error| failed(format!("cannot be watched: {error}")))?);
        self.hierarchy = Some(hierarchy);
        Ok(())
    }

    fn watch_anew(&mut self) {
        self.tree = None;
        self.walked = false;
        self.shares.look_anew();
    }

    /// A runtime that was started after the node is followed from now on: all is told anew, by its API.
    fn look_for_a_runtime(&mut self) -> Result<(), ContainersError> {
        if !self.detects {
            return Ok(());
        }
        let endpoint = Endpoint::detect();
        if endpoint == Endpoint::Cgroups {
            return Ok(());
        }
        tracing::info!(%endpoint, "a runtime is there now: containers are known by");
        self.detects = false;
        self.has_api = true;
        // The old one first: the hook's socket is one's.
        self.api = Api::of(Endpoint::Cgroups, None, Pods::default());
        self.api = Api::of(endpoint.clone(), self.hook_socket.clone(), self.pods.clone());
        // With the patience that an API is owed.
        self.watch_anew();
        Err(unreachable(endpoint.socket().unwrap_or(std::path::Path::new("/")), "it was started just now".to_owned()))
    }

    fn see(&mut self, sight: Option<Sight>) {
        match sight {
            Some(Sight::Appeared(container)) => self.shares.appeared(*container, &mut self.changes),
            Some(Sight::Gone(id)) => self.shares.gone(id, &mut self.changes),
            Some(Sight::Complete) => {
                self.walked = true;
                self.shares.looked(&mut self.changes);
            }
            // Its thread is over, which no error makes it: begun again at the next call, and all is seen anew.
            None => self.watch_anew(),
        }
    }

    /// containerd's own clients make containers in a directory that is called as their namespace.
    fn meet_namespace(&mut self, container: &Container) {
        let (Some(tell), Some(hierarchy), Some(parent)) =
            (&self.places, &self.hierarchy, container.cgroup_path.parent())
        else {
            return;
        };
        if container.runtime_namespace.is_empty() || parent != Path::new("/").join(&container.runtime_namespace) {
            return;
        }
        let directory = hierarchy.directory(parent).and_then(|directory| std::fs::metadata(directory).ok());
        let Some(cgroup) = directory.map(|directory| CgroupId(directory.ino())) else { return };
        if self.told_namespaces.len() >= MAX_NAMESPACES {
            self.told_namespaces.clear();
        }
        if self.told_namespaces.insert(parent.to_path_buf(), cgroup) != Some(cgroup) {
            tell(&[ContainerPlace { cgroup, path: parent.to_path_buf(), mixed: false, below: Vec::new() }]);
        }
    }

    fn hear(&mut self, change: ContainerChange, foreign: bool) {
        if let ContainerChange::Starting(container, _) | ContainerChange::Started(container) = &change {
            self.meet_namespace(container);
        }
        if let (ContainerChange::Stopped(id), Some(hierarchy)) = (&change, &self.hierarchy)
            && self.shares.lingers(id, |path, cgroup| is_there(hierarchy, path, cgroup))
        {
            return;
        }
        if matches!(change, ContainerChange::Synchronized) {
            self.synchronized = Some(Instant::now() + FIRST_WALK);
            // Hooks are answered from now on.
            if let (None, Some(config), Some(socket)) = (&self.plugin, &self.nri, &self.hook_socket) {
                self.plugin = Some(Nri::start(config.clone(), socket, self.pods.clone()));
            }
        } else {
            self.shares.of_api(change, foreign, &mut self.changes);
        }
    }

    fn end_what_is_gone(&mut self) {
        let Some(hierarchy) = &self.hierarchy else { return };
        // Its init is in it from before the hook on.
        let there = |path: &Path, cgroup| is_there(hierarchy, path, cgroup);
        // A number that was given anew counts as the process that had it: the API says better when it is back.
        let runs = |pid: u32| Path::new("/proc").join(pid.to_string()).exists();
        for id in self.shares.sweep(there, runs, &mut self.changes) {
            self.api.forget_announced(&id);
        }
    }
}

/// Whether the directory still is that cgroup, with a process in it. Podman leaves it for a while after the last has gone.
fn is_there(hierarchy: &Hierarchy, path: &Path, cgroup: CgroupId) -> bool {
    hierarchy.directory(path).is_some_and(|directory| {
        let same = std::fs::metadata(&directory).is_ok_and(|there| there.ino() == cgroup.0);
        same && tree::is_populated(&directory)
    })
}

/// What a node hears of containers.
enum Heard {
    /// What the plugin lacks.
    Lacking(Option<String>),
    /// Of the tree; `None`: its thread is over.
    Sight(Option<Sight>),
    /// The tree was waited for long enough.
    HeldUp,
    /// It is time to look for what has ended.
    Sweep,
    /// By the API.
    Told(Box<Result<(ContainerChange, bool), ContainersError>>),
}

/// The first that is heard. An API that is asked something is heard out: what is dropped begins anew at the next call, and one that takes
/// longer than the others keep quiet would never come to an end. Its questions have deadlines, and it waits idly in between.
async fn heard(
    others: impl Future<Output = Heard>,
    api: impl Future<Output = Result<(ContainerChange, bool), ContainersError>>,
    busy: &mut watch::Receiver<bool>,
) -> Heard {
    let (mut others, mut api) = (pin!(others), pin!(api));
    loop {
        let is_busy = *busy.borrow_and_update();
        tokio::select! {
            biased;
            Ok(()) = busy.changed() => {}
            heard = &mut others, if !is_busy => return heard,
            told = &mut api => return Heard::Told(Box::new(told)),
        }
    }
}

#[async_trait(?Send)]
impl Containers for NodeContainers {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        loop {
            if self.synchronized.is_some_and(|until| self.walked || Instant::now() >= until) {
                self.synchronized = None;
                self.shares.of_api(ContainerChange::Synchronized, false, &mut self.changes);
            }
            if let Some(change) = self.changes.pop_front() {
                return Ok(change);
            }
            self.watch()?;
            let Some(tree) = &mut self.tree else { continue };
            let sweep = self.sweep.get_or_insert_with(|| {
                let mut sweep = interval(SWEEP);
                sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
                sweep
            });
            let held_up = async {
                match self.synchronized {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let lacking = async {
                match &mut self.plugin {
                    Some(plugin) => plugin.changed().await,
                    None => std::future::pending().await,
                }
            };
            let mut busy = self.api.busy();
            let others = async {
                tokio::select! {
                    biased;
                    lacking = lacking => Heard::Lacking(lacking),
                    sight = tree.next() => Heard::Sight(sight),
                    () = held_up => Heard::HeldUp,
                    _ = sweep.tick() => Heard::Sweep,
                }
            };
            match heard(others, self.api.next(), &mut busy).await {
                Heard::Lacking(lacking) => self.changes.push_back(ContainerChange::Limited(lacking)),
                Heard::Sight(sight) => self.see(sight),
                Heard::HeldUp => {}
                Heard::Sweep => {
                    self.end_what_is_gone();
                    self.look_for_a_runtime()?;
                }
                Heard::Told(told) => match *told {
                    Ok((change, foreign)) => self.hear(change, foreign),
                    Err(error) => {
                        // Whoever is away tells nothing first.
                        self.shares.go_on_alone(&mut self.changes);
                        return Err(error);
                    }
                },
            }
        }
    }
}

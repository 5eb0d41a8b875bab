//! The Containers port over a runtime's API: containerd's own, or the CRI.
//!
//! Decisions:
//! - Subscribe first, then list: a container that starts in between is in both, and the roster tells it once. The other order
//!   has a gap.
//! - A pid from the runtime is only trusted for `/proc/<pid>/cgroup` if the runtime still names it afterwards: pids are reused.
//! - A runtime that says nothing is asked whether it is there every [`HEARTBEAT`], by a call with a deadline: one that hangs (stopped,
//!   or stuck on a disk) keeps its socket open, and would otherwise look like one where nothing happens.
//! - A created task (its init waits to be let go) is told as started: that it has a process and a cgroup is what matters.
//! - [`Containers::next`] may be dropped at any await and called again: work is taken off its queue only when it is done. But then it
//!   begins anew, so that who drops it often looks first whether it is [busy](Followed::busy): with a slow runtime nothing would ever be done.

use std::{
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use palisade_domain::ContainerId;
use palisade_world::{Admission, ContainerChange, Containers, ContainersError};

use tokio::{
    sync::watch,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use crate::{
    bundle,
    cgroup::{self, CgroupError, Hierarchy},
    hook::{Call, Request, Server, Signal},
    identity::{self, Metadata, Placement},
    mounts::{self, Mount},
    nri::Pods,
    roster::{Changes, Entry, Key, Roster},
    runtime::{Event, Runtime, Task},
};

/// Whose hooks are answered: runc is root.
const HOOKS_UID: u32 = 0;

/// How often a runtime that says nothing is asked whether it is there. With the deadline of the question (3 s) a runtime that hangs
/// is known to within 8 s, less than the ten that a container's hook waits.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// Where the runtime is, and where hooks ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The runtime's socket.
    pub address: PathBuf,
    /// The socket for `palisade hook`; without one, containers are only known once they run.
    pub hook_socket: Option<PathBuf>,
}

/// A runtime, followed.
#[derive(Debug)]
pub(crate) struct Followed<R> {
    config: RuntimeConfig,
    hooks: Option<Server>,
    connection: Option<Connection<R>>,
    roster: Roster,
    /// Changes to be told. At a connection as many as containers run, otherwise the few of one event.
    changes: Changes,
    /// Taken from the event stream or the hooks and not yet done: one at a time, except that hooks survive a lost connection.
    work: VecDeque<Work>,
    /// Containers that only their hooks know are admitted too; somebody else sees them end.
    with_foreign: bool,
    last_is_unwatched: bool,
    /// Names of pods that the API does not tell.
    pods: Pods,
    busy: watch::Sender<bool>,
}

#[derive(Debug)]
struct Connection<R> {
    runtime: R,
    heartbeat: Interval,
    /// Containers of which the runtime could not say whether they run: asked again with each heartbeat, [`MAX_CONTAINERS`](crate::MAX_CONTAINERS) at most.
    unsure: BTreeSet<Key>,
}

impl<R> Connection<R> {
    fn of(runtime: R, unsure: Vec<Key>) -> Self {
        let unsure = unsure.into_iter().take(crate::MAX_CONTAINERS).collect();
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { runtime, heartbeat, unsure }
    }
}

#[derive(Debug)]
enum Work {
    Event(Event),
    Hook(Call),
    Abandoned(Key, u32),
    Heartbeat,
    /// A container that may run.
    Unsure(Key),
}

impl<R: Runtime> Followed<R> {
    /// Not connected, and not serving hooks, until the first [`Containers::next`].
    #[must_use]
    pub(crate) fn new(config: RuntimeConfig) -> Self {
        Self {
            config,
            hooks: None,
            connection: None,
            roster: Roster::default(),
            changes: Changes::new(),
            work: VecDeque::new(),
            with_foreign: false,
            last_is_unwatched: false,
            pods: Pods::default(),
            busy: watch::Sender::new(false),
        }
    }

    /// Whether the runtime is being asked something, each question with a deadline, and nothing is only waited for.
    pub(crate) fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    fn set_busy(&self, busy: bool) {
        self.busy.send_if_modified(|now| std::mem::replace(now, busy) != busy);
    }

    /// Containers that only their hooks know, for the runtime is another's, are admitted too. Nothing here ever hears of their end.
    pub(crate) fn with_foreign(config: RuntimeConfig, pods: Pods) -> Self {
        Self { with_foreign: true, pods, ..Self::new(config) }
    }

    /// Whether the change told last is a start whose end nobody here may hear of, should it come before the runtime has seen it run.
    pub(crate) fn last_is_unwatched(&self) -> bool {
        self.last_is_unwatched
    }

    /// An announced container has ended, as somebody else has seen.
    pub(crate) fn forget_announced(&mut self, id: &ContainerId) {
        self.roster.forget_announced(id);
    }

    async fn serve_hooks(&mut self) -> Result<(), ContainersError> {
        if let (None, Some(path)) = (&self.hooks, &self.config.hook_socket) {
            let served = Server::bind(path, HOOKS_UID).await;
            self.hooks = Some(served.map_err(|source| ContainersError::HookSocket { path: path.clone(), source })?);
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), ContainersError> {
        let mut api = R::connect(&self.config.address).await?;
        let (hierarchy, mounts) = here()?;
        let (mut found, tasks) = (Vec::new(), api.tasks().await?);
        let mut unsure = tasks.unsure;
        for task in tasks.known {
            match describe(&api, &self.roster, &hierarchy, &mounts, &task).await {
                Ok(Some(entry)) => found.push((task.key, entry)),
                Ok(None) => {}
                // The runtime is there: it is this container's shim that does not answer.
                Err(error) if api.alive().await.is_ok() => {
                    tracing::warn!(container = task.key.id, %error, "asked again in a moment");
                    unsure.push(task.key);
                }
                Err(error) => return Err(error),
            }
        }
        let mut gone = Vec::new();
        for key in self.roster.announced() {
            if api.metadata(&key).await?.is_none() {
                gone.push(key);
            }
        }
        // No await from here on: a connection is made whole or not at all.
        gone.iter().for_each(|key| self.roster.removed(key, &mut self.changes));
        let keys: BTreeSet<Key> = found.iter().map(|(key, _)| key).chain(&unsure).cloned().collect();
        self.roster.keep_only(&keys, &mut self.changes);
        for key in &unsure {
            // Told again, for the reader forgets what is not.
            self.roster.told_again(key, &mut self.changes);
        }
        for (key, mut entry) in found {
            // Again, for two of one id may have been found at once.
            entry.container.id = self.roster.id_for(&key);
            if has_room(&self.roster, &key) {
                self.roster.retold(key, entry, &mut self.changes);
            }
        }
        self.changes.push_back(ContainerChange::Synchronized);
        self.connection = Some(Connection::of(api, unsure));
        Ok(())
    }

    /// Waits for an event or a hook and puts it into the queue of work.
    async fn hear(&mut self) -> Result<(), ContainersError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let signal = async {
            match &mut self.hooks {
                Some(hooks) => hooks.signal().await,
                None => std::future::pending().await,
            }
        };
        let work = tokio::select! {
            biased;
            signal = signal => match signal {
                Some(Signal::Call(call)) => Work::Hook(call),
                Some(Signal::Abandoned(key, pid)) => Work::Abandoned(key, pid),
                None => {
                    // Its task is gone: bind anew at the next call.
                    self.hooks = None;
                    return Ok(());
                }
            },
            event = connection.runtime.next() => Work::Event(event?),
            _ = connection.heartbeat.tick() => Work::Heartbeat,
        };
        if matches!(work, Work::Heartbeat) {
            let unsure = std::mem::take(&mut connection.unsure);
            self.work.extend(unsure.into_iter().take(crate::MAX_CONTAINERS).map(Work::Unsure));
        }
        self.work.push_back(work);
        Ok(())
    }

    /// Does the first piece of work; it stays in the queue until it is done.
    async fn work(&mut self) -> Result<(), ContainersError> {
        let Some(Connection { runtime: api, unsure, .. }) = &mut self.connection else { return Ok(()) };
        let api = &*api;
        let (roster, changes) = (&mut self.roster, &mut self.changes);
        match self.work.front() {
            None => return Ok(()),
            Some(Work::Event(Event::Started { key, pid })) => {
                if !roster.resumed(key, *pid, changes) {
                    let task = Task { key: key.clone(), pid: *pid };
                    unsure.extend(tell_start_or_later(api, roster, task, changes).await?);
                }
            }
            Some(Work::Event(Event::Updated { key })) => {
                for (key, pid) in roster.labelled_by(key) {
                    unsure.extend(tell_start_or_later(api, roster, Task { key, pid }, changes).await?);
                }
            }
            Some(Work::Event(Event::Ended { key, pid })) => roster.ended(key, *pid, changes),
            Some(Work::Event(Event::Deleted { key })) => roster.removed(key, changes),
            Some(Work::Abandoned(key, pid)) => {
                let key = R::key_of(&key.namespace, &key.id);
                if self.with_foreign && !roster.knows(&key) {
                    changes.push_back(ContainerChange::Stopped(ContainerId(key.id)));
                } else {
                    roster.abandoned(&key, *pid, changes);
                }
            }
            Some(Work::Heartbeat) => api.alive().await?,
            Some(Work::Unsure(key)) => match api.init_pid(key).await {
                Ok(Some(pid)) => {
                    let task = Task { key: key.clone(), pid };
                    unsure.extend(tell_start_or_later(api, roster, task, changes).await?);
                }
                Ok(None) => roster.removed(key, changes),
                Err(error) => {
                    unsure.insert(later(api, key.clone(), error).await?);
                }
            },
            // Its container does not start: it must not take a slot.
            Some(Work::Hook(call)) if call.answer.is_closed() => {}
            Some(Work::Hook(call)) => {
                let announced =
                    match announce(api, roster, &call.request, self.with_foreign.then_some(&self.pods)).await {
                        // The runtime is there: it is this container that it cannot tell of, and no other is to wait for that.
                        Err(error) if api.alive().await.is_ok() => Err(error.to_string()),
                        announced => announced?,
                    };
                return self.answer_or_tell(announced);
            }
        }
        self.work.pop_front();
        Ok(())
    }

    /// Ends the first piece of work, a hook's call: it waits for the admission, or is refused here.
    fn answer_or_tell(&mut self, announced: Result<Announced, String>) -> Result<(), ContainersError> {
        let Some(Work::Hook(Call { request, answer })) = self.work.pop_front() else { return Ok(()) };
        match announced {
            Ok(Announced { entry, foreign }) => {
                let key = R::key_of(&request.namespace, &request.id);
                let container = entry.container.clone();
                if !foreign {
                    self.roster.starting(key, entry, &mut self.changes);
                }
                self.changes.push_back(ContainerChange::Starting(container, Admission(answer)));
            }
            // A hook that has gone away meanwhile needs no refusal.
            Err(reason) => drop(answer.send(Err(reason))),
        }
        Ok(())
    }

    /// The next connection tells everything anew, so events that wait are outdated; hooks wait on.
    fn disconnect(&mut self) {
        self.connection = None;
        self.work.retain(|work| !matches!(work, Work::Event(_) | Work::Heartbeat | Work::Unsure(_)));
    }
}

#[async_trait(?Send)]
impl<R: Runtime> Containers for Followed<R> {
    async fn next(&mut self) -> Result<ContainerChange, ContainersError> {
        loop {
            if let Some(change) = self.changes.pop_front() {
                self.set_busy(false);
                self.last_is_unwatched = matches!(&change, ContainerChange::Starting(container, _)
                    if !R::TELLS_EVERY_END || !self.roster.tells(&container.id));
                return Ok(change);
            }
            self.serve_hooks().await?;
            self.set_busy(self.connection.is_none() || !self.work.is_empty());
            let step = match (&self.connection, self.work.is_empty()) {
                (None, _) => self.connect().await,
                (Some(_), true) => self.hear().await,
                (Some(_), false) => self.work().await,
            };
            if let Err(error) = step {
                self.set_busy(false);
                self.disconnect();
                return Err(error);
            }
        }
    }
}

/// One that cannot be told of now, though the runtime is there, is one to be asked of later; an error is the runtime's own.
async fn tell_start_or_later<R: Runtime>(
    api: &R,
    roster: &mut Roster,
    task: Task,
    changes: &mut Changes,
) -> Result<Option<Key>, ContainersError> {
    match tell_start(api, roster, &task, changes).await {
        Ok(()) => Ok(None),
        Err(error) => later(api, task.key, error).await.map(Some),
    }
}

async fn later<R: Runtime>(api: &R, key: Key, error: ContainersError) -> Result<Key, ContainersError> {
    api.alive().await?;
    tracing::warn!(container = key.id, %error, "asked again in a moment");
    Ok(key)
}

/// A container that runs without its hook having announced it, or whose labels changed.
async fn tell_start<R: Runtime>(
    api: &R,
    roster: &mut Roster,
    task: &Task,
    changes: &mut Changes,
) -> Result<(), ContainersError> {
    let (hierarchy, mounts) = here()?;
    if let Some(entry) = describe(api, roster, &hierarchy, &mounts, task).await?.filter(|_| has_room(roster, &task.key))
    {
        roster.started(task.key.clone(), entry, changes);
    }
    Ok(())
}

/// What is known of a task; `None` where it has ended meanwhile (its exit is on the way) or cannot be told by a cgroup.
async fn describe<R: Runtime>(
    api: &R,
    roster: &Roster,
    hierarchy: &Hierarchy,
    mounts: &[Mount],
    task: &Task,
) -> Result<Option<Entry>, ContainersError> {
    let Some(metadata) = api.metadata(&task.key).await? else { return Ok(None) };
    let cgroup = hierarchy.of_container(task.pid, metadata.spec.cgroups_path());
    if api.init_pid(&task.key).await? != Some(task.pid) {
        return Ok(None);
    }
    match cgroup {
        Ok(cgroup) => {
            let root = mounts::root_of_container(mounts, &task.key.namespace, &task.key.id);
            let placement = Placement { pid: task.pid, cgroup, root };
            Ok(Some(entry(api, roster, &task.key, &metadata, placement).await?))
        }
        Err(error) => {
            tracing::error!(container = task.key.id, namespace = task.key.namespace, pid = task.pid, %error, "container is outside policy");
            Ok(None)
        }
    }
}

/// A container whose hook waits.
struct Announced {
    entry: Entry,
    /// The runtime does not know it: it is another's.
    foreign: bool,
}

/// What is known of a container whose hook waits; the inner error is the hook's refusal. With `foreign_pods`, one that the runtime does not
/// know is another's, and of one of these pods where its sandbox is.
async fn announce<R: Runtime>(
    api: &R,
    roster: &Roster,
    request: &Request,
    foreign_pods: Option<&Pods>,
) -> Result<Result<Announced, String>, ContainersError> {
    let key = R::key_of(&request.namespace, &request.id);
    if !has_room(roster, &key) {
        return Ok(Err(format!("this node follows {} containers already", crate::MAX_CONTAINERS)));
    }
    let told = api.announced(&key, &request.bundle).await?;
    let foreign = told.is_none();
    let of_bundle = || bundle::metadata(&request.id, &request.bundle).filter(|_| foreign_pods.is_some());
    let Some(metadata) = told.or_else(of_bundle) else {
        return Ok(Err(format!("{} knows no container {:?} in namespace {:?}", R::NAME, key.id, request.namespace)));
    };
    let (hierarchy, _) = here()?;
    let cgroup = match hierarchy.of_container(request.pid, metadata.spec.cgroups_path()) {
        Ok(cgroup) => cgroup,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let root = Some(metadata.spec.root_in(&request.bundle)).filter(|root| root.is_dir());
    let placement = Placement { pid: request.pid, cgroup, root };
    if let Some(pods) = foreign_pods.filter(|_| foreign) {
        let id = roster.id_for(&key);
        let container = identity::container(id, &key.namespace, &metadata, pods.of(&metadata).as_ref(), placement);
        let sandbox = metadata.sandbox_id().map(str::to_owned);
        return Ok(Ok(Announced { entry: Entry { container, sandbox }, foreign }));
    }
    Ok(Ok(Announced { entry: entry(api, roster, &key, &metadata, placement).await?, foreign }))
}

async fn entry<R: Runtime>(
    api: &R,
    roster: &Roster,
    key: &Key,
    metadata: &Metadata,
    placement: Placement,
) -> Result<Entry, ContainersError> {
    let sandbox = match metadata.sandbox_id() {
        Some(id) => api.metadata(&Key { namespace: key.namespace.clone(), id: id.to_owned() }).await?,
        None => None,
    };
    let container = identity::container(roster.id_for(key), &key.namespace, metadata, sandbox.as_ref(), placement);
    Ok(Entry { container, sandbox: metadata.sandbox_id().map(str::to_owned) })
}

fn has_room(roster: &Roster, key: &Key) -> bool {
    let room = roster.has_room_for(key);
    if !room {
        tracing::error!(
            container = key.id,
            namespace = key.namespace,
            bound = crate::MAX_CONTAINERS,
            "container is outside policy: too many"
        );
    }
    room
}

/// This machine's cgroups and mounts now.
fn here() -> Result<(Hierarchy, Vec<Mount>), ContainersError> {
    cgroup::mounted().map_err(|error| ContainersError::Unreachable {
        address: match &error {
            CgroupError::Unreadable { path, .. } => path.display().to_string(),
            _ => Path::new("/proc/self/mountinfo").display().to_string(),
        },
        reason: error.to_string(),
    })
}

//! Who tells of which container: the runtime's API where it does, the cgroup tree otherwise. Pure.
//!
//! Invariants: a container is told by one of the two at a time. What the API tells is the API's, names and end, whatever the tree sees. A
//! directory within the cgroup of a container that the API told is that container's, whatever it is called. A container that only a hook
//! announced is the tree's from when the tree sees it; if its cgroup goes before that, it has ended.
//!
//! What the API calls ended is the end of the first process. Others may outlive it (in a pod with the host's processes, or moved into the
//! cgroup): then the container lingers, and ends with the last of them.
//!
//! Decision: while the API is away, a container of its ends when its first process is gone and nothing is left in its cgroup. Else who ended
//! meanwhile would be counted among what runs, and keep a slot from who starts, for as long as the API is away.
//!
//! Bounds: as many as both sources tell, [`crate::MAX_CONTAINERS`] each; [`MAX_LINGERING`] linger.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use palisade_domain::{CgroupId, ContainerId};
use palisade_world::{Container, ContainerChange};

use crate::roster::Changes;

/// Containers that linger at a time; one more ends with its first process.
const MAX_LINGERING: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// What the API told and has not ended.
    apis: BTreeMap<ContainerId, Container>,
    /// Of these, those whose first process is over.
    lingering: BTreeSet<ContainerId>,
    /// Those that a hook announced and no API knows, with their cgroups.
    announced: BTreeMap<ContainerId, (PathBuf, CgroupId)>,
    /// What the tree sees now.
    seen: BTreeMap<ContainerId, Container>,
    /// Of `seen`: what was told for the tree's sake.
    told: BTreeSet<ContainerId>,
    /// The API has not told all for the first time: what the tree sees waits for that, for the API names it better.
    defers: bool,
    /// It does not answer, and has not told all since it did.
    away: bool,
}

impl Shares {
    /// Tells nothing of the tree's before the API has told all that runs, or is given up.
    pub(crate) fn deferring() -> Self {
        Self { defers: true, ..Self::default() }
    }

    /// The API is away.
    pub(crate) fn go_on_alone(&mut self, out: &mut Changes) {
        self.away = true;
        if std::mem::take(&mut self.defers) {
            self.retell(out);
        }
    }

    /// The tree is watched anew from its beginning.
    pub(crate) fn look_anew(&mut self) {
        self.seen.clear();
    }

    /// All that is there has been seen since: what was told and is not among it ended meanwhile.
    pub(crate) fn looked(&mut self, out: &mut Changes) {
        let gone: Vec<ContainerId> = self.told.iter().filter(|id| !self.seen.contains_key(*id)).cloned().collect();
        gone.into_iter().for_each(|id| self.gone(id, out));
    }

    fn retell(&mut self, out: &mut Changes) {
        let ours: Vec<Container> =
            self.seen.values().filter(|one| !self.is_apis(&one.id, &one.cgroup_path)).cloned().collect();
        for container in ours {
            self.tell(container, out);
        }
    }

    /// A change by the API. `foreign`: it starts by a hook, and the API does not know it.
    pub(crate) fn of_api(&mut self, change: ContainerChange, foreign: bool, out: &mut Changes) {
        match &change {
            ContainerChange::Starting(container, _) if foreign => {
                self.told.remove(&container.id);
                self.announced.insert(container.id.clone(), (container.cgroup_path.clone(), container.cgroup));
            }
            ContainerChange::Starting(container, _) | ContainerChange::Started(container) => {
                self.announced.remove(&container.id);
                if self.lingering.remove(&container.id) {
                    // Another run of it.
                    out.push_back(ContainerChange::Stopped(container.id.clone()));
                }
                self.apis.insert(container.id.clone(), container.clone());
                // The same container by the same id: told anew, it keeps its place.
                self.told.remove(&container.id);
                let within = |one: &Container| one.cgroup_path.starts_with(&container.cgroup_path);
                let covered: Vec<ContainerId> =
                    self.told.iter().filter(|id| self.seen.get(*id).is_some_and(within)).cloned().collect();
                for id in covered {
                    self.told.remove(&id);
                    out.push_back(ContainerChange::Stopped(id));
                }
            }
            ContainerChange::Stopped(id) => {
                self.apis.remove(id);
                self.lingering.remove(id);
                if self.announced.remove(id).is_none() && self.told.contains(id) {
                    // An announcement that was given up long after the container ran: the tree knows better.
                    return;
                }
            }
            ContainerChange::Limited(_) => {}
            ContainerChange::Synchronized => {
                self.defers = false;
                self.away = false;
                // The reader forgets what is not told by now.
                self.retell(out);
                let lingering = self.lingering.iter().filter_map(|id| self.apis.get(id));
                out.extend(lingering.cloned().map(ContainerChange::Started));
            }
        }
        out.push_back(change);
    }

    /// The API says that the container's first process ended. Whether it goes on all the same, as others are still there.
    pub(crate) fn lingers(&mut self, id: &ContainerId, there: impl Fn(&Path, CgroupId) -> bool) -> bool {
        let Some(container) = self.apis.get(id) else { return false };
        if self.lingering.contains(id) || !there(&container.cgroup_path, container.cgroup) {
            return false;
        }
        let (lingering, path) = (self.lingering.len() + 1, container.cgroup_path.display());
        if lingering > MAX_LINGERING {
            tracing::error!(container = %id, %path, bound = MAX_LINGERING, "too many containers linger: its last processes are let go");
            return false;
        }
        tracing::info!(container = %id, %path, lingering, "its first process is over, others are not: it is held until the last one is gone");
        self.lingering.insert(id.clone())
    }

    /// The tree sees a container.
    pub(crate) fn appeared(&mut self, container: Container, out: &mut Changes) {
        self.seen.insert(container.id.clone(), container.clone());
        if !self.defers && !self.is_apis(&container.id, &container.cgroup_path) {
            self.tell(container, out);
        }
    }

    /// The tree sees it no more.
    pub(crate) fn gone(&mut self, id: ContainerId, out: &mut Changes) {
        self.seen.remove(&id);
        if self.told.remove(&id) {
            out.push_back(ContainerChange::Stopped(id));
        }
    }

    /// Ends lingering and announced containers whose cgroup is gone or empty, and says which of the announced; while the API is away also
    /// others of its, once their first process is gone, too. `there` says whether a directory still is that cgroup, `runs` of a process
    /// whether there is one.
    pub(crate) fn sweep(
        &mut self,
        there: impl Fn(&Path, CgroupId) -> bool,
        runs: impl Fn(u32) -> bool,
        out: &mut Changes,
    ) -> Vec<ContainerId> {
        let over = |(id, one): &(&ContainerId, &Container)| {
            let first_is_gone = self.lingering.contains(*id) || self.away && !runs(one.pid);
            first_is_gone && !there(&one.cgroup_path, one.cgroup)
        };
        for id in self.apis.iter().filter(over).map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.lingering.remove(&id);
            self.apis.remove(&id);
            out.push_back(ContainerChange::Stopped(id));
        }
        let gone: Vec<ContainerId> = self
            .announced
            .iter()
            .filter(|(_, (path, cgroup))| !there(path, *cgroup))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &gone {
            self.announced.remove(id);
            out.push_back(ContainerChange::Stopped(id.clone()));
        }
        gone
    }

    fn tell(&mut self, container: Container, out: &mut Changes) {
        self.announced.remove(&container.id);
        self.told.insert(container.id.clone());
        out.push_back(ContainerChange::Started(container));
    }

    fn is_apis(&self, id: &ContainerId, path: &Path) -> bool {
        self.apis.contains_key(id) || self.apis.values().any(|own| path.starts_with(&own.cgroup_path))
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;

//! What has been told of which container, so that each change is told once whichever way it came by.
//!
//! Three sources overlap: hooks (before the start), the list at connection, and events. Hooks travel beside the event stream, so
//! the hook of a restarted container may overtake the exit of its earlier task. The init process' pid tells tasks of one container
//! apart: an exit of another pid than the one told is of an earlier task, and a start of the same pid is the same start.
//!
//! Invariant: for each container the changes told are (Starting? Started+ Stopped)*, where a repeated Started tells new labels or
//! a new connection. Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use palisade_domain::ContainerId;
use palisade_world::{Container, ContainerChange};

/// Most containers that are followed. Kubernetes advises 110 pods a node and few go past 500; the bound keeps what a runaway client
/// of containerd can make us hold to some tens of megabytes.
pub const MAX_CONTAINERS: usize = 8192;

/// containerd's name of a container: ids are unique only inside a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub namespace: String,
    pub id: String,
}

/// A container that has been told, or is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub container: Container,
    /// The container whose labels are its pod's.
    pub sandbox: Option<String>,
}

#[derive(Debug)]
struct Told {
    entry: Entry,
    running: bool,
}

pub(crate) type Changes = VecDeque<ContainerChange>;

#[derive(Debug, Default)]
pub(crate) struct Roster {
    told: BTreeMap<Key, Told>,
}

impl Roster {
    /// The id that the container is told by: its own, or `namespace/id` where another namespace has told the same id (containerd
    /// allows no `/` in an id, so the two never meet).
    pub(crate) fn id_for(&self, key: &Key) -> ContainerId {
        if let Some(told) = self.told.get(key) {
            return told.entry.container.id.clone();
        }
        let plain = ContainerId(key.id.clone());
        if self.told.values().any(|told| told.entry.container.id == plain) {
            ContainerId(format!("{}/{}", key.namespace, key.id))
        } else {
            plain
        }
    }

    /// Whether anything was told of it.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        self.told.contains_key(key)
    }

    /// The same, by the id that it is told by.
    pub(crate) fn tells(&self, id: &ContainerId) -> bool {
        self.told.values().any(|told| told.entry.container.id == *id)
    }

    /// One that was announced and does not run has ended, and that has been told.
    pub(crate) fn forget_announced(&mut self, id: &ContainerId) {
        self.told.retain(|_, told| told.running || told.entry.container.id != *id);
    }

    /// Whether the container can be followed: it is, or there is room.
    pub(crate) fn has_room_for(&self, key: &Key) -> bool {
        self.told.len() < MAX_CONTAINERS || self.told.contains_key(key)
    }

    /// A hook waits. The caller tells `Starting` itself, after these changes: an earlier task's end, if its exit is still on the way.
    pub(crate) fn starting(&mut self, key: Key, entry: Entry, changes: &mut Changes) {
        self.removed(&key, changes);
        self.told.insert(key, Told { entry, running: false });
    }

    /// A container that was announced by its hook now runs; `false` where no hook announced this task.
    pub(crate) fn resumed(&mut self, key: &Key, pid: u32, changes: &mut Changes) -> bool {
        let Some(told) = self.told.get_mut(key).filter(|told| told.entry.container.pid == pid) else { return false };
        if !told.running {
            told.running = true;
            changes.push_back(ContainerChange::Started(told.entry.container.clone()));
        }
        true
    }

    /// A container runs, as containerd describes it now.
    pub(crate) fn started(&mut self, key: Key, entry: Entry, changes: &mut Changes) {
        match self.told.get(&key) {
            Some(told) if told.running && told.entry == entry => return,
            Some(told) if told.entry.container.pid != entry.container.pid => self.removed(&key, changes),
            _ => {}
        }
        changes.push_back(ContainerChange::Started(entry.container.clone()));
        self.told.insert(key, Told { entry, running: true });
    }

    /// The init process ended. `pid` 0: containerd itself no longer knew it (its shim was killed).
    pub(crate) fn ended(&mut self, key: &Key, pid: u32, changes: &mut Changes) {
        if self.told.get(key).is_some_and(|told| pid == 0 || told.entry.container.pid == pid) {
            self.removed(key, changes);
        }
    }

    /// The hook's answer was a refusal or did not arrive: the container that it announced does not start.
    pub(crate) fn abandoned(&mut self, key: &Key, pid: u32, changes: &mut Changes) {
        if self.told.get(key).is_some_and(|told| !told.running && told.entry.container.pid == pid) {
            self.removed(key, changes);
        }
    }

    /// The container is gone, whatever ran in it.
    pub(crate) fn removed(&mut self, key: &Key, changes: &mut Changes) {
        if let Some(told) = self.told.remove(key) {
            changes.push_back(ContainerChange::Stopped(told.entry.container.id));
        }
    }

    /// A new connection: what ran and was not found again has stopped; the found are to be told by [`Roster::retold`].
    /// Announced containers stay: their task is not listed before it is created.
    pub(crate) fn keep_only(&mut self, found: &BTreeSet<Key>, changes: &mut Changes) {
        let gone: Vec<Key> = self
            .told
            .iter()
            .filter(|(key, told)| told.running && !found.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.removed(&key, changes);
        }
    }

    /// A container found at a new connection: told even if nothing changed.
    pub(crate) fn retold(&mut self, key: Key, entry: Entry, changes: &mut Changes) {
        if let Some(told) = self.told.get_mut(&key) {
            told.running = false;
        }
        self.started(key, entry, changes);
    }

    /// A container that ran, and nobody can say at this new connection that it does not.
    pub(crate) fn told_again(&self, key: &Key, changes: &mut Changes) {
        if let Some(told) = self.told.get(key).filter(|told| told.running) {
            changes.push_back(ContainerChange::Started(told.entry.container.clone()));
        }
    }

    /// Containers that were announced and do not run yet.
    pub(crate) fn announced(&self) -> Vec<Key> {
        self.told.iter().filter(|(_, told)| !told.running).map(|(key, _)| key.clone()).collect()
    }

    /// Running containers, with their pids, whose labels come from this one: itself, and those of which it is the sandbox.
    pub(crate) fn labelled_by(&self, key: &Key) -> Vec<(Key, u32)> {
        let labelled = |(own, told): &(&Key, &Told)| {
            let of_sandbox = own.namespace == key.namespace && told.entry.sandbox.as_ref() == Some(&key.id);
            told.running && (*own == key || of_sandbox)
        };
        self.told.iter().filter(labelled).map(|(own, told)| (own.clone(), told.entry.container.pid)).collect()
    }
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;

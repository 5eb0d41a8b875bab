//! Admission: a container's cgroups and who is in them become its slot's, and each means beside the decision core is told of it.
//!
//! Invariants: an admission that fails leaves nothing of its own behind: its cgroups are whose they were before, the unknown's, those of a slot that an
//! earlier runtime left in force, or nobody's. Nobody is without a policy in between who was held to one. What an earlier runtime left in force ends
//! when nothing can fail any more.

use std::{io, path::Path};

use palisade_domain::{CgroupId, Slot};
use palisade_world::{EnforcementError, Gap, Membership};

use super::{KernelAdapter, State, below, has_nameless_members, is_no_container, refuse};
use crate::{
    layout::{self, PolicyNumber},
    programs::Programs,
};

impl KernelAdapter {
    /// Whose the cgroup was, if somebody held it: a slot that an earlier runtime left in force, or the unknown's.
    pub(super) fn admit_cgroup(
        &self,
        programs: &Programs,
        state: &mut State,
        membership: &Membership,
    ) -> Result<Option<Slot>, EnforcementError> {
        let slot = membership.slot;
        let (Some(cgroup), Some(path)) = (membership.cgroup, &membership.cgroup_path) else {
            let reason = "a container needs a cgroup and the path of it";
            return if is_no_container(slot) { Ok(None) } else { Err(refuse(slot, "admit", reason)) };
        };
        let failed = |error: io::Error| match error.raw_os_error() {
            Some(libc::E2BIG) => EnforcementError::Full { slot, what: "cgroups", bound: u64::from(layout::CGROUPS) },
            _ => refuse(slot, "register the cgroup", error),
        };
        let before = programs.cgroups.slot_of(cgroup).map_err(failed)?;
        if state.strangers.contains(&slot) && before != Some(slot) {
            let refuge =
                free_slot(state).ok_or(EnforcementError::Full { slot, what: "slots", bound: layout::SLOTS.into() })?;
            programs.relocate(slot, refuge).map_err(failed)?;
            state.strangers.remove(&slot);
            state.strangers.insert(refuge);
        }
        let before = programs.cgroups.slot_of(cgroup).map_err(failed)?;
        let stranger = before.filter(|before| *before != slot && state.strangers.contains(before));
        if let Some(stranger) = stranger {
            programs.inherit_policy(stranger, slot);
        }
        if before == Some(Slot::UNKNOWN) && programs.slots.installed(slot).1 == PolicyNumber::NONE {
            // Until its own is in force it is held to what it was held to: a moment without any would be one to act in.
            programs.inherit_policy(Slot::UNKNOWN, slot);
        }
        let held_by = stranger.or(before.filter(|before| *before == Slot::UNKNOWN));
        if let Err(error) = self.take_cgroups(programs, cgroup, path, membership) {
            held_by.iter().for_each(|before| self.give_back(programs, cgroup, path, *before));
            return Err(failed(error));
        }
        Ok(held_by)
    }

    /// It is admitted everywhere: what an earlier runtime left in force for it is needed no longer.
    pub(super) fn end_strangers(&self, state: &mut State, slot: Slot, held_by: Option<Slot>) {
        state.strangers.remove(&slot);
        let stranger = held_by.filter(|before| state.strangers.contains(before));
        let (Some(programs), Some(stranger)) = (&self.programs, stranger) else { return };
        // Who cannot say whether it has a cgroup yet, leaves it what it has.
        if programs.cgroups.of_slot(stranger).is_ok_and(|cgroups| cgroups.is_empty()) {
            programs.clear(stranger);
            state.strangers.remove(&stranger);
        }
    }

    /// The container's cgroups with who is in them.
    fn take_cgroups(
        &self,
        programs: &Programs,
        cgroup: CgroupId,
        path: &Path,
        membership: &Membership,
    ) -> io::Result<()> {
        let slot = membership.slot;
        let keep = || match &self.unified {
            Some(unified) => programs.members.keep(&below(unified, path), slot, &programs.slots),
            None => Ok(()),
        };
        // Once before the cgroup has a name, for a workload's move of whom nothing is kept would make him the host's from then on.
        keep()?;
        programs.cgroups.assign(cgroup, slot)?;
        if let Some(unified) = &self.unified {
            programs.cgroups.assign_below(&below(unified, path), slot)?;
            if membership.pid == 0 {
                programs.cgroups.mark_seen(cgroup, &below(unified, path))?;
            }
        }
        keep()
    }

    /// Those that could be taken are held as before: by what an earlier runtime left in force, or as unknown.
    pub(super) fn give_back(&self, programs: &Programs, cgroup: CgroupId, path: &Path, before: Slot) {
        let given = programs.cgroups.assign(cgroup, before).and_then(|()| match &self.unified {
            Some(unified) => programs.cgroups.assign_below(&below(unified, path), before),
            None => Ok(()),
        });
        if let Err(error) = given {
            tracing::warn!(slot = %before, %error, "not all of a container's cgroups are held as they were");
        }
    }

    /// What admission did before it failed; whose the cgroups were has them again.
    pub(super) fn undo_admission(&self, membership: &Membership, held_by: Option<Slot>) {
        let slot = membership.slot;
        let mut state = self.state();
        if let (Some(programs), Some(before)) = (&self.programs, held_by)
            && let (Some(cgroup), Some(path)) = (membership.cgroup, &membership.cgroup_path)
        {
            self.give_back(programs, cgroup, path, before);
        }
        // What an earlier runtime left in force stands, its profile too.
        if state.strangers.contains(&slot) {
            state.members.remove(&slot);
            return;
        }
        let has_left = held_by.is_some_and(|before| state.strangers.contains(&before));
        drop(state);
        if let Err(error) = self.release_with(slot, !has_left) {
            tracing::warn!(%slot, %error, "an admission that failed is not undone in full");
        }
    }

    /// What it has in the kernel; the profile of its container may be what an earlier runtime left, which stands.
    pub(super) fn release_with(&self, slot: Slot, its_profile: bool) -> Result<(), EnforcementError> {
        let mut state = self.state();
        let path = state.members.remove(&slot).and_then(|member| member.cgroup_path);
        let mut result = Ok(());
        if let Some(programs) = &self.programs
            && programs.slots.holds(slot)
            && !state.strangers.contains(&slot)
        {
            let among_containers = path.zip(self.unified.as_ref()).is_some_and(|(path, unified)| {
                programs.cgroups.is_in_a_place_of_containers(unified, &below(unified, &path))
            });
            result = programs.release(slot, among_containers).map_err(|error| refuse(slot, "release", error));
        }
        self.rest();
        if let Some(profiles) = self.profiles.as_ref().filter(|_| its_profile) {
            result = result.and(profiles.release(slot).map_err(|error| refuse(slot, "remove the profile", error)));
        }
        if let Some(users) = &self.users {
            users.release(slot);
        }
        if let Some(responder) = &self.responder {
            result = result.and(responder.release(slot));
        }
        result
    }

    pub(super) fn admit_elsewhere(&self, membership: &Membership) -> Result<Vec<Gap>, EnforcementError> {
        let slot = membership.slot;
        if let Some(profiles) = self.profiles.as_ref().filter(|_| slot != Slot::UNKNOWN) {
            profiles.admit(membership).map_err(|error| refuse(slot, "load a profile", error))?;
        }
        if let Some(users) = self.users.as_ref().filter(|_| slot != Slot::UNKNOWN) {
            users.admit(membership);
        }
        self.mark_bound(slot);
        let Some(responder) = self.responder.as_ref().filter(|_| slot != Slot::UNKNOWN) else { return Ok(Vec::new()) };
        if let (Some(unified), Some(path)) = (&self.unified, &membership.cgroup_path)
            && has_nameless_members(&below(unified, path))
        {
            let reason = "its processes have no numbers in this PID namespace, so that fanotify cannot tell who acts: run the node in the host's (hostPID)";
            return Err(refuse(slot, "admit", reason));
        }
        responder.admit(membership)
    }
}

/// The highest slot that nobody has: slots are given from below.
fn free_slot(state: &State) -> Option<Slot> {
    let free = |slot: &Slot| !state.members.contains_key(slot) && !state.strangers.contains(slot);
    (1..Slot::UNKNOWN.0).rev().map(Slot).find(free)
}

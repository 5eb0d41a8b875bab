//! The places in which container runtimes make containers, and the cgroup programs that judge who is there unadmitted.
//!
//! Invariant: the kernel says by itself who is unknown (`bpf/include/identity.h`), whether or not a node runs; here it is only told where
//! containers come from. Links are pinned below `<pin root>/cgroup_unknown/<cgroup id>/`, so that they hold while no node runs.
//!
//! Decision: a set of programs of its own for these places (`pal_cgroup_unknown`), not the admitted ones' attached further up, because a
//! link of the place is on the way of every container's sockets: each of the two sets leaves the other's subjects alone, so an act is judged
//! once. Places that hold others beside containers (`system.slice`) get none: each socket of the host's services would come by.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use palisade_domain::{CgroupId, Slot};
use palisade_world::{ContainerPlace, EnforcementError};

use crate::{cgroup::CgroupPrograms, objects, programs::Programs};

/// Places at a time: a node has a handful, and a namespace of containerd more for each client of it.
const MAX_PLACES: usize = 64;

/// What is done about containers that nobody admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownWorkloads {
    /// They are the host's: no place of containers is told.
    #[default]
    Ignored,
    /// They are of [`palisade_domain::Slot::UNKNOWN`], which nobody will put a policy in force for.
    Held,
    /// That slot will get a policy.
    Judged,
}

/// The places that were told.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    places: BTreeMap<CgroupId, PathBuf>,
    /// `None`: nothing is judged here, or this kernel refuses them.
    programs: Option<CgroupPrograms>,
}

impl Unknown {
    /// No places yet; judged by programs that are pinned below this root, where there is one.
    pub fn judged_by(pin_root: Option<&Path>) -> Self {
        let load = |pin_root| CgroupPrograms::load_for_unknown(palisade_bpf::CGROUP, pin_root);
        let refused =
            |error: &_| tracing::warn!(%error, "networks of unknown containers are not judged on their cgroups");
        let programs = pin_root.and_then(|pin_root| load(pin_root).inspect_err(refused).ok());
        Self { places: BTreeMap::new(), programs }
    }

    /// From now on, who is made in the place is unknown. One that was told already changes nothing.
    pub fn hold(
        &mut self,
        programs: &Programs,
        place: &ContainerPlace,
        directory: &Path,
    ) -> Result<(), EnforcementError> {
        if !self.take(place, directory) {
            return Ok(());
        }
        let refused = |what, error: &dyn std::error::Error| EnforcementError::Refused {
            slot: Slot::UNKNOWN,
            what,
            reason: objects::chain(error),
        };
        let judged = match &self.programs {
            Some(programs) if !place.mixed => programs.attach_as(&place.cgroup.0.to_string(), directory),
            _ => Ok(()),
        };
        let held = programs.cgroups.hold_below(place.cgroup, place.mixed, &place.below);
        let held = held.map_err(|error| refused("register a place of containers", &error));
        let held = held.and(judged.map_err(|error| refused("attach to a place of containers", &error)));
        if held.is_err() {
            // Told again, it is new.
            self.places.remove(&place.cgroup);
        }
        held
    }

    /// Whether the place is new, and there is room for it: those that are gone make room.
    fn take(&mut self, place: &ContainerPlace, directory: &Path) -> bool {
        if self.places.contains_key(&place.cgroup) {
            return false;
        }
        if self.places.len() >= MAX_PLACES {
            self.places.retain(|_, directory| directory.exists());
        }
        if self.places.len() >= MAX_PLACES {
            tracing::error!(
                place = %place.path.display(), bound = MAX_PLACES,
                "too many places of containers: who is made here while no node runs is the host's"
            );
            return false;
        }
        self.places.insert(place.cgroup, directory.to_path_buf());
        true
    }
}

/// Of what an earlier node left: links of places that are gone go, and where nobody will tell of places, all of them.
pub(crate) fn take_over(
    what: UnknownWorkloads,
    pin_root: &Path,
    programs: &Programs,
    living: Option<&BTreeSet<CgroupId>>,
) {
    let judged = what == UnknownWorkloads::Judged;
    let lives = |name: &str| {
        let cgroup = name.parse().map(CgroupId);
        judged && cgroup.is_ok_and(|cgroup| living.is_none_or(|living| living.contains(&cgroup)))
    };
    if let Err(error) = CgroupPrograms::abandon_unknown(pin_root, lives) {
        tracing::warn!(%error, "pins of places of containers that are gone stay");
    }
    if what == UnknownWorkloads::Ignored
        && let Err(error) = programs.cgroups.forget_unknown()
    {
        tracing::warn!(%error, "places of containers stay registered");
    }
}

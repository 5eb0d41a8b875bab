//! The places in which container runtimes make containers.
//!
//! Invariant: the kernel says by itself who is unknown (`bpf/include/identity.h`), whether or not a node runs; here it is only told where
//! containers come from. Whatever judges the admitted judges the unknown as well, by the policy of their slot.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use palisade_domain::{CgroupId, Slot};
use palisade_world::{ContainerPlace, EnforcementError};

use crate::{objects, programs::Programs};

/// Places at a time: a node has a handful, and a namespace of containerd more for each client of it.
const MAX_PLACES: usize = 64;

/// The places that were told.
#[derive(Debug, Default)]
pub(crate) struct Unknown {
    places: BTreeMap<CgroupId, PathBuf>,
}

impl Unknown {
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
        let held = programs.cgroups.hold_below(place.cgroup, place.mixed, &place.below);
        let held = held.map_err(|error| refused("register a place of containers", &error));
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

/// Where nobody will tell of places: those that an earlier node was told of.
pub(crate) fn forget(programs: &Programs) {
    if let Err(error) = programs.cgroups.forget_unknown() {
        tracing::warn!(%error, "places of containers stay registered");
    }
}

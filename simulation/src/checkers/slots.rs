//! No two living containers are in one slot.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use palisade_domain::{CgroupId, ContainerId};

use super::Checker;
use crate::event::Event;

/// See the module.
#[derive(Debug, Default)]
pub struct Slots {
    living: BTreeSet<(usize, CgroupId)>,
    cgroup_of: BTreeMap<ContainerId, CgroupId>,
}

impl Checker for Slots {
    fn name(&self) -> &'static str {
        "slots"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        match event {
            Event::ContainerCreated { id, cgroup, .. } => {
                self.living.insert((node, *cgroup));
                self.cgroup_of.insert(id.clone(), *cgroup);
            }
            Event::ContainerOver(id) => {
                if let Some(cgroup) = self.cgroup_of.get(id) {
                    self.living.remove(&(node, *cgroup));
                }
            }
            Event::PowerLost => self.living.retain(|(of, _)| *of != node),
            Event::Admitted { slot, cgroups } => {
                let living = cgroups.iter().filter(|cgroup| self.living.contains(&(node, **cgroup)));
                let living: Vec<u64> = living.map(|cgroup| cgroup.0).collect();
                if living.len() > 1 {
                    return Err(format!("slot {slot} has the living cgroups {living:?}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

//! After the last change the kernel shows of each workload what its namespace says, else what the node is configured to show.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{ContainerId, Visibility, Workload};
use palisade_policy::{PolicyFile, PolicySet};
use palisade_world::{PolicyReading, visibility::bits_of_class};

use super::Checker;
use crate::{event::Event, world::configuration::Configured};

#[derive(Debug, Default)]
struct OfNode {
    default: Visibility,
    workloads: BTreeMap<ContainerId, Arc<Workload>>,
    settled: Option<PolicySet>,
}

/// See the module.
#[derive(Debug)]
pub struct Visibilities {
    nodes: Vec<OfNode>,
}

impl Visibilities {
    /// For nodes that are so configured at first.
    #[must_use]
    pub fn new(configured: &[Configured]) -> Self {
        let nodes = configured.iter().map(|of| OfNode { default: of.visibility, ..OfNode::default() });
        Self { nodes: nodes.collect() }
    }
}

/// What the sound files say. One that was ever sound and is not now is known to the keeper alone: its namespaces are left out.
fn set_of(reading: &PolicyReading) -> Option<PolicySet> {
    let files: Vec<PolicyFile> =
        reading.files.iter().map(|file| PolicyFile::parse(&file.name, &file.content)).collect();
    let all_sound = reading.unreadable.is_empty() && files.iter().all(PolicyFile::is_sound);
    all_sound.then(|| PolicySet::assemble(&files).0)
}

impl OfNode {
    fn seen(&self, shown: &[(ContainerId, u64)]) -> Result<(), String> {
        let Some(set) = &self.settled else { return Ok(()) };
        for (id, kinds) in shown {
            let Some(workload) = self.workloads.get(id) else { continue };
            let said = set.visibility_of(workload).unwrap_or(self.default);
            let shown: BTreeSet<&str> = palisade_domain::VisibilityClass::ALL
                .into_iter()
                .filter(|class| kinds & bits_of_class(*class) == bits_of_class(*class))
                .map(palisade_domain::VisibilityClass::name)
                .collect();
            let wanted: BTreeSet<&str> = said.classes().map(palisade_domain::VisibilityClass::name).collect();
            if shown != wanted {
                return Err(format!("of {id} the kernel shows {shown:?}, and {wanted:?} is asked for"));
            }
        }
        Ok(())
    }
}

impl Checker for Visibilities {
    fn name(&self) -> &'static str {
        "visibility"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        let Some(of) = self.nodes.get_mut(node) else { return Ok(()) };
        match event {
            Event::Configured(configured) => of.default = configured.visibility,
            Event::ContainerCreated { id, workload, .. } | Event::ContainerRelabelled { id, workload } => {
                of.workloads.insert(id.clone(), Arc::clone(workload));
            }
            Event::Settled(reading) => of.settled = set_of(reading),
            Event::Shown(shown) => return of.seen(shown),
            _ => {}
        }
        Ok(())
    }
}

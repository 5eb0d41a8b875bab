//! Each deed is judged as a whole policy set says, none older than the one before it; after the last fault by the newest.
//!
//! The policy sets of a node are what its keeper was handed: after each reading, of each file its last sound version. The oracle
//! ([`palisade_policy_compiler::naive`]) is written from the text of the verdict semantics and shares no code with the compiler, nor with
//! the walk.
//!
//! A container stands at a *place*: the reading, the global postures and the labels that its deeds are judged by. All only go on. Of all places at which the
//! deeds so far can be explained the least are kept; a deed that none of them and nothing after them explains is judged by half a policy, by
//! another's, or by one that had been replaced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{ContainerId, Workload};
use palisade_kernel_abi::blob::Effect;
use palisade_policy::{
    PolicyFile, PolicySet,
    ir::{Postures, WorkloadRules},
};
use palisade_policy_compiler::naive;
use palisade_world::PolicyReading;

use super::Checker;
use crate::{
    deed::Deed,
    event::{Acted, Event, RecordKey, Said},
    world::configuration::Configured,
};

/// Which reading, which global postures, and which labels.
type Place = (usize, usize, usize);

fn is_before(place: Place, other: Place) -> bool {
    place.0 <= other.0 && place.1 <= other.1 && place.2 <= other.2
}

#[derive(Debug)]
struct Container {
    workloads: Vec<Arc<Workload>>,
    /// The least places that explain its deeds so far.
    places: BTreeSet<Place>,
    rules: BTreeMap<Place, Arc<WorkloadRules>>,
    admitted: bool,
}

/// The keeper's files, as it must hold them.
#[derive(Debug, Default)]
struct Keeper {
    sound: BTreeMap<String, PolicyFile>,
    has_read: bool,
}

/// What was said, oldest first.
#[derive(Debug, Default)]
struct History {
    sets: Vec<PolicySet>,
    postures: Vec<Postures>,
}

#[derive(Debug, Default)]
struct OfNode {
    history: History,
    keeper: Keeper,
    containers: BTreeMap<ContainerId, Container>,
    /// Policies by whose rules a decision is, until it is said.
    by: BTreeMap<RecordKey, BTreeSet<String>>,
    settled: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Judged {
    nodes: Vec<OfNode>,
}

impl Judged {
    /// For nodes that are so configured at first.
    #[must_use]
    pub fn new(configured: &[Configured]) -> Self {
        let history = |of: &Configured| History { sets: Vec::new(), postures: vec![of.postures] };
        let nodes = configured.iter().map(|of| OfNode { history: history(of), ..OfNode::default() });
        Self { nodes: nodes.collect() }
    }
}

impl Keeper {
    fn recalled(&mut self, files: &[palisade_world::PolicyFile]) {
        if self.has_read {
            return;
        }
        for file in files {
            let parsed = PolicyFile::parse(&file.name, &file.content);
            if parsed.is_sound() {
                self.sound.insert(file.name.clone(), parsed);
            }
        }
    }

    fn read(&mut self, reading: &PolicyReading) -> PolicySet {
        self.has_read = true;
        let there = |name: &String| {
            reading.files.iter().any(|file| file.name == *name)
                || reading.unreadable.iter().any(|file| file.name == *name)
        };
        self.sound.retain(|name, _| there(name));
        for file in &reading.files {
            let parsed = PolicyFile::parse(&file.name, &file.content);
            if parsed.is_sound() {
                self.sound.insert(file.name.clone(), parsed);
            }
        }
        PolicySet::assemble(self.sound.values()).0
    }
}

impl Container {
    fn rules(&mut self, history: &History, place: Place) -> Arc<WorkloadRules> {
        if let Some(rules) = self.rules.get(&place) {
            return Arc::clone(rules);
        }
        let (set, postures) = (&history.sets[place.0], history.postures[place.1]);
        let rules = set.rules_for(&self.workloads[place.2], &BTreeMap::new(), postures);
        // Most sets are alike for most workloads: those that are share one list, and are asked once.
        let alike = self.rules.values().find(|other| **other == rules).cloned();
        let rules = alike.unwrap_or(rules);
        self.rules.insert(place, Arc::clone(&rules));
        rules
    }

    fn explains(&mut self, history: &History, place: Place, acted: &Acted) -> bool {
        let rules = self.rules(history, place);
        let expected = acted.deed.ask(&acted.executable, |act| naive::evaluate(&rules, act));
        acted.decision.is_some_and(|decision| {
            // Nothing says so, or a rule does: that it is permitted is all there is to see.
            let permits = decision.effect == Effect::Permit && expected.effect == Effect::Permit;
            permits || (decision.effect == expected.effect && decision.by_posture == expected.by_posture)
        })
    }

    /// The last place that there is.
    fn last(&self, history: &History) -> Place {
        (history.sets.len() - 1, history.postures.len() - 1, self.workloads.len() - 1)
    }

    /// All places from one on, each after those before it.
    fn from(&self, history: &History, least: Place) -> impl Iterator<Item = Place> + use<> {
        let last = self.last(history);
        (least.0..=last.0).flat_map(move |set| {
            (least.1..=last.1).flat_map(move |postures| (least.2..=last.2).map(move |labels| (set, postures, labels)))
        })
    }

    fn hear(&mut self, history: &History, acted: &Acted, settled: bool) -> Result<(), String> {
        if settled {
            self.places = [self.last(history)].into();
        }
        let mut explaining: BTreeSet<Place> = BTreeSet::new();
        for least in self.places.clone() {
            if self.explains(history, least, acted) {
                explaining.insert(least);
                continue;
            }
            for place in self.from(history, least) {
                let is_less = |other: &Place| is_before(*other, place);
                if !explaining.iter().any(is_less) && self.explains(history, place, acted) {
                    explaining.insert(place);
                }
            }
        }
        if explaining.is_empty() {
            let (of, last) = (self.places.first().copied().unwrap_or_default(), self.last(history));
            return Err(format!("{}: explained by no set from {} to {}", told(acted), of.0, last.0));
        }
        self.rules.retain(|place, _| explaining.iter().any(|least| is_before(*least, *place)));
        self.places = explaining;
        Ok(())
    }
}

impl Container {
    /// The policies by whose rules the deed is decided, at any place that explains it.
    fn policies(&mut self, history: &History, acted: &Acted) -> BTreeSet<String> {
        let (mut by, mut asked) = (BTreeSet::new(), Vec::new());
        for least in self.places.clone() {
            for place in self.from(history, least) {
                let rules = self.rules(history, place);
                if asked.iter().any(|asked| Arc::ptr_eq(asked, &rules)) {
                    continue;
                }
                asked.push(Arc::clone(&rules));
                let expected = acted.deed.ask(&acted.executable, |act| naive::evaluate(&rules, act));
                if acted.decision.is_some_and(|decision| decision.effect == expected.effect) {
                    by.extend(expected.rules.iter().map(|rule| rule.policy.name.clone()));
                }
            }
        }
        by
    }
}

fn told(acted: &Acted) -> String {
    let Acted { container, executable, deed, slot, decision, generation, .. } = acted;
    let slot = slot.map_or_else(|| "no slot".to_owned(), |slot| format!("slot {slot}"));
    let deed: &Deed = deed;
    format!("{deed} of {container} by {executable} in {slot}, generation {generation}, was judged {decision:?}")
}

impl OfNode {
    fn acted(&mut self, acted: &Acted) -> Result<(), String> {
        let Some(container) = self.containers.get_mut(&acted.container) else {
            return Err(format!("{}: there is no such container", told(acted)));
        };
        if acted.decision.is_none() {
            // One that nobody hooked runs without policy until the node has heard of it and has a slot; that it gets one is
            // [`super::settling`]'s.
            return if container.admitted {
                Err(format!("{}: no policy was ever in force", told(acted)))
            } else {
                Ok(())
            };
        }
        if self.history.sets.is_empty() {
            return Err(format!("{}: the node has read no policy", told(acted)));
        }
        container.hear(&self.history, acted, self.settled)?;
        if let Some(key) = acted.record {
            self.by.insert(key, container.policies(&self.history, acted));
        }
        Ok(())
    }

    /// What a line calls the policy must be one by which it was decided. Whose is no longer known may go without name.
    fn lines(&mut self, said: &[Said]) -> Result<(), String> {
        for line in said {
            let by = line.record.and_then(|key| self.by.remove(&key));
            if let (Some(policy), Some(by)) = (&line.policy, by)
                && !by.contains(policy)
            {
                return Err(format!("an alert of {} names policy {policy}; it was decided by {by:?}", line.container));
            }
        }
        Ok(())
    }
}

impl Checker for Judged {
    fn name(&self) -> &'static str {
        "judged"
    }

    fn hear(&mut self, _: Duration, node: usize, event: &Event) -> Result<(), String> {
        let Some(of) = self.nodes.get_mut(node) else { return Ok(()) };
        match event {
            Event::ContainerCreated { id, workload, .. } => {
                // It cannot be judged by what had been replaced before it was there; which of the sets of now it is first judged by
                // depends on how far the node has come, so that all of them may.
                let container = Container {
                    workloads: vec![Arc::clone(workload)],
                    places: [(0, 0, 0)].into(),
                    rules: BTreeMap::new(),
                    admitted: false,
                };
                of.containers.insert(id.clone(), container);
            }
            Event::ContainerRelabelled { id, workload } => {
                if let Some(container) = of.containers.get_mut(id) {
                    container.workloads.push(Arc::clone(workload));
                }
            }
            Event::Admission { id, answer: Ok(()), .. } => {
                if let Some(container) = of.containers.get_mut(id) {
                    container.admitted = true;
                }
            }
            Event::ContainerOver(id) => {
                of.containers.remove(id);
            }
            Event::PowerLost => {
                of.containers.clear();
                of.keeper = Keeper::default();
            }
            Event::ProcessDown { .. } => of.keeper = Keeper::default(),
            Event::PoliciesRecalled(files) => of.keeper.recalled(files),
            Event::PoliciesRead(reading) => {
                let set = of.keeper.read(reading);
                if of.history.sets.last() != Some(&set) {
                    of.history.sets.push(set);
                }
            }
            Event::Configured(configured) if of.history.postures.last() != Some(&configured.postures) => {
                of.history.postures.push(configured.postures);
            }
            Event::Settled(there) => {
                let set = of.keeper.read(there);
                of.history.sets.push(set);
                of.settled = true;
            }
            Event::Acted(acted) => return of.acted(acted),
            Event::Lines { said, .. } => return of.lines(said),
            _ => {}
        }
        Ok(())
    }
}

//! Which states runs reach: so that a seed, or a whole campaign, that tests less than it seems is seen.
//!
//! A state is something that must meet something else: a hook that waits when the process is killed, a slot that is given again, an actor
//! that starts again. Invariant: each is known by events alone, so that it was reached in truth, whatever a generator meant to do.

use std::collections::{BTreeMap, BTreeSet};

use palisade_assembly::ENFORCERS;
use palisade_domain::{ContainerId, NodeName, Refusal, Slot};
use palisade_world::{LinkState, LossReason};

use crate::{
    event::{Acted, Event, FollowedLine, Look, RecordKey, host},
    faults::Fault,
};

/// All of them.
pub const STATES: [&str; 80] = [
    "fault: crash",
    "fault: power",
    "fault: disk",
    "fault: kernel",
    "fault: loss",
    "fault: runtime",
    "fault: clock",
    "fault: panics",
    "fault: stalls",
    "an actor stalls at a marked point",
    "the thread of alerts stalls",
    "the thread of compile stalls",
    "the thread of enforce stalls",
    "the thread of policies stalls",
    "the thread of probe stalls",
    "the thread of record stalls",
    "the thread of links stalls",
    "a thread waits for the disk",
    "lines wait for a full disk and are written",
    "lines that a sink took are lost",
    "a line is torn by the power's loss",
    "a trace around an alert is whole",
    "a trace is torn by the power's loss",
    "a trace finds no room",
    "fault: network",
    "fault: partition",
    "fault: certificates",
    "fault: expiry",
    "fault: authority",
    "a certificate ends while its node is linked",
    "certificates are read half written",
    "a node is left behind by its authority",
    "a link moves to another connection",
    "a node is linked",
    "a node is out after it was linked",
    "a node is refused",
    "a path is mended",
    "a follower hears an alert of another node",
    "a follower is told how many lines it missed",
    "a follower is told that lines may be missing",
    "a follower is told that no more come",
    "a hook is answered with yes",
    "a hook is answered with no",
    "a hook waits when the process ends",
    "a container starts while there is no process",
    "a container ends while there is no process",
    "a container runs that nobody hooked",
    "a container is told other labels",
    "a container starts again under its id",
    "an act is denied",
    "an act is audited",
    "an act is denied while there is no process",
    "an act of the host is denied",
    "an act of the host is audited",
    "a container that nobody hooked is judged as the host",
    "an act meets no policy",
    "a container is judged by a later generation than before",
    "a slot is given again",
    "a slot is given again after the process ended",
    "a record of a decision is lost",
    "observations are folded",
    "observations are suppressed",
    "a decision waits in the rings for the next process",
    "a decision vanishes with the power",
    "alerts are held back",
    "a sink takes lines after it refused some",
    "policies cannot be read",
    "a policy file is there and cannot be read",
    "last good versions are recalled",
    "settings change while containers run",
    "settings change while there is no process",
    "alerts go to another file",
    "the tree gives up",
    "alerts starts again",
    "probe starts again",
    "roster starts again",
    "workloads starts again",
    "policy-keeper starts again",
    "policy-compiler starts again",
    "an enforcer starts again",
];

#[derive(Debug, Default)]
struct OfNode {
    up: bool,
    /// Containers in their hooks.
    waiting: BTreeSet<ContainerId>,
    created: BTreeSet<ContainerId>,
    generations: BTreeMap<ContainerId, u32>,
    /// Slots that were released, and whether the process ended since.
    released: BTreeMap<Slot, bool>,
    unread: BTreeSet<RecordKey>,
    refused_lines: bool,
    running: BTreeSet<ContainerId>,
    sink: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Coverage {
    reached: BTreeSet<&'static str>,
    nodes: BTreeMap<usize, OfNode>,
    /// Threads were made to stall for its own sake.
    stalls: bool,
    /// Which of whose links stand, and over how many connections they went when that was last said.
    links: BTreeMap<(usize, NodeName), u64>,
    /// Which node said which line.
    lines: BTreeMap<u64, usize>,
}

impl Coverage {
    /// The states that were reached.
    #[must_use]
    pub fn reached(&self) -> &BTreeSet<&'static str> {
        &self.reached
    }

    /// Whether any fault did what it is for.
    #[must_use]
    pub fn any_fault_took_effect(&self) -> bool {
        self.reached.iter().any(|state| state.starts_with("fault: "))
    }

    fn reach(&mut self, state: &'static str) {
        debug_assert!(STATES.contains(&state), "{state} is none of the states");
        self.reached.insert(state);
    }

    fn fault(&mut self, fault: Fault) {
        let name = STATES.into_iter().find(|state| state.strip_prefix("fault: ") == Some(fault.name()));
        self.reached.extend(name);
    }

    /// An event of a run.
    pub fn hear(&mut self, node: usize, event: &Event) {
        self.effect(event);
        self.link(node, event);
        let of = self.nodes.entry(node).or_default();
        let reached: Option<&'static str> = match event {
            Event::ProcessUp => {
                of.up = true;
                None
            }
            Event::ProcessDown { gave_up, .. } => {
                of.up = false;
                of.released.values_mut().for_each(|ended| *ended = true);
                let waits = (!of.waiting.is_empty()).then_some("a hook waits when the process ends");
                let decided = (!of.unread.is_empty()).then_some("a decision waits in the rings for the next process");
                self.reached.extend(waits.into_iter().chain(decided));
                gave_up.then_some("the tree gives up")
            }
            Event::ContainerCreated { id, hooked, .. } => {
                if *hooked {
                    of.waiting.insert(id.clone());
                }
                let again = (!of.created.insert(id.clone())).then_some("a container starts again under its id");
                let alone = (!of.up).then_some("a container starts while there is no process");
                let unhooked = (!hooked).then_some("a container runs that nobody hooked");
                self.reached.extend(again.into_iter().chain(alone));
                unhooked
            }
            Event::Admission { id, answer, .. } => {
                of.waiting.remove(id);
                Some(if answer.is_ok() { "a hook is answered with yes" } else { "a hook is answered with no" })
            }
            Event::ContainerRuns(id) => {
                of.running.insert(id.clone());
                None
            }
            Event::Configured(configured) => {
                let other = of.sink != configured.sink;
                of.sink = configured.sink;
                self.reached.extend(other.then_some("alerts go to another file"));
                let running = !of.running.is_empty();
                match of.up {
                    true => running.then_some("settings change while containers run"),
                    false => Some("settings change while there is no process"),
                }
            }
            Event::ContainerRelabelled { .. } => Some("a container is told other labels"),
            Event::ContainerOver(id) => {
                of.waiting.remove(id);
                of.running.remove(id);
                of.generations.remove(id);
                (!of.up).then_some("a container ends while there is no process")
            }
            Event::Released(slot) => {
                of.released.insert(*slot, false);
                None
            }
            Event::Admitted { slot, cgroups } if !cgroups.is_empty() => match of.released.remove(slot) {
                Some(true) => Some("a slot is given again after the process ended"),
                Some(false) => Some("a slot is given again"),
                None => None,
            },
            Event::RecordsRead { decided, .. } => {
                decided.iter().for_each(|key| {
                    of.unread.remove(key);
                });
                None
            }
            Event::RingsGone { decided } => {
                of.unread.clear();
                (!decided.is_empty()).then_some("a decision vanishes with the power")
            }
            Event::PowerLost => {
                of.waiting.clear();
                of.running.clear();
                of.released.clear();
                None
            }
            Event::PoliciesRecalled(files) => (!files.is_empty()).then_some("last good versions are recalled"),
            Event::PoliciesRead(reading) => {
                (!reading.unreadable.is_empty()).then_some("a policy file is there and cannot be read")
            }
            Event::Lines { said, taken, .. } => {
                let held = said.iter().any(|said| said.held_back > 0).then_some("alerts are held back");
                self.reached.extend(held);
                let after = *taken && std::mem::replace(&mut of.refused_lines, !taken);
                of.refused_lines |= !taken;
                after.then_some("a sink takes lines after it refused some")
            }
            Event::Acted(acted) => of.acted(acted),
            _ => None,
        };
        if let Some(state) = reached {
            self.reach(state);
        }
        match event {
            Event::Looked(look) => self.looked(look),
            Event::Acted(acted) if acted.slot == Some(Slot::HOST) && acted.record.is_some() => {
                self.reach(match (acted.container == host(), acted.permitted) {
                    (false, _) => "a container that nobody hooked is judged as the host",
                    (true, false) => "an act of the host is denied",
                    (true, true) => "an act of the host is audited",
                });
            }
            Event::Acted(acted) if acted.decision.is_some_and(|decision| decision.rule.is_some()) => {
                self.reach(if acted.permitted { "an act is audited" } else { "an act is denied" });
            }
            _ => {}
        }
    }

    /// What becomes of links that stand.
    fn link(&mut self, node: usize, event: &Event) {
        match event {
            Event::LinksUp => self.links.retain(|(of, _), _| *of != node),
            Event::LinkChanged { peer, state } if !state.is_linked() => {
                let stood = self.links.remove(&(node, peer.clone())).is_some();
                if stood && matches!(state, LinkState::Refused { why: Refusal::Expired, .. }) {
                    self.reach("a certificate ends while its node is linked");
                }
            }
            Event::Followed { line: FollowedLine::Mark { lost, gap, ended, .. }, .. } => {
                self.reached.extend((*lost > 0).then_some("a follower is told how many lines it missed"));
                let gap = gap.then_some("a follower is told that lines may be missing");
                self.reached.extend(gap.into_iter().chain(ended.then_some("a follower is told that no more come")));
            }
            Event::Lines { digests, .. } => self.lines.extend(digests.iter().map(|line| (*line, node))),
            Event::Followed { line: FollowedLine::Alert(line), .. }
                if self.lines.get(line).is_some_and(|of| *of != node) =>
            {
                self.reach("a follower hears an alert of another node");
            }
            Event::Saw(nodes) => {
                for peer in nodes.nodes.iter().map(|seen| &seen.peer).filter(|peer| peer.state.is_linked()) {
                    let before = self.links.insert((node, peer.name.clone()), peer.counts.linked);
                    if before.is_some_and(|before| before < peer.counts.linked) {
                        self.reach("a link moves to another connection");
                    }
                }
            }
            _ => {}
        }
    }

    /// A fault counts once it has done something.
    fn effect(&mut self, event: &Event) {
        match event {
            Event::Fault(what) => {
                // Threads stall before other faults, too.
                self.stalls |= what.starts_with(Fault::Stalls.name());
                // These do their work by themselves.
                let mut at_once = vec![Fault::Runtime, Fault::Clock];
                if self.reached.contains("a node is linked") {
                    at_once.push(Fault::Network);
                }
                let named = |fault: &Fault| what.starts_with(fault.name());
                at_once.into_iter().filter(named).for_each(|fault| self.fault(fault));
            }
            Event::ProcessDown { gave_up: false, why } if why.starts_with("injected") => self.fault(Fault::Crash),
            Event::PowerLost => self.fault(Fault::Power),
            Event::PathCut { .. } => self.fault(Fault::Partition),
            Event::PathMended { .. } => self.reach("a path is mended"),
            Event::CertificateRenewed | Event::CertificateRevoked => self.fault(Fault::Certificates),
            Event::LinkChanged { state, .. } => match state {
                LinkState::Linked { .. } => self.reach("a node is linked"),
                LinkState::Refused { why, .. } => {
                    self.reach("a node is refused");
                    if *why == Refusal::Expired {
                        self.fault(Fault::Expiry);
                    }
                }
                _ if self.reached.contains("a node is linked") => self.reach("a node is out after it was linked"),
                _ => {}
            },
            Event::PoliciesUnreadable => {
                self.reach("policies cannot be read");
                self.fault(Fault::Disk);
            }
            Event::Lines { taken: false, .. } => self.fault(Fault::Disk),
            Event::KernelRefused(..) => self.fault(Fault::Kernel),
            Event::RecordLost { record, reason } => match reason {
                LossReason::Folded => self.reach("observations are folded"),
                LossReason::Suppressed => self.reach("observations are suppressed"),
                _ => {
                    self.fault(Fault::Loss);
                    if record.is_some() {
                        self.reach("a record of a decision is lost");
                    }
                }
            },
            Event::PanicInjected(_) => self.fault(Fault::Panics),
            Event::DiskSlow => {
                self.reach("a thread waits for the disk");
                self.fault(Fault::Disk);
            }
            Event::TraceWhole(_) => self.reach("a trace around an alert is whole"),
            Event::TraceTorn { found, written } if found != written => {
                self.reach("a trace is torn by the power's loss");
            }
            Event::TraceRefused => {
                self.reach("a trace finds no room");
                self.fault(Fault::Disk);
            }
            Event::LinesLost(_) => {
                self.reach("lines that a sink took are lost");
                self.fault(Fault::Disk);
            }
            Event::LinesWritten { waited: true, .. } => {
                self.reach("lines wait for a full disk and are written");
                self.fault(Fault::Disk);
            }
            Event::LinesFound { torn: true, .. } => self.reach("a line is torn by the power's loss"),
            Event::PapersTorn => self.reach("certificates are read half written"),
            Event::AuthorityExchanged(_) => self.fault(Fault::Authority),
            Event::CertificateUnbelieved => self.reach("a node is left behind by its authority"),
            Event::StallInjected(_) => self.reach("an actor stalls at a marked point"),
            Event::ThreadStalled(thread) => {
                if self.stalls {
                    self.fault(Fault::Stalls);
                }
                let is = |state: &&str| {
                    state.strip_prefix("the thread of ").and_then(|of| of.strip_suffix(" stalls")) == Some(thread)
                };
                let state = STATES.into_iter().find(is);
                debug_assert!(state.is_some(), "no state is named for the thread of {thread}");
                self.reached.extend(state);
            }
            _ => {}
        }
    }

    fn looked(&mut self, look: &Look) {
        look.tree.walk(&mut |_, node| {
            if node.name == ENFORCERS && node.children.iter().any(|enforcer| enforcer.restarts > 0) {
                self.reached.insert("an enforcer starts again");
            }
            let again = |state: &&str| state.strip_suffix(" starts again") == Some(node.name.as_str());
            self.reached.extend(STATES.into_iter().filter(again).filter(|_| node.restarts > 0));
        });
    }
}

impl OfNode {
    fn acted(&mut self, acted: &Acted) -> Option<&'static str> {
        self.unread.extend(acted.record);
        if acted.decision.is_none() {
            return Some("an act meets no policy");
        }
        let before = self.generations.insert(acted.container.clone(), acted.generation);
        if !acted.permitted && !self.up {
            return Some("an act is denied while there is no process");
        }
        before
            .is_some_and(|before| before < acted.generation)
            .then_some("a container is judged by a later generation than before")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use palisade_domain::Slot;

    use super::{Coverage, STATES};
    use crate::{event::Event, faults::Fault};

    #[test]
    fn unit_coverage_names_each_state_once_and_each_fault_that_passes() {
        assert_eq!(STATES.into_iter().collect::<BTreeSet<_>>().len(), STATES.len());
        for fault in Fault::ALL.into_iter().filter(|fault| *fault != Fault::Order) {
            let mut coverage = Coverage::default();
            coverage.fault(fault);
            assert!(coverage.any_fault_took_effect(), "{fault:?}");
        }
    }

    #[test]
    fn unit_coverage_tells_a_fault_that_was_injected_from_one_that_did_something() {
        let mut coverage = Coverage::default();
        coverage.hear(0, &Event::Fault("kernel for 50 ms".to_owned()));
        assert!(!coverage.any_fault_took_effect());
        coverage.hear(0, &Event::KernelRefused(Slot(1), "install"));
        assert!(coverage.any_fault_took_effect());
    }

    #[test]
    fn unit_coverage_tells_a_slot_given_again_by_one_process_from_one_after_it_ended() {
        let cgroups = vec![palisade_domain::CgroupId(1)];
        let given = |ends| {
            let mut coverage = Coverage::default();
            coverage.hear(0, &Event::Released(Slot(1)));
            if ends {
                coverage.hear(0, &Event::ProcessDown { why: "injected".to_owned(), gave_up: false });
            }
            // Of another node: its slots are its own.
            coverage.hear(1, &Event::Admitted { slot: Slot(1), cgroups: cgroups.clone() });
            assert!(!coverage.reached().iter().any(|state| state.starts_with("a slot")));
            coverage.hear(0, &Event::Admitted { slot: Slot(1), cgroups: cgroups.clone() });
            coverage.reached().clone()
        };
        assert!(given(false).contains("a slot is given again"));
        assert!(given(true).contains("a slot is given again after the process ended"));
    }
}

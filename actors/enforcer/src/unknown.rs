//! What those are held to whom nobody has admitted: the posture that their user chose, for every family.
//!
//! Decision: rules of the same language, so that blobs, alerts and status are those of any workload. An allow-list that allows nothing is one
//! Allow rule a family about something that does not exist: no path ends in `/.` as the kernel names it, no socket is of family 255,
//! nobody connects to port 0, no capability is the 63rd, and a label of a DNS name has at most 63 letters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use palisade_domain::{Action, OnUnknownWorkload, PolicyKind, PolicyRef, Posture, Workload, WorkloadKind};
use palisade_policy::{
    PolicySet,
    ir::{
        CapabilityMatch, DestinationMatch, DnsMatch, Matcher, PathMatch, PathRule, Postures, Rule, SocketMatch,
        SocketShape, Transport, WorkloadRules,
    },
};

/// What alerts call them.
pub const NAME: &str = "unknown";

/// As alerts name it; no policy selects it.
#[must_use]
pub fn workload() -> Workload {
    Workload {
        kind: WorkloadKind::Container,
        name: NAME.to_owned(),
        namespace: String::new(),
        container: String::new(),
        container_id: None,
        image: String::new(),
        labels: BTreeMap::new(),
    }
}

/// The rules, whatever the set says: as an enforcer selects them.
pub(crate) fn select(on: OnUnknownWorkload) -> fn(&PolicySet, &Workload, Postures) -> Arc<WorkloadRules> {
    match on {
        OnUnknownWorkload::Allow => |_, _, _| Arc::default(),
        OnUnknownWorkload::Audit => |_, _, _| rules(Posture::Audit),
        OnUnknownWorkload::Block => |_, _, _| rules(Posture::Block),
    }
}

/// An allow-list that allows nothing, in every family that has a posture.
#[must_use]
pub fn rules(posture: Posture) -> Arc<WorkloadRules> {
    let policy = Arc::new(PolicyRef {
        kind: PolicyKind::PalisadePolicy,
        namespace: String::new(),
        name: "onUnknownWorkload".to_owned(),
    });
    let nothing = || PathMatch::Exact("/.".to_owned());
    let shape = SocketShape { domain: Some(255), kind: None, protocol: None };
    let matchers = [
        Matcher::Process(PathRule::of(nothing())),
        Matcher::File(PathRule::of(nothing())),
        Matcher::Socket(SocketMatch { name: "none".to_owned(), any_of: vec![shape], pts: None }),
        Matcher::Destination(DestinationMatch { cidr: None, ports: Some((0, 0)), protocol: Some(Transport::Tcp) }),
        Matcher::Ptrace(nothing()),
        Matcher::Capability(CapabilityMatch { name: "none".to_owned(), number: 63 }),
        Matcher::Dns(DnsMatch { domain: "x".repeat(64) }),
    ];
    let rule = |matcher| {
        Arc::new(Rule {
            policy: Arc::clone(&policy),
            place: "onUnknownWorkload".to_owned(),
            matcher,
            sources: BTreeSet::new(),
            source_directories: BTreeSet::new(),
            action: Action::Allow,
            severity: None,
            tags: Vec::new(),
            message: None,
        })
    };
    let postures = Postures { file: posture, network: posture, capabilities: posture, ..Postures::default() };
    Arc::new(WorkloadRules { rules: matchers.map(rule).into(), unheld: Vec::new(), postures })
}

#[cfg(test)]
mod tests {
    use palisade_domain::Family;

    use super::*;

    #[test]
    fn unit_the_unknown_have_an_allow_list_in_every_family_that_has_a_posture() {
        // Devices apart, which are no container's.
        let families = |on| {
            let rules = select(on)(&PolicySet::default(), &workload(), Postures::default());
            let of = |family| rules.rules.iter().any(|rule| rule.matcher.family() == family);
            let all = [
                Family::Process,
                Family::File,
                Family::Network,
                Family::Dns,
                Family::Ptrace,
                Family::Capabilities,
                Family::Syscalls,
                Family::Presets,
            ];
            let with_posture = all.into_iter().filter(|family| rules.postures.of(*family).is_some());
            let (listed, open): (Vec<Family>, Vec<Family>) = with_posture.partition(|family| of(*family));
            (listed.len(), open.len(), rules.postures.of(Family::File))
        };
        assert_eq!(families(OnUnknownWorkload::Audit), (6, 0, Some(Posture::Audit)));
        assert_eq!(families(OnUnknownWorkload::Block), (6, 0, Some(Posture::Block)));
        assert_eq!(families(OnUnknownWorkload::Allow).0, 0);
    }
}

//! What of a family a container's profile holds beside the other means, and what it does not.

use std::collections::{BTreeMap, BTreeSet};

use palisade_apparmor::Weakened;
use palisade_domain::{Family, Tier};
use palisade_kernel_abi::blob;
use palisade_world::{Capability, CapabilityState, Gap, HeldFamily};

use super::Binding;
use crate::{
    fanotify,
    matrix::{capabilities_seen, gap},
};

/// How a family is held of a container, by whether it has a profile and runs under it. A profile goes beside fanotify: what
/// that has no events for, it has. Uses of capabilities by whom no profile binds are seen where the kernel tells of them.
#[must_use]
pub(crate) fn with_profile(
    family: Family,
    held: HeldFamily,
    binding: Option<&Binding>,
    capabilities: &BTreeMap<Capability, CapabilityState>,
) -> HeldFamily {
    let awaited = Binding::Bound(BTreeSet::new());
    let binding = if binding == Some(&Binding::Awaited) { Some(&awaited) } else { binding };
    let undenied = |reason: &str| {
        let HeldFamily { tier, gaps } = capabilities_seen(capabilities);
        let reason = |gap: &Gap| format!("only AppArmor could deny them: {reason}; {}", gap.reason);
        HeldFamily { tier, gaps: gaps.iter().map(|unheld| gap(&unheld.what, &reason(unheld))).collect() }
    };
    match (family, binding) {
        (Family::Capabilities, Some(Binding::Unbound(reason))) if held.tier == Tier::AppArmor => undenied(reason),
        (Family::Capabilities, None) if held.tier == Tier::AppArmor => undenied("it has no profile"),
        (Family::Capabilities, Some(Binding::Bound(weakened))) if held.tier == Tier::AppArmor => {
            let by_source = weakened.contains(&Weakened::Source(blob::Family::Capability));
            let reason = "a profile holds whoever acts: what only some executables may use is permitted to all";
            let gaps = held.gaps.into_iter().chain(by_source.then(|| gap("fromSource", reason))).collect();
            HeldFamily { tier: held.tier, gaps }
        }
        (Family::File, Some(Binding::Bound(weakened))) if held.tier == Tier::Fanotify => {
            let by_all = !weakened.iter().any(|weak| {
                matches!(
                    weak,
                    // Those of a change that is only audited nobody tells.
                    Weakened::Source(blob::Family::File)
                        | Weakened::Terminal(blob::Family::File)
                        | Weakened::Audit(blob::Family::File)
                )
            });
            let is_held = |gap: &Gap| by_all && fanotify::HELD_BY_A_PROFILE.contains(&gap.what.as_str());
            let above = by_all
                .then(|| gap("directories above a named file", "a profile judges the renaming of one by its own name"));
            HeldFamily {
                tier: held.tier,
                gaps: held.gaps.into_iter().filter(|gap| !is_held(gap)).chain(above).collect(),
            }
        }
        _ => held,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::families;

    #[test]
    fn unit_a_profile_holds_what_fanotify_cannot_only_where_the_container_runs_under_it() {
        let tried = [Capability::FanotifyPermission, Capability::AppArmor];
        let available = |tried: &[Capability]| -> BTreeMap<Capability, CapabilityState> {
            tried.iter().map(|capability| (*capability, CapabilityState::Available)).collect()
        };
        let families = families(&available(&tried));
        assert_eq!(families[&Family::Capabilities].tier, Tier::AppArmor);
        let of = |family: Family, binding: &Binding| {
            let held = with_profile(family, families[&family].clone(), Some(binding), &available(&tried));
            (held.tier, held.gaps.into_iter().map(|gap| gap.what).collect::<Vec<_>>())
        };
        let unbound = Binding::Unbound("it runs under `unconfined`".to_owned());
        assert_eq!(of(Family::Capabilities, &unbound), (Tier::Audit, vec!["capabilities".to_owned()]));
        let none =
            with_profile(Family::Capabilities, families[&Family::Capabilities].clone(), None, &available(&tried));
        assert_eq!((none.tier, none.gaps[0].what.as_str()), (Tier::Audit, "capabilities"), "it has no profile at all");
        let told = available(&[Capability::CapabilityUse, Capability::BtfTracepoints]);
        for binding in [None, Some(&unbound)] {
            let seen = with_profile(Family::Capabilities, families[&Family::Capabilities].clone(), binding, &told);
            assert_eq!((seen.tier, seen.gaps[0].what.as_str()), (Tier::Audit, "denial"), "their use is observed");
        }
        assert!(of(Family::File, &unbound).1.contains(&"readOnly".to_owned()));
        let bound = Binding::Bound(BTreeSet::new());
        assert_eq!(of(Family::Capabilities, &bound).0, Tier::AppArmor);
        assert_eq!(of(Family::File, &Binding::Awaited), of(Family::File, &bound));
        let (tier, gaps) = of(Family::File, &bound);
        assert_eq!(tier, Tier::Fanotify);
        assert!(gaps.contains(&"directories above a named file".to_owned()), "{gaps:?}");
        assert_eq!(gaps.len() + fanotify::HELD_BY_A_PROFILE.len(), families[&Family::File].gaps.len() + 1, "{gaps:?}");
        let weaker = Binding::Bound(BTreeSet::from([
            Weakened::Source(blob::Family::File),
            Weakened::Source(blob::Family::Capability),
        ]));
        assert!(of(Family::File, &weaker).1.contains(&"readOnly".to_owned()), "for some executables only");
        let audited = Binding::Bound(BTreeSet::from([Weakened::Audit(blob::Family::File)]));
        assert_eq!(of(Family::File, &audited).1, of(Family::File, &unbound).1, "nobody tells of changes");
        let executions = Binding::Bound(BTreeSet::from([Weakened::Audit(blob::Family::Process)]));
        assert_eq!(of(Family::File, &executions), of(Family::File, &bound), "they are another family's");
        assert!(of(Family::Capabilities, &weaker).1.contains(&"fromSource".to_owned()));
    }
}

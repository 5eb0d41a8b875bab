//! What of a family a container's profile holds beside the other means, and what it does not.

use std::collections::BTreeSet;

use palisade_apparmor::Weakened;
use palisade_domain::{Family, Tier};
use palisade_kernel_abi::blob;
use palisade_world::{Gap, HeldFamily};

use super::Binding;
use crate::{
    fanotify,
    matrix::{gap, unseen},
};

/// How a family is held of a container that has a profile, by whether it runs under it. A profile goes beside fanotify: what
/// that has no events for, it has.
#[must_use]
pub(crate) fn with_profile(family: Family, held: HeldFamily, binding: Option<&Binding>) -> HeldFamily {
    let awaited = Binding::Bound(BTreeSet::new());
    let binding = if binding == Some(&Binding::Awaited) { Some(&awaited) } else { binding };
    match (family, binding) {
        (Family::Capabilities, Some(Binding::Unbound(reason))) if held.tier == Tier::AppArmor => {
            unseen("capabilities", &format!("only AppArmor could deny them: {reason}"))
        }
        (Family::Capabilities, Some(Binding::Bound(weakened))) if held.tier == Tier::AppArmor => {
            let by_source = weakened.contains(&Weakened::Source(blob::Family::Capability));
            let reason = "a profile holds whoever acts: what only some executables may use is permitted to all";
            let gaps = held.gaps.into_iter().chain(by_source.then(|| gap("fromSource", reason))).collect();
            HeldFamily { tier: held.tier, gaps }
        }
        (Family::File, Some(Binding::Bound(weakened))) if held.tier == Tier::Fanotify => {
            let by_all = !weakened.iter().any(|weak| {
                matches!(weak, Weakened::Source(blob::Family::File) | Weakened::Terminal(blob::Family::File))
            });
            let is_held = |gap: &Gap| by_all && fanotify::HELD_BY_A_PROFILE.contains(&gap.what.as_str());
            HeldFamily { tier: held.tier, gaps: held.gaps.into_iter().filter(|gap| !is_held(gap)).collect() }
        }
        _ => held,
    }
}

#[cfg(test)]
mod tests {
    use palisade_world::{Capability, CapabilityState};

    use super::*;
    use crate::matrix::families;

    #[test]
    fn unit_a_profile_holds_what_fanotify_cannot_only_where_the_container_runs_under_it() {
        let tried = [Capability::FanotifyPermission, Capability::AppArmor];
        let families = families(&tried.map(|capability| (capability, CapabilityState::Available)).into());
        assert_eq!(families[&Family::Capabilities].tier, Tier::AppArmor);
        let of = |family: Family, binding: &Binding| {
            let held = with_profile(family, families[&family].clone(), Some(binding));
            (held.tier, held.gaps.into_iter().map(|gap| gap.what).collect::<Vec<_>>())
        };
        let unbound = Binding::Unbound("it runs under `unconfined`".to_owned());
        assert_eq!(of(Family::Capabilities, &unbound), (Tier::Audit, vec!["capabilities".to_owned()]));
        assert!(of(Family::File, &unbound).1.contains(&"readOnly".to_owned()));
        let bound = Binding::Bound(BTreeSet::new());
        assert_eq!(of(Family::Capabilities, &bound).0, Tier::AppArmor);
        assert_eq!(of(Family::File, &Binding::Awaited), of(Family::File, &bound));
        let (tier, gaps) = of(Family::File, &bound);
        assert_eq!(tier, Tier::Fanotify);
        assert_eq!(gaps.len() + fanotify::HELD_BY_A_PROFILE.len(), families[&Family::File].gaps.len(), "{gaps:?}");
        let weaker = Binding::Bound(BTreeSet::from([
            Weakened::Source(blob::Family::File),
            Weakened::Source(blob::Family::Capability),
        ]));
        assert!(of(Family::File, &weaker).1.contains(&"readOnly".to_owned()), "for some executables only");
        assert!(of(Family::Capabilities, &weaker).1.contains(&"fromSource".to_owned()));
    }
}

//! What of a family the rules of a container's user hold beside the other means, and what they do not.

use std::collections::BTreeMap;

use palisade_domain::{Family, Tier};
use palisade_kernel_abi::blob::{self, Preset};
use palisade_selinux::{Lowered, Unsaid};
use palisade_world::{Capability, CapabilityState, Gap, HeldFamily};

use super::Binding;
use crate::matrix::{ANONYMOUS_CODE, UNLABELLED, beside_selinux, gap};

/// How a family is held of a container, by whether its user's rules hold it. They go beside what kills, for memory that becomes
/// executable is nothing that it sees.
#[must_use]
pub(crate) fn with_user(
    family: Family,
    held: HeldFamily,
    binding: Option<&Binding>,
    capabilities: &BTreeMap<Capability, CapabilityState>,
) -> HeldFamily {
    match (held.tier, binding) {
        (Tier::SeLinux, Some(Binding::Bound(lowered))) => with_unsaid(family, held, lowered),
        (Tier::SeLinux, Some(Binding::Unbound(reason))) => unheld(family, capabilities, reason),
        (Tier::SeLinux, None) => unheld(family, capabilities, "nobody told of its processes"),
        (Tier::Kill, Some(Binding::Bound(lowered)))
            if family == Family::Presets && lowered.denies("process", "execmem") =>
        {
            // Of the other presets nothing is said here: who kills for them asks for the executable, too.
            let of_memory = lowered.unsaid().iter().filter(|unsaid| is_about_memory(unsaid));
            let of_memory = of_memory.map(|unsaid| gap(&unsaid.what(), unsaid.reason()));
            let others = held.gaps.into_iter().filter(|gap| gap.what != ANONYMOUS_CODE);
            HeldFamily { tier: held.tier, gaps: others.chain(of_memory).collect() }
        }
        _ => held,
    }
}

/// Whether the user's rules deny every capability that the policy blocks, so that what sees only the asking need tell of none. Where something is
/// left unsaid, what is denied is told of twice: a block that nobody tells of would be worse.
#[must_use]
pub(crate) fn denies_all_capabilities(binding: Option<&Binding>) -> bool {
    let Some(Binding::Bound(lowered)) = binding else { return false };
    lowered.unsaid().iter().all(|unsaid| family_of(unsaid) != Some(Family::Capabilities))
}

fn is_about_memory(unsaid: &Unsaid) -> bool {
    matches!(unsaid, Unsaid::SharedMemory | Unsaid::Permission("process", "execmem" | "execstack" | "execheap"))
        || matches!(unsaid, Unsaid::Permission("file", "execmod"))
}

/// By whatever would hold it without SELinux.
fn unheld(family: Family, capabilities: &BTreeMap<Capability, CapabilityState>, reason: &str) -> HeldFamily {
    let HeldFamily { tier, gaps } = beside_selinux(family, capabilities);
    let said = |unheld: Gap| gap(&unheld.what, &format!("only SELinux could deny it: {reason}; {}", unheld.reason));
    HeldFamily { tier, gaps: gaps.into_iter().map(said).collect() }
}

fn with_unsaid(family: Family, mut held: HeldFamily, lowered: &Lowered) -> HeldFamily {
    let of_family = lowered.unsaid().iter().filter(|unsaid| family_of(unsaid) == Some(family));
    held.gaps.retain(|gap| gap.what != UNLABELLED);
    held.gaps.extend(of_family.map(|unsaid| gap(&unsaid.what(), unsaid.reason())));
    held
}

/// Which family's rules it is about; `None`: one that SELinux does not hold, whatever else does. Other presets than the one that SELinux has
/// permissions for are among what the tier says of itself.
fn family_of(unsaid: &Unsaid) -> Option<Family> {
    let named = |family| match family {
        blob::Family::Capability => Some(Family::Capabilities),
        blob::Family::Ptrace => Some(Family::Ptrace),
        blob::Family::Preset => Some(Family::Presets),
        blob::Family::Socket => Some(Family::Network),
        _ => None,
    };
    match unsaid {
        Unsaid::Source(family) | Unsaid::Terminal(family) => named(*family),
        Unsaid::Targets => Some(Family::Ptrace),
        Unsaid::SharedMemory | Unsaid::Preset(Preset::AnonMapExec) => Some(Family::Presets),
        Unsaid::Sockets(_) => Some(Family::Network),
        Unsaid::Permission(class, _) if class.contains("cap") => Some(Family::Capabilities),
        Unsaid::Permission(_, "ptrace") => Some(Family::Ptrace),
        Unsaid::Permission(_, "create") => Some(Family::Network),
        Unsaid::Permission(..) => Some(Family::Presets),
        Unsaid::Paths(_) | Unsaid::Destinations | Unsaid::Names | Unsaid::Syscalls | Unsaid::Preset(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use palisade_selinux::Classes;

    use super::{super::numbers::tests::blob_of, *};
    use crate::matrix::families;

    type Capabilities = BTreeMap<Capability, CapabilityState>;

    fn available(tried: &[Capability]) -> Capabilities {
        tried.iter().map(|capability| (*capability, CapabilityState::Available)).collect()
    }

    fn held(family: Family, binding: Option<&Binding>, capabilities: &Capabilities) -> (Tier, Vec<String>) {
        let held = with_user(family, families(capabilities)[&family].clone(), binding, capabilities);
        (held.tier, held.gaps.into_iter().map(|gap| gap.what).collect())
    }

    fn bound(spec: &str) -> Binding {
        let all = [blob::Family::Capability, blob::Family::Ptrace, blob::Family::Preset, blob::Family::Socket];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let permissions = BTreeMap::from([
            ("capability".to_owned(), names(&["chown", "kill"])),
            ("cap_userns".to_owned(), names(&["chown", "kill"])),
            ("process".to_owned(), names(&["ptrace", "execmem", "execstack", "execheap"])),
            ("file".to_owned(), names(&["execmod"])),
        ]);
        let classes = Classes { permissions, extended_sockets: true };
        Binding::Bound(Arc::new(Lowered::of(&blob_of(spec), &all, &classes)))
    }

    const CHOWN: &str = "capabilities: {matchCapabilities: [{capability: chown, action: Block}]}";

    #[test]
    fn unit_selinux_holds_what_nothing_else_does_and_only_of_whom_its_user_is_ours() {
        let alone = available(&[Capability::SeLinux]);
        let unbound = Binding::Unbound("it runs as `x`".to_owned());
        for (family, word) in [
            (Family::Capabilities, "capabilities"),
            (Family::Ptrace, "ptrace"),
            (Family::Network, "network"),
            (Family::Presets, ANONYMOUS_CODE),
        ] {
            let (tier, gaps) = held(family, Some(&bound(CHOWN)), &alone);
            assert_eq!(tier, Tier::SeLinux, "{family:?}");
            assert!(!gaps.contains(&word.to_owned()), "{family:?}: {gaps:?}");
            for binding in [None, Some(&unbound)] {
                let (tier, gaps) = held(family, binding, &alone);
                assert!(tier == Tier::Audit && gaps.contains(&word.to_owned()), "{family:?}: {gaps:?}");
            }
        }
        let reasons = with_user(Family::Ptrace, families(&alone)[&Family::Ptrace].clone(), Some(&unbound), &alone);
        assert!(reasons.gaps[0].reason.contains("it runs as `x`"), "{reasons:?}");
        let stronger = available(&[Capability::SeLinux, Capability::BpfLsm, Capability::KernelBtf]);
        assert!(families(&stronger).values().all(|held| held.tier != Tier::SeLinux));
        let profiles = available(&[Capability::SeLinux, Capability::AppArmor]);
        assert!(families(&profiles).values().all(|held| held.tier != Tier::SeLinux), "one of the two");
        let kills = available(&[Capability::SeLinux, Capability::SendSignal, Capability::BtfTracepoints]);
        let tiers =
            [Family::Capabilities, Family::Ptrace, Family::Presets].map(|family| families(&kills)[&family].tier);
        assert_eq!(tiers, [Tier::SeLinux, Tier::Kill, Tier::Kill], "who is killed is told of once");
    }

    #[test]
    fn unit_selinux_says_what_of_a_policy_its_rules_leave_unsaid() {
        let alone = available(&[Capability::SeLinux]);
        let gaps = |family, spec: &str| held(family, Some(&bound(spec)), &alone).1;
        let by_source =
            "capabilities: {matchCapabilities: [{capability: chown, action: Block, fromSource: [{path: /bin/x}]}]}";
        assert!(gaps(Family::Capabilities, by_source).contains(&"fromSource".to_owned()));
        assert!(!gaps(Family::Capabilities, CHOWN).contains(&"fromSource".to_owned()));
        let unknown = "capabilities: {matchCapabilities: [{capability: bpf, action: Block}]}";
        assert!(gaps(Family::Capabilities, unknown).contains(&"capability2:bpf".to_owned()));
        assert!(!gaps(Family::Ptrace, unknown).contains(&"capability2:bpf".to_owned()), "another family's");
    }

    #[test]
    fn unit_selinux_denies_all_capabilities_only_where_nothing_of_them_is_unsaid() {
        let all = |spec: &str| denies_all_capabilities(Some(&bound(spec)));
        assert!(all(CHOWN), "each is denied, and told of by SELinux");
        assert!(all("presets: [{name: anonMapExec, action: Block}]"), "another family's");
        let also = |more: &str| CHOWN.replace("action: Block}", &format!("action: Block}}, {more}"));
        assert!(!all(&also("{capability: kill, action: Block, fromSource: [{path: /bin/x}]}")), "by source");
        assert!(!all(&also("{capability: bpf, action: Block}")), "the policy in force does not know it");
        assert!(!denies_all_capabilities(None) && !denies_all_capabilities(Some(&Binding::Unbound(String::new()))));
    }

    #[test]
    fn unit_selinux_holds_memory_that_becomes_executable_beside_who_kills() {
        let kills = available(&[Capability::SeLinux, Capability::SendSignal, Capability::BtfTracepoints]);
        let gaps = |spec: &str| held(Family::Presets, Some(&bound(spec)), &kills);
        let memory = "presets: [{name: anonMapExec, action: Block}]";
        let (tier, beside) = gaps(memory);
        assert!(tier == Tier::Kill && !beside.contains(&ANONYMOUS_CODE.to_owned()), "{beside:?}");
        assert!(beside.iter().any(|what| what.contains("memfd")), "what it leaves unsaid: {beside:?}");
        for spec in [memory.replace("Block", "Audit"), CHOWN.to_owned()] {
            assert!(gaps(&spec).1.contains(&ANONYMOUS_CODE.to_owned()), "nobody tells of it: {spec}");
        }
    }
}

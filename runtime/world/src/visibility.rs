//! Which kinds of records each class of visibility stands for: the one place that says it.
//!
//! Exec, fork and exit are wanted of every workload, whatever is visible: without them alerts could not name the chain of
//! processes. Decisions and what was folded come unasked.

use palisade_domain::{Visibility, VisibilityClass};
use palisade_kernel_abi::record::{Kind, kind_bit};

/// What chains of processes are made of.
const ALWAYS: &[Kind] = &[Kind::Exec, Kind::Fork, Kind::Exit];

/// The bits of a class's kinds.
#[must_use]
pub fn bits_of_class(class: VisibilityClass) -> u64 {
    kinds_of_class(class).iter().fold(0, |bits, kind| bits | kind_bit(*kind))
}

/// The kinds of a class.
#[must_use]
pub const fn kinds_of_class(class: VisibilityClass) -> &'static [Kind] {
    match class {
        VisibilityClass::Process => {
            &[Kind::Exec, Kind::Fork, Kind::Exit, Kind::Ptrace, Kind::Signal, Kind::ProcessAccess]
        }
        VisibilityClass::File => &[Kind::Open, Kind::FileChange, Kind::Memfd],
        VisibilityClass::Network => &[Kind::Socket, Kind::Connect, Kind::Bind, Kind::Accept, Kind::Send],
        VisibilityClass::Capabilities => &[Kind::Capability],
        VisibilityClass::Dns => &[Kind::Dns],
        VisibilityClass::Credentials => &[Kind::Credentials],
        VisibilityClass::Kernel => &[Kind::Mount, Kind::Module, Kind::Bpf, Kind::Namespace, Kind::IoUring],
        VisibilityClass::Syscalls => &[Kind::Syscall],
    }
}

/// The class that a kind is of; `None`: what was folded.
#[must_use]
pub fn class_of_kind(kind: Kind) -> Option<VisibilityClass> {
    VisibilityClass::ALL.into_iter().find(|class| kinds_of_class(*class).contains(&kind))
}

/// The kinds of all classes of a set, as a slot holds them: bit n for kind n.
#[must_use]
pub fn kinds_of(visibility: Visibility) -> u64 {
    let of_classes = visibility.classes().flat_map(kinds_of_class);
    ALWAYS.iter().chain(of_classes).fold(0, |bits, kind| bits | kind_bit(*kind))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn unit_visibility_every_kind_is_of_one_class_and_what_is_folded_of_none() {
        let mut classes: BTreeMap<Kind, usize> = BTreeMap::new();
        for kind in VisibilityClass::ALL.into_iter().flat_map(kinds_of_class) {
            *classes.entry(*kind).or_default() += 1;
        }
        let expected = Kind::ALL.iter().filter(|kind| **kind != Kind::Folded).map(|kind| (*kind, 1)).collect();
        assert_eq!(classes, expected);
        assert_eq!(class_of_kind(Kind::Mount), Some(VisibilityClass::Kernel));
        assert_eq!(class_of_kind(Kind::Folded), None);
    }

    #[test]
    fn unit_visibility_of_nothing_still_has_what_chains_are_made_of() {
        let chains = kind_bit(Kind::Exec) | kind_bit(Kind::Fork) | kind_bit(Kind::Exit);
        assert_eq!(kinds_of(Visibility::NONE), chains);
        assert_eq!(kinds_of(Visibility::NONE.with(VisibilityClass::Dns)), chains | kind_bit(Kind::Dns));
    }
}

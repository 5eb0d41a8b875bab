//! What constraints deny of one workload, and what of its policy they do not say.

use std::collections::{BTreeMap, BTreeSet};

use palisade_domain::CAPABILITIES;
use palisade_kernel_abi::blob::{
    AcceptId, Automaton, Blob, Effect, Family, Mildest, Modifiers, PathAccepts, Preset, SourceId,
};

use crate::{
    Classes, SocketClass, Unsaid,
    classes::capability_classes,
    sockets::{self, OfClass},
};

/// Families of which constraints can say anything.
pub const FAMILIES: [Family; 4] = [Family::Socket, Family::Ptrace, Family::Capability, Family::Preset];

/// What executable memory that is no file's needs, and pages of a file that were written privately.
const MEMORY: [(&str, &str); 4] =
    [("process", "execmem"), ("process", "execstack"), ("process", "execheap"), ("file", "execmod")];

const TRACING: (&str, &str) = ("process", "ptrace");

/// The permissions that a workload is denied, and what is unsaid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lowered {
    denied: BTreeMap<&'static str, BTreeSet<&'static str>>,
    unsaid: BTreeSet<Unsaid>,
}

impl Lowered {
    /// What denies what the blob blocks whoever acts, in these families; of the others nothing is said or denied, for something else holds them.
    #[must_use]
    pub fn of(blob: &Blob, held: &[Family], classes: &Classes) -> Self {
        let mut lowering = Lowering { blob, classes, lowered: Self::default() };
        for family in held.iter().filter(|family| blob.head().families >> **family as u32 & 1 == 1) {
            match family {
                Family::Capability => lowering.capabilities(),
                Family::Socket => lowering.sockets(),
                Family::Ptrace => lowering.tracing(),
                Family::Preset => lowering.presets(),
                Family::Process | Family::File => lowering.unsaid_where_blocked(*family, Unsaid::Paths(*family)),
                Family::Connect => lowering.unsaid_where_blocked(*family, Unsaid::Destinations),
                Family::Dns => lowering.unsaid_where_blocked(*family, Unsaid::Names),
                Family::Syscall => lowering.unsaid_where_blocked(*family, Unsaid::Syscalls),
            }
        }
        lowering.lowered
    }

    /// Whether it denies anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.denied.is_empty()
    }

    /// Whether it denies the permission.
    #[must_use]
    pub fn denies(&self, class: &str, permission: &str) -> bool {
        self.denied.get(class).is_some_and(|permissions| permissions.contains(permission))
    }

    /// What it denies: class and permission.
    pub fn denied(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.denied.iter().flat_map(|(class, permissions)| permissions.iter().map(|permission| (*class, *permission)))
    }

    /// Whether constraints of the one are those of the other, whatever either leaves unsaid.
    #[must_use]
    pub fn denies_as(&self, other: &Self) -> bool {
        self.denied == other.denied
    }

    /// Adds one of those that a policy can be lowered to, by its names; whether it is one.
    pub(crate) fn restore(&mut self, class: &str, permission: &str) -> bool {
        let known = permissions().find(|known| *known == (class, permission));
        known.is_some_and(|(class, permission)| self.denied.entry(class).or_default().insert(permission))
    }

    /// What the blob blocks and this does not deny.
    #[must_use]
    pub fn unsaid(&self) -> &BTreeSet<Unsaid> {
        &self.unsaid
    }
}

/// All that any policy is lowered to.
fn permissions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let capabilities = CAPABILITIES.into_iter().enumerate();
    let capabilities =
        capabilities.flat_map(|(number, name)| capability_classes(number).into_iter().map(move |class| (class, name)));
    let sockets = SocketClass::all().map(|class| (class.name(), "create"));
    capabilities.chain(sockets).chain([TRACING]).chain(MEMORY)
}

struct Lowering<'a> {
    blob: &'a Blob,
    classes: &'a Classes,
    lowered: Lowered,
}

impl Lowering<'_> {
    fn deny(&mut self, class: &'static str, permission: &'static str) {
        if self.classes.has(class, permission) {
            self.lowered.denied.entry(class).or_default().insert(permission);
        } else {
            self.lowered.unsaid.insert(Unsaid::Permission(class, permission));
        }
    }

    /// What is blocked for some is said to be so, in words of what it depends on.
    fn note(&mut self, family: Family, decided: Mildest) {
        if decided.effect == Effect::Block || decided.strictest != Effect::Block {
            return;
        }
        if decided.by_source {
            self.lowered.unsaid.insert(Unsaid::Source(family));
        }
        if decided.by_terminal {
            self.lowered.unsaid.insert(Unsaid::Terminal(family));
        }
    }

    fn capabilities(&mut self) {
        for (number, permission) in CAPABILITIES.into_iter().enumerate() {
            let accept = AcceptId::of_capability(number as u8);
            let decided = self.blob.mildest(Family::Capability, accept, Modifiers::NONE);
            self.note(Family::Capability, decided);
            if decided.effect == Effect::Block {
                capability_classes(number).into_iter().for_each(|class| self.deny(class, permission));
            }
        }
    }

    fn sockets(&mut self) {
        for (class, OfClass { mildest, strictest, by_source }) in sockets::of_classes(self.blob, self.classes) {
            match (mildest, strictest) {
                (Effect::Block, _) => self.deny(class, "create"),
                (_, Effect::Block) => {
                    let unsaid = if by_source { Unsaid::Source(Family::Socket) } else { Unsaid::Sockets(class) };
                    self.lowered.unsaid.insert(unsaid);
                }
                _ => {}
            }
        }
    }

    /// Denied where tracing is blocked whatever the traced executable.
    fn tracing(&mut self) {
        let decided: Vec<Mildest> =
            targets(self.blob).map(|target| self.blob.mildest(Family::Ptrace, target, Modifiers::NONE)).collect();
        decided.iter().for_each(|decided| self.note(Family::Ptrace, *decided));
        if decided.iter().all(|decided| decided.effect == Effect::Block) {
            self.deny(TRACING.0, TRACING.1);
        } else if decided.iter().any(|decided| decided.effect == Effect::Block) {
            self.lowered.unsaid.insert(Unsaid::Targets);
        }
    }

    fn presets(&mut self) {
        for preset in [Preset::FilelessExec, Preset::AnonMapExec, Preset::ProtectEnv, Preset::ProtectProc, Preset::Exec]
        {
            let decided = self.blob.mildest(Family::Preset, AcceptId::of_preset(preset), Modifiers::NONE);
            self.note(Family::Preset, decided);
            match (preset, decided.effect) {
                (Preset::AnonMapExec, Effect::Block) => {
                    MEMORY.into_iter().for_each(|(class, permission)| self.deny(class, permission));
                    self.lowered.unsaid.insert(Unsaid::SharedMemory);
                }
                (_, Effect::Block) => {
                    self.lowered.unsaid.insert(Unsaid::Preset(preset));
                }
                _ => {}
            }
        }
    }

    fn unsaid_where_blocked(&mut self, family: Family, unsaid: Unsaid) {
        let table = &self.blob.head().family[family as usize];
        let blocked = (0..table.accepts).any(|accept| {
            (0..table.sources).any(|source| {
                let at = |modifiers| self.blob.decide(family, AcceptId(accept), SourceId(source), Modifiers(modifiers));
                (0..table.modifiers).any(|modifiers| at(modifiers).settled(false).effect == Effect::Block)
            })
        });
        if blocked {
            self.lowered.unsaid.insert(unsaid);
        }
    }
}

/// What absolute paths can match. Whole paths and last components are put together whether or not a path has both: the mildest of more
/// than there can be is never stricter.
fn targets(blob: &Blob) -> impl Iterator<Item = PathAccepts> {
    let whole = reachable(blob, Automaton::Path, Some(b'/'));
    let names = reachable(blob, Automaton::Basename, None);
    whole.into_iter().flat_map(move |whole| names.clone().into_iter().map(move |name| PathAccepts { whole, name }))
}

/// Accept ids at whatever state is reached, after this byte if any.
fn reachable(blob: &Blob, automaton: Automaton, first: Option<u8>) -> BTreeSet<AcceptId> {
    let start = first.into_iter().fold(blob.start(automaton), |state, byte| blob.step(automaton, state, byte));
    let mut bytes: BTreeMap<u8, u8> = BTreeMap::new();
    for byte in 1..=u8::MAX {
        bytes.insert(blob.head().automaton[automaton as usize].class_of[usize::from(byte)], byte);
    }
    let mut seen = BTreeSet::from([start]);
    let mut open = vec![start];
    while let Some(state) = open.pop() {
        let next = bytes.values().map(|byte| blob.step(automaton, state, *byte));
        open.extend(next.filter(|state| seen.insert(*state)));
    }
    seen.into_iter().map(|state| AcceptId(blob.accept_at(automaton, state))).collect()
}

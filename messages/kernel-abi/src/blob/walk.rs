//! The walk over a blob, in Rust: the same steps as the kernel's walker in `bpf/include/walk.h`, and the only meaning a blob has.
//!
//! # The walk
//! ```text
//! walk(automaton, bytes):                        decide(family, accept, source, modifiers):
//!   state = start                                  if !(families >> family & 1): return PERMIT (0)
//!   for byte in bytes:                             if accept >= accepts: accept = 0
//!     state = words[(state + class_of[byte]) & mask]   if source >= sources: source = 0
//!     if state < absorbing: break                  modifiers &= table.modifiers - 1
//!   return words[state & mask]                     return words[(base + (accept*sources + source)*modifiers_of_table + modifiers) & mask]
//!
//! in the comb form, where a cell is two words:     decide_path(family, path, source, modifiers):
//!     cell = cell at state + 2 * class_of[byte]      whole = decide(family, walk(PATH, path), source, modifiers)
//!     if cell.owner != state: cell = cell at state   name  = decide(family, walk(BASENAME, last component), source, modifiers)
//!     state = cell.target                            return max(whole, name)   as numbers: the rank is in the highest bits
//!   return (cell at state).owner & ~COMB_STATE
//! ```
//! - `mask` is the words of the size class less one. In a blob that passed validation it never changes an index.
//! - The early stop is only for speed: rows below `absorbing` lead to themselves on every byte.
//! - NUL before the first byte does not move the state (column 1 of a flat row, and of a comb's start state), so that a reader may pad
//!   to a fixed length. No input has one elsewhere.
//! - The last component is what follows the last slash of the last 256 bytes; without one there it is empty, which no rule names.
//! - Accept id 0 is "nothing that decides was matched", source id 0 is "no executable that a rule names". An unknown
//!   executable has source 0.
//! - Ids mean something only with the blob that gave them: after a swap the source is to be looked up again.

use super::{
    Blob,
    layout::{
        Automaton, AutomatonHead, BASENAME_MAX, COMB_CELL, COMB_STATE, DECISION_ARGUMENTS_SHIFT, DECISION_BY_POSTURE,
        DECISION_EFFECT_MASK, DECISION_RANK_SHIFT, DECISION_RULE_MASK, DECISION_RULE_SHIFT, Effect, Family, Form,
        MAX_ARGUMENT_SETS, MAX_RULES, Preset, SYSCALLS,
    },
};

/// What an automaton says of its input: an index into decision tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AcceptId(pub u32);

impl AcceptId {
    /// Of a capability by its number.
    #[must_use]
    pub const fn of_capability(number: u8) -> Self {
        Self(if number < 64 { number as u32 + 1 } else { 0 })
    }

    /// Of an x86-64 system call by its number. Numbers past the table decide nothing.
    #[must_use]
    pub const fn of_syscall(number: u32) -> Self {
        Self(if number < SYSCALLS { number + 1 } else { 0 })
    }

    /// Of an i386 system call by its number.
    #[must_use]
    pub const fn of_compat_syscall(number: u32) -> Self {
        Self(if number < SYSCALLS { SYSCALLS + number + 1 } else { 0 })
    }

    /// Of a preset.
    #[must_use]
    pub const fn of_preset(preset: Preset) -> Self {
        Self(preset as u32)
    }
}

/// What a path matches: as a whole, and by its last component. Both are rows of the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PathAccepts {
    /// By the whole path.
    pub whole: AcceptId,
    /// By its last component.
    pub name: AcceptId,
}

impl From<AcceptId> for PathAccepts {
    fn from(whole: AcceptId) -> Self {
        Self { whole, name: AcceptId::default() }
    }
}

/// What the source automaton says of the acting executable: a column of decision tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SourceId(pub u32);

impl SourceId {
    /// No executable that a rule names, or an unknown one.
    pub const NONE: Self = Self(0);
}

/// Circumstances that may change a rule's outcome (`PAL_MODIFIER_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Modifiers(pub u32);

impl Modifiers {
    /// Neither.
    pub const NONE: Self = Self(0);
    /// The acting uid owns the file.
    pub const OWNER: Self = Self(1);
    /// The open asks for write access, truncation or creation.
    pub const WRITE: Self = Self(2);

    /// The acting process has a controlling terminal.
    pub const TTY: Self = Self(4);

    /// The two circumstances of the file as one value.
    #[must_use]
    pub const fn new(owner: bool, write: bool) -> Self {
        Self(owner as u32 | (write as u32) << 1)
    }

    /// With a controlling terminal, or without one.
    #[must_use]
    pub const fn at_terminal(self, tty: bool) -> Self {
        Self(self.0 & !Self::TTY.0 | (tty as u32) << 2)
    }
}

/// Where a decision stands by kind, so that those of a whole path and of its last component can be held against each other; greater
/// decides. Ranks of whole paths and of names differ, except for 0: no rule matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rank(pub u32);

impl Rank {
    /// No rule matched.
    pub const NONE: Self = Self(0);
    /// An exact path by a rule with a source.
    pub const HIGHEST: Self = Self(6);

    /// By the kind of the verdict order (0 directory or pattern, 1 bare name, 2 exact), with or without a source.
    #[must_use]
    pub const fn new(has_source: bool, kind: u8) -> Self {
        Self(1 + kind as u32 + if has_source { 3 } else { 0 })
    }
}

/// A decoded decision word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decision {
    /// What happens.
    pub effect: Effect,
    /// The family's default posture decided, no rule did.
    pub by_posture: bool,
    /// The deciding rule's index in the compiled policy's rules, also where it permits. With an argument set also where the
    /// posture decides: the rule that permits if the arguments meet the set.
    pub rule: Option<u32>,
    /// The argument set by which it is decided, 0 for none: no verdict before [`Decision::settled`].
    pub arguments: u8,
}

impl Decision {
    /// What holds in a family without rules, and where nothing was matched and no allow-list is in force.
    pub const PERMIT: Self = Self { effect: Effect::Permit, by_posture: false, rule: None, arguments: 0 };

    /// From the word of a table. The value 3 is no effect and is refused where a blob is made; here it blocks.
    #[must_use]
    pub const fn from_word(word: u32) -> Self {
        let effect = match word & DECISION_EFFECT_MASK {
            0 => Effect::Permit,
            1 => Effect::Audit,
            _ => Effect::Block,
        };
        let rule = (word >> DECISION_RULE_SHIFT & DECISION_RULE_MASK).checked_sub(1);
        let arguments = (word >> DECISION_ARGUMENTS_SHIFT & MAX_ARGUMENT_SETS as u32) as u8;
        Self { effect, by_posture: word & DECISION_BY_POSTURE != 0, rule, arguments }
    }

    /// To a word without a rank. A rule index past [`MAX_RULES`] cannot be written: `None`.
    #[must_use]
    pub fn to_word(self) -> Option<u32> {
        let rule = match self.rule {
            None => 0,
            Some(index) if (index as usize) < MAX_RULES => index + 1,
            Some(_) => return None,
        };
        let posture = if self.by_posture { DECISION_BY_POSTURE } else { 0 };
        let arguments = u32::from(self.arguments) << DECISION_ARGUMENTS_SHIFT;
        Some(self.effect as u32 | posture | arguments | rule << DECISION_RULE_SHIFT)
    }

    /// To the word of a table.
    #[must_use]
    pub fn to_ranked_word(self, rank: Rank) -> Option<u32> {
        Some(self.to_word()? | rank.0 << DECISION_RANK_SHIFT)
    }

    /// The verdict, once it is known whether the arguments meet the set that the word names.
    #[must_use]
    pub const fn settled(self, met: bool) -> Self {
        match self {
            Self { arguments: 0, .. } => self,
            _ if met => Self { effect: Effect::Permit, by_posture: false, arguments: 0, ..self },
            Self { by_posture: true, .. } => Self { rule: None, arguments: 0, ..self },
            _ => Self { arguments: 0, ..self },
        }
    }
}

/// A domain name as the name automaton reads it: lower case, a path from its last label: `www.Example.com` is `/com/example/www`. A
/// slash or NUL of a label is written as 0xff, so that no label passes for two.
#[must_use]
pub fn domain_path(domain: &[u8]) -> Vec<u8> {
    let domain = domain.strip_suffix(b".").unwrap_or(domain);
    let mut path = Vec::with_capacity(domain.len() + 1);
    for label in domain.rsplit(|byte| *byte == b'.') {
        path.push(b'/');
        path.extend(label.iter().map(|byte| if matches!(byte, b'/' | 0) { 0xff } else { byte.to_ascii_lowercase() }));
    }
    path
}

impl Blob {
    /// What the absolute path matches; the input of [`Family::Process`], [`Family::File`] and [`Family::Ptrace`].
    #[must_use]
    pub fn path_accept(&self, path: &[u8]) -> PathAccepts {
        let names = &self.head().automaton[Automaton::Basename as usize];
        let name = if names.is_trivial() { 0 } else { self.walk(Automaton::Basename, last_component(path)) };
        PathAccepts { whole: AcceptId(self.walk(Automaton::Path, path)), name: AcceptId(name) }
    }

    /// Which source the executable's absolute path is.
    #[must_use]
    pub fn source_id(&self, executable: &[u8]) -> SourceId {
        SourceId(self.walk(Automaton::Source, executable))
    }

    /// What the endpoint ([`Endpoint::encode`](super::Endpoint::encode)) matches; the input of [`Family::Socket`] and [`Family::Connect`].
    #[must_use]
    pub fn network_accept(&self, endpoint: &[u8]) -> AcceptId {
        AcceptId(self.walk(Automaton::Network, endpoint))
    }

    /// What the domain name ([`domain_path`]) matches; the input of [`Family::Dns`].
    #[must_use]
    pub fn name_accept(&self, path: &[u8]) -> AcceptId {
        AcceptId(self.walk(Automaton::Name, path))
    }

    /// What happens to an act of `family` on what `accept` says, by the executable that `source` says.
    #[must_use]
    pub fn decide(
        &self,
        family: Family,
        accept: impl Into<PathAccepts>,
        source: SourceId,
        modifiers: Modifiers,
    ) -> Decision {
        let PathAccepts { whole, name } = accept.into();
        let word = self.decision_word(family, whole, source, modifiers);
        let named = if name.0 == 0 { 0 } else { self.decision_word(family, name, source, modifiers) };
        Decision::from_word(word.max(named))
    }

    fn decision_word(&self, family: Family, accept: AcceptId, source: SourceId, modifiers: Modifiers) -> u32 {
        if self.head().families >> family as u32 & 1 == 0 {
            return 0;
        }
        let table = &self.head().family[family as usize];
        let accept = if accept.0 < table.accepts { accept.0 } else { 0 };
        let source = if source.0 < table.sources { source.0 } else { 0 };
        let modifier = modifiers.0 & table.modifiers.wrapping_sub(1);
        let index = accept.wrapping_mul(table.sources).wrapping_add(source).wrapping_mul(table.modifiers);
        self.word(table.base.wrapping_add(index).wrapping_add(modifier))
    }

    /// Whether it denies writing of a file that it permits to be read: only then is a write through an open descriptor looked at.
    #[must_use]
    pub fn denies_writing_alone(&self) -> bool {
        let table = &self.head().family[Family::File as usize];
        if self.head().families >> Family::File as u32 & 1 == 0 || table.modifiers <= Modifiers::WRITE.0 {
            return false;
        }
        let words = table.accepts.wrapping_mul(table.sources).wrapping_mul(table.modifiers);
        let blocks = |at: u32| Decision::from_word(self.word(table.base.wrapping_add(at))).effect == Effect::Block;
        (0..words).any(|at| at & Modifiers::WRITE.0 == 0 && !blocks(at) && blocks(at | Modifiers::WRITE.0))
    }

    /// The alternatives of the argument set, a bit each, that hold the argument.
    #[must_use]
    pub fn argument_alternatives(&self, set: u8, argument: &[u8]) -> u32 {
        let table = &self.head().arguments;
        if u32::from(set) >= table.sources {
            return 0;
        }
        let accept = self.walk(Automaton::Argument, argument);
        let accept = if accept < table.accepts { accept } else { 0 };
        self.word(table.base.wrapping_add(accept.wrapping_mul(table.sources)).wrapping_add(set.into()))
    }

    /// Do the arguments (those after `argv[0]`) meet the set: are there any, and is there an alternative that holds each of them?
    #[must_use]
    pub fn arguments_meet<'a>(&self, set: u8, arguments: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let held = arguments.into_iter().map(|argument| self.argument_alternatives(set, argument));
        held.reduce(|left, alternatives| left & alternatives).is_some_and(|left| left != 0)
    }

    fn walk(&self, automaton: Automaton, bytes: &[u8]) -> u32 {
        let head = &self.head().automaton[automaton as usize];
        if head.form == Form::Flat as u32 { self.walk_flat(head, bytes) } else { self.walk_comb(head, bytes) }
    }

    fn walk_comb(&self, head: &AutomatonHead, bytes: &[u8]) -> u32 {
        let mut state = head.start;
        for byte in bytes {
            let column = state.wrapping_add(COMB_CELL * u32::from(head.class_of[usize::from(*byte)]));
            let cell = if self.word(column.wrapping_add(1)) == state { column } else { state };
            state = self.word(cell);
            if state < head.absorbing {
                break;
            }
        }
        self.word(state.wrapping_add(1)) & !COMB_STATE
    }

    fn walk_flat(&self, head: &AutomatonHead, bytes: &[u8]) -> u32 {
        let mut state = head.start;
        for byte in bytes {
            state = self.word(state.wrapping_add(u32::from(head.class_of[usize::from(*byte)])));
            if state < head.absorbing {
                break;
            }
        }
        self.word(state)
    }
}

/// What follows the last slash, where that is no more than [`BASENAME_MAX`] bytes; else nothing.
pub(super) fn last_component(path: &[u8]) -> &[u8] {
    let tail = &path[path.len().saturating_sub(BASENAME_MAX + 1)..];
    tail.iter().rposition(|byte| *byte == b'/').map_or(&[], |slash| &tail[slash + 1..])
}

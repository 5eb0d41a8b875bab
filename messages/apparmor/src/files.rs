//! The file automaton: a blob's automata of whole paths and of last components, read side by side.
//!
//! Invariant: a name that AppArmor asks for leads to a state whose words allow what the blob permits of that path, whoever acts.
//!
//! Decisions:
//! - AppArmor writes a directory's name with a slash at its end (but for the root's), and policies write it without: a state that is reached by
//!   a slash says of the name what was said before the slash.
//! - What does not begin with a slash is no path that a policy can name, and is allowed.
//! - A write is everything that changes a file or its name (AppArmor has one permission for it); mapping it as code and locking it go with reading.

use std::collections::BTreeMap;

use palisade_kernel_abi::blob::{AcceptId, Automaton, Effect, Family, Modifiers, PathAccepts, State};

use crate::{
    LowerError,
    decided::{Decided, Weakened},
    table::{Accept, START, Table},
};

const EXECUTE: u32 = 0x01;
const WRITE: u32 = 0x02;
const READ: u32 = 0x04;
const APPEND: u32 = 0x08;
const LINK: u32 = 0x10;
const LOCK: u32 = 0x20;
const MAP_CODE: u32 = 0x40;
/// What is executed keeps the profile.
const INHERIT: u32 = 0x200;
/// Where the words of those who are not the owner begin.
const OTHERS_SHIFT: u32 = 14;
/// States before those that are alike are merged: some 30 MB.
const MAX_BUILT_STATES: usize = 1 << 17;
const READING: u32 = READ | LOCK | MAP_CODE;
const WRITING: u32 = WRITE | APPEND | LINK;

/// The automaton, and what becomes of tracing a process of any executable (the mildest).
pub(crate) struct Files {
    pub table: Table,
    pub trace: Effect,
}

/// Where both automata stand, and what the name so far is decided to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    path: State,
    name: State,
    accept: Accept,
}

struct Builder<'a, 'b> {
    decided: &'b mut Decided<'a>,
    table: Table,
    numbers: BTreeMap<Key, u32>,
    keys: Vec<(u32, Key)>,
    /// Words by what is matched.
    words: BTreeMap<PathAccepts, Accept>,
    /// The mildest and the strictest of tracing.
    trace: Option<(Effect, Effect)>,
}

/// Builds it.
///
/// # Errors
/// Past [`MAX_BUILT_STATES`].
pub(crate) fn files(decided: &mut Decided<'_>) -> Result<Files, LowerError> {
    let (classes, class_of, bytes) = columns(decided);
    let mut builder = Builder {
        decided,
        table: Table::new(classes, class_of),
        numbers: BTreeMap::new(),
        keys: Vec::new(),
        words: BTreeMap::new(),
        trace: None,
    };
    builder.run(&bytes)?;
    let (mildest, strictest) = builder.trace.unwrap_or((Effect::Permit, Effect::Permit));
    if strictest > mildest {
        builder.decided.weakened.insert(Weakened::Target);
    }
    Ok(Files { table: builder.table.merged(), trace: mildest })
}

/// Bytes that neither automaton tells apart are one column; a byte of each. The slash has its own.
fn columns(decided: &Decided<'_>) -> (usize, [u8; 256], Vec<u8>) {
    let heads = &decided.blob.head().automaton;
    let class = |automaton: Automaton, byte: u8| heads[automaton as usize].class_of[usize::from(byte)];
    let mut known: Vec<(u8, u8, bool)> = Vec::new();
    let mut class_of = [0; 256];
    let mut bytes = Vec::new();
    // NUL ends every name; it is in the column of the next byte.
    for byte in 1..=u8::MAX {
        let signature = (class(Automaton::Path, byte), class(Automaton::Basename, byte), byte == b'/');
        let at = known.iter().position(|other| *other == signature).unwrap_or_else(|| {
            known.push(signature);
            bytes.push(byte);
            known.len() - 1
        });
        class_of[usize::from(byte)] = at as u8;
    }
    (known.len(), class_of, bytes)
}

impl Builder<'_, '_> {
    fn run(&mut self, bytes: &[u8]) -> Result<(), LowerError> {
        let elsewhere = self.table.add(ANYTHING, self.table.states() as u32);
        for byte in bytes {
            self.table.set(START, *byte, elsewhere);
        }
        let (path, name) = (self.decided.blob.start(Automaton::Path), self.decided.blob.start(Automaton::Basename));
        let path = self.decided.blob.step(Automaton::Path, path, b'/');
        let accept = self.accept(path, name);
        let root = self.number(Key { path, name, accept })?;
        self.table.set(START, b'/', root);
        let mut at = 0;
        while let Some((state, key)) = self.keys.get(at).copied() {
            at += 1;
            for byte in bytes {
                let target = self.step(key, *byte);
                let target = self.number(target)?;
                self.table.set(state, *byte, target);
            }
        }
        Ok(())
    }

    fn step(&mut self, from: Key, byte: u8) -> Key {
        let blob = self.decided.blob;
        let path = blob.step(Automaton::Path, from.path, byte);
        if byte == b'/' {
            return Key { path, name: blob.start(Automaton::Basename), accept: from.accept };
        }
        let name = blob.step(Automaton::Basename, from.name, byte);
        Key { path, name, accept: self.accept(path, name) }
    }

    fn number(&mut self, key: Key) -> Result<u32, LowerError> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        if self.table.states() >= MAX_BUILT_STATES {
            return Err(LowerError::States { states: self.table.states() + 1 });
        }
        let number = self.table.add(key.accept, 0);
        self.numbers.insert(key, number);
        self.keys.push((number, key));
        Ok(number)
    }

    fn accept(&mut self, path: State, name: State) -> Accept {
        let blob = self.decided.blob;
        let whole = AcceptId(blob.accept_at(Automaton::Path, path));
        let accepts = PathAccepts { whole, name: AcceptId(blob.accept_at(Automaton::Basename, name)) };
        if let Some(known) = self.words.get(&accepts) {
            return *known;
        }
        let trace = self.decided.effect(Family::Ptrace, accepts, Modifiers::NONE);
        self.trace = self.trace.map_or(Some((trace, trace)), |(least, most)| Some((least.min(trace), most.max(trace))));
        let (of_owner, of_others) = (self.words_for(accepts, true), self.words_for(accepts, false));
        let accept = Accept {
            allow: of_owner.allow | of_others.allow << OTHERS_SHIFT,
            audit: of_owner.audit | of_others.audit << OTHERS_SHIFT,
        };
        self.words.insert(accepts, accept);
        accept
    }

    fn words_for(&mut self, accepts: PathAccepts, is_owner: bool) -> Accept {
        let mut accept = Accept::default();
        for (family, writes, bits, more) in [
            (Family::Process, false, EXECUTE, INHERIT),
            (Family::File, false, READING, 0),
            (Family::File, true, WRITING, 0),
        ] {
            match self.decided.effect(family, accepts, Modifiers::new(is_owner, writes)) {
                Effect::Block => {}
                Effect::Audit if self.decided.tells(family) => {
                    accept.allow |= bits | more;
                    // One line an open: mapping and locking follow it.
                    accept.audit |= bits & (EXECUTE | READ | WRITE | APPEND | LINK);
                }
                Effect::Audit | Effect::Permit => accept.allow |= bits | more,
            }
        }
        accept
    }
}

/// The automaton that allows everything.
pub(crate) fn anything() -> Table {
    let mut table = Table::new(1, [0; 256]);
    let everything = table.add(ANYTHING, table.states() as u32);
    table.set(START, 0, everything);
    table
}

const ANYTHING: Accept = Accept { allow: both(READING | WRITING | EXECUTE | INHERIT), audit: 0 };

const fn both(bits: u32) -> u32 {
    bits | bits << OTHERS_SHIFT
}

//! A profile as the kernel reads it: the tests' model of AppArmor's unpacking, checks and matching (security/apparmor/match.c, file.c and
//! policy_unpack.c of Linux 6.1), written from what it does and not from what we write.
//!
//! Invariant: whatever the kernel's checks refuse is refused here; whatever is read is walked by the packed tables alone.

use std::collections::BTreeMap;

use crate::table::id;

/// Why the kernel would refuse it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Something else is expected at an offset.
    #[error("{what} is expected at byte {at}")]
    Expected {
        /// What.
        what: String,
        /// Where.
        at: usize,
    },
    /// A table that the kernel's checks refuse.
    #[error("an automaton's {0}")]
    Automaton(&'static str),
}

/// A packed automaton.
#[derive(Debug, Clone)]
pub struct Packed {
    tables: BTreeMap<u16, Vec<u32>>,
}

impl Packed {
    /// Reads and checks it, as `aa_dfa_unpack` with paranoid loading does.
    ///
    /// # Errors
    /// Where the kernel's checks refuse it.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let broken = ReadError::Automaton;
        let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let half = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        if word(0) != Some(0x1b5e_783d) || half(12) != Some(0) {
            return Err(broken("header is wrong"));
        }
        let mut at = word(4).ok_or(broken("header is short"))? as usize;
        let mut tables = BTreeMap::new();
        while at < bytes.len() {
            let (Some(id), Some(width), Some(length)) = (half(at), half(at + 2), word(at + 8)) else {
                return Err(broken("table header is short"));
            };
            let (width, length) = (usize::from(width), length as usize);
            let content = bytes.get(at + 12..at + 12 + width * length).ok_or(broken("table is short"))?;
            let values =
                content.chunks_exact(width).map(|value| value.iter().fold(0, |sum, b| sum << 8 | u32::from(*b)));
            let wanted = match id {
                id::ACCEPT | id::AUDIT | id::BASE => 4,
                id::DEFAULT | id::NEXT | id::CHECK => 2,
                id::EQUIVALENCE => 1,
                _ => return Err(broken("table is of an unknown kind")),
            };
            if width != wanted || length == 0 || tables.insert(id, values.collect()).is_some() {
                return Err(broken("table is of a wrong width, empty, or there twice"));
            }
            at += (12 + width * length).next_multiple_of(8);
        }
        let packed = Self { tables };
        packed.check()?;
        Ok(packed)
    }

    fn table(&self, id: u16) -> &[u32] {
        self.tables.get(&id).map_or(&[], Vec::as_slice)
    }

    fn check(&self) -> Result<(), ReadError> {
        let states = self.table(id::BASE).len();
        let cells = self.table(id::NEXT).len();
        let lengths = [(id::ACCEPT, states), (id::AUDIT, states), (id::DEFAULT, states), (id::CHECK, cells)];
        if states < 2 || lengths.iter().any(|(id, length)| self.table(*id).len() != *length) {
            return Err(ReadError::Automaton("tables differ in length"));
        }
        if ![0, 256].contains(&self.table(id::EQUIVALENCE).len()) {
            return Err(ReadError::Automaton("classes are not those of 256 bytes"));
        }
        let names_states = [id::DEFAULT, id::NEXT, id::CHECK];
        if names_states.iter().any(|id| self.table(*id).iter().any(|state| *state as usize >= states)) {
            return Err(ReadError::Automaton("moves lead to no state"));
        }
        if self.table(id::BASE).iter().any(|base| base >> 24 != 0 || *base as usize + 255 >= cells) {
            return Err(ReadError::Automaton("bases are out of bounds"));
        }
        Ok(())
    }

    /// Where a byte leads.
    #[must_use]
    pub fn next(&self, state: u32, byte: u8) -> u32 {
        let classes = self.table(id::EQUIVALENCE);
        let class = classes.get(usize::from(byte)).copied().unwrap_or(u32::from(byte));
        let cell = (self.table(id::BASE)[state as usize] + class) as usize;
        let table = if self.table(id::CHECK)[cell] == state { id::NEXT } else { id::DEFAULT };
        self.table(table)[if table == id::NEXT { cell } else { state as usize }]
    }

    /// Where bytes lead.
    #[must_use]
    pub fn walk(&self, from: u32, bytes: &[u8]) -> u32 {
        bytes.iter().fold(from, |state, byte| if state == 0 { 0 } else { self.next(state, *byte) })
    }

    /// Its words at a state: what is allowed, and what of it is told.
    #[must_use]
    pub fn accept(&self, state: u32) -> (u32, u32) {
        (self.table(id::ACCEPT)[state as usize], self.table(id::AUDIT)[state as usize])
    }
}

/// One profile of a stream.
#[derive(Debug, Clone)]
pub struct ReadProfile {
    /// Its name.
    pub name: String,
    /// Capabilities: allowed, and told although allowed.
    pub capabilities: (u64, u64),
    /// Everything but files.
    pub policy: Packed,
    /// Files.
    pub files: Packed,
}

/// What is asked of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileAsk {
    /// To execute it.
    Exec,
    /// To read it.
    Read,
    /// To change it, make it, remove it.
    Write,
}

/// What becomes of an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// It happens.
    pub allowed: bool,
    /// It is told although it happens.
    pub audited: bool,
}

impl ReadProfile {
    /// Of a file by the name that the kernel gives it (a directory's ends with a slash).
    #[must_use]
    pub fn file(&self, name: &[u8], is_owner: bool, ask: FileAsk) -> Answer {
        let bit = match ask {
            FileAsk::Exec => 1,
            FileAsk::Write => 2,
            FileAsk::Read => 4,
        };
        let (allow, audit) = self.files.accept(self.files.walk(1, name));
        let shift = if is_owner { 0 } else { 14 };
        Answer { allowed: allow >> shift & bit != 0, audited: audit >> shift & bit != 0 }
    }

    /// Of the creation of a socket.
    #[must_use]
    pub fn socket(&self, domain: u16, kind: u16) -> Answer {
        let class = self.policy.walk(1, &[14]);
        if class == 0 {
            return Answer { allowed: true, audited: false };
        }
        let state = self.policy.walk(class, &[domain.to_be_bytes(), kind.to_be_bytes()].concat());
        let (allow, audit) = self.policy.accept(state);
        Answer { allowed: allow & 0x10 != 0, audited: audit & 0x10 != 0 }
    }

    /// Of tracing a process that is confined by `peer`.
    #[must_use]
    pub fn trace(&self, peer: &[u8]) -> Answer {
        if self.policy.walk(1, &[9]) == 0 {
            return Answer { allowed: true, audited: false };
        }
        let state = self.policy.walk(self.policy.walk(1, &[16, 9]), peer);
        let (allow, audit) = self.policy.accept(state);
        Answer { allowed: allow & 2 != 0, audited: audit & 2 != 0 }
    }

    /// Of the use of a capability.
    #[must_use]
    pub fn capability(&self, number: u8) -> Answer {
        let (allow, audit) = self.capabilities;
        Answer { allowed: allow >> number & 1 != 0, audited: audit >> number & 1 != 0 }
    }
}

/// Reads a stream of one profile.
///
/// # Errors
/// Where the kernel would refuse it.
pub fn read(bytes: &[u8]) -> Result<ReadProfile, ReadError> {
    let mut input = Input { bytes, at: 0 };
    let version = input.word(Some("version"))?;
    if !(5..=9).contains(&version) {
        return Err(ReadError::Expected { what: "a version from 5 to 9".into(), at: 0 });
    }
    input.tag(7, Some("profile"))?;
    input.tag(5, None)?;
    let length = usize::from(u16::from_le_bytes(input.take()?));
    let name = input.bytes_of(length)?;
    let name = name.strip_suffix(&[0]).and_then(|name| std::str::from_utf8(name).ok()).map(str::to_owned);
    let name = name.ok_or(ReadError::Expected { what: "a text that ends with NUL".into(), at: input.at })?;
    input.tag(7, Some("flags"))?;
    for _ in 0..3 {
        input.word(None)?;
    }
    input.tag(8, None)?;
    input.word(Some("path_flags"))?;
    let mut low = [0; 4];
    for word in &mut low {
        *word = input.word(None)?;
    }
    input.tag(7, Some("caps64"))?;
    let mut high = [0; 4];
    for word in &mut high {
        *word = input.word(None)?;
    }
    input.tag(8, None)?;
    let whole = |at: usize| u64::from(low[at]) | u64::from(high[at]) << 32;
    input.tag(7, Some("policydb"))?;
    let policy = input.automaton()?;
    input.tag(8, None)?;
    let files = input.automaton()?;
    input.tag(8, None)?;
    if input.at != bytes.len() {
        return Err(ReadError::Expected { what: "the end".into(), at: input.at });
    }
    Ok(ReadProfile { name, capabilities: (whole(0), whole(1)), policy, files })
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn bytes_of(&mut self, length: usize) -> Result<&'a [u8], ReadError> {
        let end = self.at.saturating_add(length);
        let bytes = self.bytes.get(self.at..end);
        let bytes = bytes.ok_or(ReadError::Expected { what: format!("{length} bytes"), at: self.at })?;
        self.at = end;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], ReadError> {
        let mut out = [0; N];
        out.copy_from_slice(self.bytes_of(N)?);
        Ok(out)
    }

    fn tag(&mut self, code: u8, name: Option<&str>) -> Result<(), ReadError> {
        let at = self.at;
        if let Some(name) = name {
            let wanted = [&[4], &(name.len() as u16 + 1).to_le_bytes()[..], name.as_bytes(), &[0]].concat();
            if self.bytes_of(wanted.len())? != wanted.as_slice() {
                return Err(ReadError::Expected { what: format!("`{name}`"), at });
            }
        }
        let [found] = self.take()?;
        if found == code { Ok(()) } else { Err(ReadError::Expected { what: format!("code {code}"), at: self.at - 1 }) }
    }

    fn word(&mut self, name: Option<&str>) -> Result<u32, ReadError> {
        self.tag(2, name)?;
        self.take().map(u32::from_le_bytes)
    }

    /// Its content begins at the next multiple of 8 of the stream.
    fn automaton(&mut self) -> Result<Packed, ReadError> {
        self.tag(6, Some("aadfa"))?;
        let length = u32::from_le_bytes(self.take()?) as usize;
        let start = self.at;
        let blob = self.bytes_of(length)?;
        let size = start as i64 - (self.at & 7) as i64;
        let pad = (-size).rem_euclid(8) as usize;
        Packed::read(&blob[pad.min(blob.len())..])
    }
}

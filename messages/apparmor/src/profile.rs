//! A profile in the binary form that the kernel takes (`/sys/kernel/security/apparmor/.replace`).
//!
//! Units: numbers are little-endian, but for those of automata; a text's length is two bytes and counts its NUL.
//!
//! Decision: the kernel's form and not text for `apparmor_parser`. A profile's text knows no order of rules (`deny` always wins), so that "all
//! of a directory but one file" would have to be written as the complement of a language; the form has an automaton with the decision at
//! each state, which is what a blob has, too. And neither an image nor a host needs the parser. Versions 5 to 9 of the form are read by all kernels
//! since Linux 4.17; this writes 8.

use std::{collections::BTreeSet, fmt};

use palisade_kernel_abi::blob::{AcceptId, Blob, Effect, Family, Modifiers};

use crate::{
    LowerError,
    decided::{Decided, Weakened},
    files,
    policy_database::policy_database,
    table::Table,
};

const VERSION: u32 = 8;
/// Names of files without a path to the root are made absolute, and deleted files keep theirs: a policy names what may be gone.
const PATH_FLAGS: u32 = PATH_CONNECT | PATH_MEDIATE_DELETED;
const PATH_CONNECT: u32 = 0x4;
const PATH_MEDIATE_DELETED: u32 = 0x1_0000;

/// The beginning of every name of ours: what does not have it is nobody's business here.
pub const PREFIX: &str = "palisade-";
/// The longest name.
pub const MAX_NAME_BYTES: usize = 128;

/// The name of a profile of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// Of a container, by its id.
    ///
    /// # Errors
    /// Where the id has other signs than letters, digits, `.`, `_` and `-`, or is too long or empty.
    pub fn of_container(id: &str) -> Result<Self, LowerError> {
        let name = format!("{PREFIX}{id}");
        Self::parse(&name).ok_or(LowerError::Name { name })
    }

    /// Reads it, if it is one of ours.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let id = name.strip_prefix(PREFIX)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        (!id.is_empty() && name.len() <= MAX_NAME_BYTES && id.bytes().all(plain)).then(|| Self(name.to_owned()))
    }

    /// As the kernel has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container's id.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.0[PREFIX.len()..]
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A profile.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// For the kernel.
    pub bytes: Vec<u8>,
    /// States of its automaton of files.
    pub states: usize,
    /// What it holds less of than the blob decides.
    pub weakened: BTreeSet<Weakened>,
}

/// Families of which a profile can say anything.
pub const FAMILIES: [Family; 5] = [Family::Process, Family::File, Family::Socket, Family::Ptrace, Family::Capability];

/// What a profile has to do with.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    /// Families that it denies in; the others it permits, for something else holds them.
    pub held: &'a [Family],
    /// Of these, families whose audits it tells; of the others something else does, and a line from here would be a second one.
    pub told: &'a [Family],
}

impl Share<'_> {
    /// All that there can be.
    pub const ALL: Share<'static> = Share { held: &FAMILIES, told: &FAMILIES };
}

/// What a profile consists of but for its name: equal policies of many containers are lowered once.
#[derive(Debug, Clone)]
pub struct Lowered {
    capabilities: Capabilities,
    policy: Vec<u8>,
    files: Vec<u8>,
    states: usize,
    weakened: BTreeSet<Weakened>,
}

impl Lowered {
    /// What denies what the blob blocks whoever acts.
    ///
    /// # Errors
    /// Where the automaton has more states than the form can name.
    pub fn of(blob: &Blob, share: Share<'_>) -> Result<Self, LowerError> {
        let mut decided = Decided::new(blob, share);
        let files = files::files(&mut decided)?;
        let policy = policy_database(&mut decided, files.trace);
        let capabilities = Capabilities::of(&mut decided);
        Self::packed(capabilities, &policy, &files.table, decided.weakened)
    }

    /// What permits everything: of a container that no policy is about, whose runtime asks for the name all the same.
    ///
    /// # Errors
    /// None that is known; the form is the same.
    pub fn permissive() -> Result<Self, LowerError> {
        let capabilities = Capabilities { allowed: u64::MAX, audited: 0 };
        Self::packed(capabilities, &Table::of_bytes(), &files::anything(), BTreeSet::new())
    }

    fn packed(
        capabilities: Capabilities,
        policy: &Table,
        files: &Table,
        weakened: BTreeSet<Weakened>,
    ) -> Result<Self, LowerError> {
        let states = files.states();
        Ok(Self { capabilities, policy: policy.pack()?, files: files.pack()?, states, weakened })
    }

    /// Under a name.
    #[must_use]
    pub fn named(&self, name: &ProfileName) -> Profile {
        let bytes = Stream::profile(name, self);
        Profile { name: name.clone(), bytes, states: self.states, weakened: self.weakened.clone() }
    }
}

/// The profile that denies what the blob blocks whoever acts.
///
/// # Errors
/// Where the automaton has more states than the form can name.
pub fn lower(blob: &Blob, name: &ProfileName, share: Share<'_>) -> Result<Profile, LowerError> {
    Ok(Lowered::of(blob, share)?.named(name))
}

/// The profile that permits everything.
///
/// # Errors
/// As [`Lowered::permissive`].
pub fn permissive(name: &ProfileName) -> Result<Profile, LowerError> {
    Ok(Lowered::permissive()?.named(name))
}

/// Bit n: `CAP_*` n.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capabilities {
    allowed: u64,
    audited: u64,
}

impl Capabilities {
    fn of(decided: &mut Decided<'_>) -> Self {
        let mut capabilities = Self { allowed: 0, audited: 0 };
        for number in 0..64 {
            match decided.effect(Family::Capability, AcceptId::of_capability(number).into(), Modifiers::NONE) {
                Effect::Block => {}
                Effect::Audit if decided.tells(Family::Capability) => {
                    capabilities.allowed |= 1 << number;
                    capabilities.audited |= 1 << number;
                }
                Effect::Audit | Effect::Permit => capabilities.allowed |= 1 << number,
            }
        }
        capabilities
    }
}

/// The kernel's codes of what follows.
mod code {
    pub const WORD: u8 = 2;
    pub const NAME: u8 = 4;
    pub const TEXT: u8 = 5;
    pub const BLOB: u8 = 6;
    pub const STRUCT: u8 = 7;
    pub const STRUCT_END: u8 = 8;
}

struct Stream(Vec<u8>);

impl Stream {
    fn profile(name: &ProfileName, lowered: &Lowered) -> Vec<u8> {
        let mut out = Self(Vec::new());
        out.named("version");
        out.word(VERSION);
        out.open("profile");
        out.0.push(code::TEXT);
        out.text(name.as_str());
        out.open("flags");
        // No hat; enforced; audited no more than its words say.
        [0, 0, 0].into_iter().for_each(|word| out.word(word));
        out.close();
        out.named("path_flags");
        out.word(PATH_FLAGS);
        out.capabilities(lowered.capabilities, 0);
        out.open("caps64");
        out.capabilities(lowered.capabilities, 32);
        out.close();
        out.open("policydb");
        out.automaton(&lowered.policy);
        out.close();
        out.automaton(&lowered.files);
        out.close();
        out.0
    }

    fn named(&mut self, name: &str) {
        self.0.push(code::NAME);
        self.text(name);
    }

    fn text(&mut self, text: &str) {
        // Names are bounded far below.
        self.0.extend((text.len() as u16 + 1).to_le_bytes());
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn word(&mut self, word: u32) {
        self.0.push(code::WORD);
        self.0.extend(word.to_le_bytes());
    }

    fn open(&mut self, name: &str) {
        self.named(name);
        self.0.push(code::STRUCT);
    }

    fn close(&mut self) {
        self.0.push(code::STRUCT_END);
    }

    /// Allowed, audited, quiet, and denied whatever is allowed: one half.
    fn capabilities(&mut self, capabilities: Capabilities, shift: u32) {
        for bits in [capabilities.allowed, capabilities.audited, 0, 0] {
            self.word((bits >> shift) as u32);
        }
    }

    /// Its header lies at a multiple of 8 of the stream.
    fn automaton(&mut self, packed: &[u8]) {
        self.named("aadfa");
        self.0.push(code::BLOB);
        let start = self.0.len() + 4;
        let pad = start.next_multiple_of(8) - start;
        self.0.extend(((pad + packed.len()) as u32).to_le_bytes());
        self.0.resize(start + pad, 0);
        self.0.extend(packed);
    }
}

//! The Rust twin of `bpf/include/blob.h`: same fields, same order, same sizes.
//!
//! Invariant: the C header is the truth. Sizes and offsets are asserted here at compile time; the test that compares the
//! compiled object's BTF with these types lives where the object is built.

/// `PAL_BLOB_MAGIC`: "PALB" read as a little-endian word.
pub const MAGIC: u32 = 0x424c_4150;
/// `PAL_BLOB_VERSION`.
pub const VERSION: u32 = 2;
/// `PAL_AUTOMATA`.
pub const AUTOMATA: usize = 6;
/// `PAL_FAMILIES`.
pub const FAMILIES: usize = 9;
/// Bytes of `struct pal_blob_head`.
pub const HEAD_BYTES: usize = size_of::<BlobHead>();
/// The column of a flat row that holds the accept id.
pub const COLUMN_ACCEPT: u32 = 0;
/// The column of a flat row that leads back to the row: where NUL goes.
pub const COLUMN_SELF: u32 = 1;
/// The first column of a byte class.
pub const COLUMN_CLASSES: u32 = 2;

/// `PAL_DECISION_EFFECT_MASK`.
pub const DECISION_EFFECT_MASK: u32 = 3;
/// `PAL_DECISION_BY_POSTURE`.
pub const DECISION_BY_POSTURE: u32 = 4;
/// `PAL_DECISION_ARGUMENTS_SHIFT`.
pub const DECISION_ARGUMENTS_SHIFT: u32 = 4;
/// `PAL_DECISION_RULE_SHIFT`.
pub const DECISION_RULE_SHIFT: u32 = 12;
/// `PAL_DECISION_RULE_MASK`.
pub const DECISION_RULE_MASK: u32 = 0x1_ffff;
/// `PAL_DECISION_RANK_SHIFT`.
pub const DECISION_RANK_SHIFT: u32 = 29;
/// The most rules that a decision word can name: 17 bits of index + 1, of which 0 is "no rule".
pub const MAX_RULES: usize = DECISION_RULE_MASK as usize;
/// The most argument sets that a decision word can name.
pub const MAX_ARGUMENT_SETS: usize = 255;
/// The most alternatives of an argument set: the bits of a word of the argument table.
pub const MAX_ARGUMENT_ALTERNATIVES: usize = 32;

/// `PAL_BASENAME_MAX`: bytes of the longest last component of a path.
pub const BASENAME_MAX: usize = 255;
/// `PAL_COMB_STATE`.
pub const COMB_STATE: u32 = 0x8000_0000;
/// `PAL_COMB_FREE`.
pub const COMB_FREE: u32 = 0x7fff_ffff;
/// Words of a cell of the comb form.
pub const COMB_CELL: u32 = 2;

/// `PAL_CAPABILITY_ACCEPTS`.
pub const CAPABILITY_ACCEPTS: u32 = 65;
/// `PAL_SYSCALLS`.
pub const SYSCALLS: u32 = 512;
/// `PAL_SYSCALL_ACCEPTS`.
pub const SYSCALL_ACCEPTS: u32 = 2 * SYSCALLS + 1;
/// `PAL_PRESET_ACCEPTS`.
pub const PRESET_ACCEPTS: u32 = 6;

/// Which automaton of a blob (`enum pal_automaton`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Automaton {
    /// Reads the absolute path of an object.
    Path = 0,
    /// Reads the absolute path of the acting executable.
    Source = 1,
    /// Reads an [`Endpoint`](super::Endpoint).
    Network = 2,
    /// Reads a domain name, written as a path from its last label ([`domain_path`](super::domain_path)).
    Name = 3,
    /// Reads one argument of an exec.
    Argument = 4,
    /// Reads the last component of a path. Its accept ids are rows of the tables of [`Automaton::Path`].
    Basename = 5,
}

impl Automaton {
    /// All of them, in their order.
    pub const ALL: [Self; AUTOMATA] =
        [Self::Path, Self::Source, Self::Network, Self::Name, Self::Argument, Self::Basename];
}

/// How the rows of an automaton lie (`enum pal_form`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Form {
    /// A row has a word for each byte class.
    Flat = 0,
    /// Only what differs from a row's most common target is there.
    Comb = 1,
}

/// Behaviour that has no path and no endpoint (`enum pal_preset`); the number is the accept id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Preset {
    /// Execution of what is in memory only.
    FilelessExec = 1,
    /// Executable memory that is no file's.
    AnonMapExec = 2,
    /// Reading of another process's environment.
    ProtectEnv = 3,
    /// Reading of another process's `/proc` entries.
    ProtectProc = 4,
    /// Any execution.
    Exec = 5,
}

/// Which decision table of a blob (`enum pal_family`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Family {
    /// Exec: path automaton.
    Process = 0,
    /// Open: path automaton.
    File = 1,
    /// Socket creation: network automaton.
    Socket = 2,
    /// Connect: network automaton.
    Connect = 3,
    /// Tracing: path automaton over the target's executable.
    Ptrace = 4,
    /// Use of a capability, by its number.
    Capability = 5,
    /// A system call, by its number.
    Syscall = 6,
    /// A question for a domain name: name automaton.
    Dns = 7,
    /// A [`Preset`].
    Preset = 8,
}

impl Family {
    /// All of them, in the order of their tables.
    pub const ALL: [Self; FAMILIES] = [
        Self::Process,
        Self::File,
        Self::Socket,
        Self::Connect,
        Self::Ptrace,
        Self::Capability,
        Self::Syscall,
        Self::Dns,
        Self::Preset,
    ];

    /// The automaton whose accept ids the family's table takes; `None` where they are numbers that need none.
    #[must_use]
    pub const fn automaton(self) -> Option<Automaton> {
        match self {
            Self::Process | Self::File | Self::Ptrace => Some(Automaton::Path),
            Self::Socket | Self::Connect => Some(Automaton::Network),
            Self::Dns => Some(Automaton::Name),
            Self::Capability | Self::Syscall | Self::Preset => None,
        }
    }

    /// Rows of the table, where they are numbers that need no automaton.
    #[must_use]
    pub const fn fixed_accepts(self) -> Option<u32> {
        match self {
            Self::Capability => Some(CAPABILITY_ACCEPTS),
            Self::Syscall => Some(SYSCALL_ACCEPTS),
            Self::Preset => Some(PRESET_ACCEPTS),
            _ => None,
        }
    }
}

/// `enum pal_effect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Effect {
    /// It happens, without a word.
    Permit = 0,
    /// It happens, with an alert.
    Audit = 1,
    /// It is denied, with an alert.
    Block = 2,
}

/// `struct pal_automaton_head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct AutomatonHead {
    /// The start state.
    pub start: u32,
    /// States before this word offset lead only to themselves.
    pub absorbing: u32,
    /// Words of all rows or cells.
    pub words: u32,
    /// [`Form`].
    pub form: u32,
    /// Byte to column of a row.
    pub class_of: [u8; 256],
}

impl AutomatonHead {
    /// Words of one flat row: the accept id, the self column and one column for each byte class.
    #[must_use]
    pub fn stride(&self) -> u32 {
        self.class_of.iter().copied().max().map_or(COLUMN_CLASSES, |last| u32::from(last).max(COLUMN_SELF) + 1)
    }

    /// Does it tell nothing apart, so that no walk is needed?
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        self.start < self.absorbing
    }
}

/// `struct pal_family_head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct FamilyHead {
    /// Word offset of the table.
    pub base: u32,
    /// Accept ids of the family's automaton.
    pub accepts: u32,
    /// Source ids; 1 where no rule of the family names a source.
    pub sources: u32,
    /// 1, 4 or 8.
    pub modifiers: u32,
}

/// `struct pal_blob_head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct BlobHead {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// Used words.
    pub words: u32,
    /// Bit n: family n has a table; otherwise everything in it is permitted.
    pub families: u32,
    /// By [`Automaton`].
    pub automaton: [AutomatonHead; AUTOMATA],
    /// By [`Family`].
    pub family: [FamilyHead; FAMILIES],
    /// Which argument is in which argument set: `sources` is one more than the sets, `modifiers` is 1; all zero without sets.
    pub arguments: FamilyHead,
    /// BLAKE3 of the head with this field zero, followed by the used words.
    pub digest: [u8; 32],
}

const _: () = {
    assert!(size_of::<AutomatonHead>() == 272);
    assert!(size_of::<FamilyHead>() == 16);
    assert!(size_of::<BlobHead>() == 1840);
    assert!(std::mem::offset_of!(BlobHead, automaton) == 16);
    assert!(std::mem::offset_of!(BlobHead, family) == 1648);
    assert!(std::mem::offset_of!(BlobHead, arguments) == 1792);
    assert!(std::mem::offset_of!(BlobHead, digest) == 1808);
    // Cells of the comb form are read as one word of eight bytes.
    assert!(size_of::<BlobHead>().is_multiple_of(8));
    assert!(align_of::<BlobHead>() == 4);
};

/// How large the kernel's copy of a blob is. Inner maps have one value size for each outer map, so sizes come in classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeClass {
    /// 2^12 words.
    K16,
    /// 2^15 words.
    K128,
    /// 2^18 words.
    M1,
    /// 2^21 words.
    M8,
}

impl SizeClass {
    /// From the smallest.
    pub const ALL: [Self; 4] = [Self::K16, Self::K128, Self::M1, Self::M8];
    /// The most words that any blob can have.
    pub const MAX_WORDS: usize = Self::M8.words();

    /// The smallest class that holds so many words; none holds more than [`Self::MAX_WORDS`].
    #[must_use]
    pub fn for_words(words: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| words <= class.words())
    }

    /// Log2 of the words (`PAL_BLOB_LOG2_*`).
    #[must_use]
    pub const fn log2_words(self) -> u32 {
        match self {
            Self::K16 => 12,
            Self::K128 => 15,
            Self::M1 => 18,
            Self::M8 => 21,
        }
    }

    /// Words.
    #[must_use]
    pub const fn words(self) -> usize {
        1 << self.log2_words()
    }

    /// Bytes of the inner map's single value: the head, then all words of the class.
    #[must_use]
    pub const fn value_bytes(self) -> usize {
        HEAD_BYTES + 4 * self.words()
    }
}

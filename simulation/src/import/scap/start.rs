//! What a capture tells of the machine before its first event.
//!
//! Machine (`0x201`): CPUs (4 bytes), memory (8), highest pid (8), host name (128, NUL padded), boot time (8, nanoseconds since 1970; 0 in older
//! captures), flags (8, the architecture in the highest byte; 0 before), 16 of no use.
//!
//! Processes (`0x215`): entry after entry of a thread each, their fields in the order of [`processes`]; each begins with its own length, so
//! that newer versions can add fields. Older lists have no lengths and other types: they are not read.
//!
//! Descriptors (`0x218`): a process (8 bytes), and entry after entry: length (4, all of it), descriptor (8), inode (8), type (1; 2 is a directory), and
//! of a directory the length of its name (2) and its name. The others are of no use here.
//!
//! Interfaces and users are not read: no fact of a trace is of them.

/// Type of the block of the machine.
pub const MACHINE: u32 = 0x201;
/// Type of the list of processes that is read.
pub const PROCESSES: u32 = 0x215;
/// Types of older ones.
pub const OLDER_PROCESSES: [u32; 11] =
    [0x202, 0x207, 0x209, 0x210, 0x211, 0x212, 0x213, 0x214, 0x8000_abcd, 0x8013_abcd, 0x8014_abcd];
/// Type of a process's descriptors.
pub const DESCRIPTORS: u32 = 0x218;
/// Types of lists that no fact of a trace is of, and of older lists of descriptors.
pub const OF_NO_USE: [u32; 8] = [0x203, 0x205, 0x206, 0x219, 0x220, 0x8001_abcd, 0x8011_abcd, 0x8012_abcd];
const DIRECTORY: u64 = 2;

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// Its name.
    pub node: String,
    /// Nanoseconds since 1970; 0 where it does not tell.
    pub booted_ns: u64,
    /// As `uname -m` has it; empty where it does not tell.
    pub architecture: &'static str,
}

impl Machine {
    /// Of the block's content.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Self> {
        let name = content.get(20..148)?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let u64_at = |at: usize| content.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        Some(Self {
            // What a machine without a name is called.
            node: String::from_utf8_lossy(if name == b"(none)" { b"" } else { name }).into_owned(),
            booted_ns: u64_at(148)?,
            architecture: match u64_at(156)? >> 56 {
                2 => "x86_64",
                3 => "aarch64",
                _ => "",
            },
        })
    }
}

/// A thread that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thread<'a> {
    pub tid: u32,
    pub pid: u32,
    pub parent: u32,
    pub comm: &'a [u8],
    /// Its first argument.
    pub argument: &'a [u8],
    /// Empty where it could not be read.
    pub executable: &'a [u8],
    /// The other arguments, each ended by NUL.
    pub arguments: &'a [u8],
    pub cwd: &'a [u8],
    pub uid: u32,
    pub gid: u32,
    pub own_pid: u32,
    pub cgroups: &'a [u8],
}

/// The entries of a list; an item that is none is a damaged rest.
pub fn processes(content: &[u8]) -> impl Iterator<Item = Option<Thread<'_>>> {
    let mut rest = content;
    std::iter::from_fn(move || {
        // What fills the block up to a multiple of 4.
        if rest.len() < 4 {
            return None;
        }
        let entry = Reading(rest).number(4).and_then(|length| {
            let (entry, behind) = rest.split_at_checked(usize::try_from(length).ok().filter(|length| *length >= 4)?)?;
            rest = behind;
            thread(&entry[4..])
        });
        if entry.is_none() {
            rest = &[];
        }
        Some(entry)
    })
}

fn thread(bytes: &[u8]) -> Option<Thread<'_>> {
    let mut reading = Reading(bytes);
    let (tid, pid, parent) = (reading.pid()?, reading.pid()?, reading.pid().unwrap_or_default());
    // Session and process group.
    reading.skip(8 + 8)?;
    let (comm, argument, executable) = (reading.text()?, reading.text()?, reading.text()?);
    let (arguments, cwd) = (reading.text()?, reading.text()?);
    // Limit of descriptors, flags.
    reading.skip(8 + 4)?;
    let (uid, gid) = (u32::try_from(reading.number(4)?).ok()?, u32::try_from(reading.number(4)?).ok()?);
    // Sizes of its memory, page faults.
    reading.skip(3 * 4 + 2 * 8)?;
    let _environment = reading.text()?;
    reading.skip(8)?;
    let own_pid = u32::try_from(reading.number(8)?).unwrap_or_default();
    let cgroups = reading.text()?;
    Some(Thread { tid, pid, parent, comm, argument, executable, arguments, cwd, uid, gid, own_pid, cgroups })
}

/// A descriptor, and the name of its directory.
pub type Directory<'a> = (i32, &'a [u8]);

/// Whose descriptors they are, and those of directories with their names; none where they are damaged.
#[must_use]
pub fn directories(content: &[u8]) -> Option<(u32, Vec<Directory<'_>>)> {
    let mut reading = Reading(content);
    let tid = reading.pid()?;
    let mut directories = Vec::new();
    while reading.0.len() >= 4 {
        let length = usize::try_from(reading.number(4)?).ok()?;
        let mut entry = Reading(reading.bytes(length.checked_sub(4)?)?);
        let (descriptor, _inode, kind) = (entry.number(8)?, entry.number(8)?, entry.number(1)?);
        if kind == DIRECTORY {
            directories.push((i32::try_from(descriptor).ok()?, entry.text()?));
        }
    }
    Some((tid, directories))
}

struct Reading<'a>(&'a [u8]);

impl<'a> Reading<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes(count).map(drop)
    }

    fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.bytes(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Eight bytes, and a number of 32 bits all the same; the whole field is read in any case.
    fn pid(&mut self) -> Option<u32> {
        self.number(8).and_then(|number| u32::try_from(number).ok())
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number(2)?).ok()?;
        self.bytes(length)
    }
}

//! The file's first bytes, the heads of blocks, and the trailer: all that is not compressed.
//!
//! Numbers are little-endian. Sums are the first 8 bytes of BLAKE3: the hash that the project has already, fast enough to vanish beside
//! zstd, and no flipped byte passes it. It is a checksum and no signature: who can write the file can write its sums.

/// The file's first 8 bytes. The first is in no text, the last shows a transfer that changed line ends.
pub const MAGIC: [u8; 8] = *b"\x89PALTRC\n";
/// Version of the format.
pub const VERSION: u16 = 1;
/// Bytes of the file's head.
pub const FILE_HEAD: usize = 16;
/// Bytes of a block's head.
pub const BLOCK_HEAD: usize = 56;
/// A block's first 4 bytes.
pub const BLOCK_MARK: [u8; 4] = *b"PBLK";
/// Bytes of the trailer.
pub const TRAILER: usize = 40;
/// The trailer's first 4 bytes.
pub const TRAILER_MARK: [u8; 4] = *b"PEND";
/// Bytes of a block's content, at most: a full batch of the longest records (512 of 16 KiB) behind a megabyte, and what their columns cost.
pub const MAX_CONTENT: usize = 16 << 20;
/// Bytes of a block as it is stored, at most: what zstd makes of content that it cannot compress.
pub const MAX_STORED: usize = MAX_CONTENT + (MAX_CONTENT >> 7) + 512;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// The header; block 0.
    Header = 1,
    /// Facts.
    Facts = 2,
    /// Kernel records.
    Records = 3,
    /// Where which block is; the last one.
    Index = 4,
    /// The processes that live at this place, for a reader that comes here without having read what is before.
    Checkpoint = 5,
}

impl BlockKind {
    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Header),
            2 => Some(Self::Facts),
            3 => Some(Self::Records),
            4 => Some(Self::Index),
            5 => Some(Self::Checkpoint),
            _ => None,
        }
    }
}

/// A block's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHead {
    /// What it holds.
    pub kind: BlockKind,
    /// Its number in the file, from 0.
    pub sequence: u32,
    /// Bytes of its content.
    pub content: u32,
    /// Bytes that follow the head.
    pub stored: u32,
    /// Kernel records in it.
    pub records: u32,
    /// Earliest time in it, `CLOCK_BOOTTIME` nanoseconds; 0 without any.
    pub first_ns: u64,
    /// Latest time in it.
    pub last_ns: u64,
    /// Sum of the bytes that follow the head.
    pub sum: u64,
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It does not begin as one, or its own sum is another.
    #[error("no block begins here")]
    NoHead,
    /// Its sum holds, and it says what this version does not know.
    #[error("a block of kind {kind} in encoding {encoding}, which this version does not know")]
    Unknown {
        /// What it says.
        kind: u8,
        /// What it says.
        encoding: u8,
    },
    /// Its sum holds, and it is larger than any block.
    #[error("a block of {content} bytes, stored as {stored}: at most {MAX_CONTENT} and {MAX_STORED}")]
    TooLarge {
        /// What it says.
        content: u32,
        /// What it says.
        stored: u32,
    },
}

/// The only encoding of content: CBOR under zstd.
const ENCODING: u8 = 1;

/// The first 8 bytes of BLAKE3.
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    hash.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// The file's head.
#[must_use]
pub fn file_head() -> [u8; FILE_HEAD] {
    let mut head = [0; FILE_HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..10].copy_from_slice(&VERSION.to_le_bytes());
    head
}

/// The version of a file that begins so; `None` where it is no trace.
#[must_use]
pub fn version_of(head: &[u8; FILE_HEAD]) -> Option<u16> {
    (head[..8] == MAGIC).then(|| u16::from_le_bytes(array(head, 8)))
}

impl BlockHead {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; BLOCK_HEAD] {
        let mut bytes = [0; BLOCK_HEAD];
        bytes[..4].copy_from_slice(&BLOCK_MARK);
        bytes[4] = self.kind as u8;
        bytes[5] = ENCODING;
        bytes[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.content.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.stored.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.records.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_ns.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.last_ns.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.sum.to_le_bytes());
        let own = sum(&bytes[..48]);
        bytes[48..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads one.
    ///
    /// # Errors
    /// See [`HeadError`].
    pub fn read(bytes: &[u8; BLOCK_HEAD]) -> Result<Self, HeadError> {
        if bytes[..4] != BLOCK_MARK || sum(&bytes[..48]) != u64_at(bytes, 48) {
            return Err(HeadError::NoHead);
        }
        let (kind, encoding) = (bytes[4], bytes[5]);
        let kind = BlockKind::of(kind).filter(|_| encoding == ENCODING).ok_or(HeadError::Unknown { kind, encoding })?;
        let (content, stored) = (u32_at(bytes, 12), u32_at(bytes, 16));
        if content as usize > MAX_CONTENT || stored as usize > MAX_STORED {
            return Err(HeadError::TooLarge { content, stored });
        }
        Ok(Self {
            kind,
            sequence: u32_at(bytes, 8),
            content,
            stored,
            records: u32_at(bytes, 20),
            first_ns: u64_at(bytes, 24),
            last_ns: u64_at(bytes, 32),
            sum: u64_at(bytes, 40),
        })
    }
}

/// The file's last bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Where the index block begins, from the file's first byte.
    pub index_at: u64,
    /// Blocks, the index among them.
    pub blocks: u32,
    /// Kernel records in all.
    pub records: u64,
}

impl Trailer {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..4].copy_from_slice(&TRAILER_MARK);
        bytes[4..8].copy_from_slice(&self.blocks.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.index_at.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.records.to_le_bytes());
        let own = sum(&bytes[..32]);
        bytes[32..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    /// Reads one; `None` where there is none.
    #[must_use]
    pub fn read(bytes: &[u8; TRAILER]) -> Option<Self> {
        (bytes[..4] == TRAILER_MARK && sum(&bytes[..32]) == u64_at(bytes, 32)).then(|| Self {
            blocks: u32_at(bytes, 4),
            index_at: u64_at(bytes, 8),
            records: u64_at(bytes, 16),
        })
    }
}

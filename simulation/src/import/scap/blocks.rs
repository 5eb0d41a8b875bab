//! The blocks of a capture file, as libscap writes them.
//!
//! | bytes | block |
//! |---|---|
//! | 0..4 | type |
//! | 4..8 | length, with this head and the trailer, a multiple of 4 |
//! | 8..length-4 | content |
//! | length-4..length | length again |
//!
//! The first is the section header (`0x0a0d0d0a`): `0x1a2b3c4d` in the writer's byte order, major and minor version (two bytes each), eight bytes
//! of no use. The file may be compressed with gzip as a whole.
//!
//! Invariant: no length is believed before its bytes are there: a buffer grows with what is read, and not past [`MAX_BLOCK`].

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

/// Bytes of the largest block that is read: the process list of 10,000 processes with all their environment takes some 40 MiB.
pub const MAX_BLOCK: u32 = 64 << 20;
/// Type of a section's header.
pub const SECTION: u32 = 0x0a0d_0d0a;
const MAGIC: u32 = 0x1a2b_3c4d;
const MAJOR: u16 = 1;
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Type and length.
const HEAD: u32 = 8;
/// Head and trailer.
const AROUND: u32 = HEAD + 4;

/// How a capture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// After a whole block.
    Whole,
    /// Within the block that begins at this byte of the uncompressed file.
    Cut(u64),
    /// The block that begins there is none; behind it nothing is read.
    Damaged(u64),
}

/// A capture, block by block.
pub struct Blocks<'a> {
    from: Box<dyn BufRead + 'a>,
    at: u64,
    content: Vec<u8>,
    ending: Option<Ending>,
}

impl<'a> Blocks<'a> {
    /// Reads the section's header.
    ///
    /// # Errors
    /// The source fails, or it is no capture that is read here: in words.
    pub fn open(mut from: impl BufRead + 'a) -> Result<Self, io::Error> {
        let is_gzip = from.fill_buf()?.starts_with(&GZIP);
        let from: Box<dyn BufRead + 'a> =
            if is_gzip { Box::new(BufReader::new(MultiGzDecoder::new(from))) } else { Box::new(from) };
        let mut blocks = Self { from, at: 0, content: Vec::new(), ending: None };
        let refused = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        match blocks.next_block()? {
            Some((SECTION, content)) => {
                let number = content.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                let major =
                    content.get(4..6).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_le_bytes(*bytes));
                match (number, major) {
                    (MAGIC, MAJOR) => Ok(blocks),
                    (MAGIC, major) => refused(format!("its version is {major}, and {MAJOR} is read")),
                    _ if number.swap_bytes() == MAGIC => refused("it is of a big-endian machine".into()),
                    _ => refused("its section header has not the number of one".into()),
                }
            }
            _ => refused("it does not begin with a section header".into()),
        }
    }

    /// The next block's type and content; none at the end, of which [`Self::ending`] tells.
    ///
    /// # Errors
    /// The source fails for another reason than what is in it.
    pub fn next_block(&mut self) -> io::Result<Option<(u32, &[u8])>> {
        if self.ending.is_some() {
            return Ok(None);
        }
        match self.take() {
            Ok(Ok(kind)) => Ok(Some((kind, &self.content))),
            Ok(Err(ending)) => {
                self.ending = Some(ending);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn take(&mut self) -> io::Result<Result<u32, Ending>> {
        let at = self.at;
        match self.read(u64::from(HEAD), at)? {
            Ok(()) => {}
            Err(Ending::Cut(_)) if self.content.is_empty() => return Ok(Err(Ending::Whole)),
            Err(ending) => return Ok(Err(ending)),
        }
        let (kind, length) = (number(&self.content, 0), number(&self.content, 4));
        if !(AROUND..=MAX_BLOCK).contains(&length) || length % 4 != 0 {
            return Ok(Err(Ending::Damaged(at)));
        }
        if let Err(ending) = self.read(u64::from(length - HEAD), at)? {
            return Ok(Err(ending));
        }
        let end = self.content.len() - 4;
        if number(&self.content, end) != length {
            return Ok(Err(Ending::Damaged(at)));
        }
        self.content.truncate(end);
        self.at = at + u64::from(length);
        Ok(Ok(kind))
    }

    /// So many bytes into the content, of the block that begins at `at`. What gzip cannot unpack is damage.
    fn read(&mut self, bytes: u64, at: u64) -> io::Result<Result<(), Ending>> {
        self.content.clear();
        match self.from.by_ref().take(bytes).read_to_end(&mut self.content) {
            Ok(read) if read as u64 == bytes => Ok(Ok(())),
            Ok(_) => Ok(Err(Ending::Cut(at))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                // Not `Whole`, though no byte of a block be there: the compressed file has no end.
                self.content.push(0);
                Ok(Err(Ending::Cut(at)))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                Ok(Err(Ending::Damaged(at)))
            }
            Err(error) => Err(error),
        }
    }

    /// How it ended; `Whole` before the end.
    #[must_use]
    pub fn ending(&self) -> Ending {
        self.ending.unwrap_or(Ending::Whole)
    }

    /// Where the block that was read last ends, in bytes of the uncompressed file.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

//! Reading of a seekable trace only what a time and a workload are in.

use std::{
    collections::BTreeSet,
    io::{self, Read, Seek, SeekFrom},
};

use palisade_domain::Slot;

use super::{
    block::Block,
    cbor::Reading,
    frame::{BLOCK_HEAD, BlockHead, BlockKind, FILE_HEAD, TRAILER, Trailer},
    index::{self, Entry},
};

/// The index of a whole trace, by its last bytes; `None` where there is none, and the trace must be read in order. The place in `file` is
/// its first byte then.
///
/// # Errors
/// What gives the bytes failed.
pub fn index_of(file: &mut (impl Read + Seek)) -> io::Result<Option<Vec<Entry>>> {
    let length = file.seek(SeekFrom::End(0))?;
    let found = read(file, length)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}

/// The trailer, where it holds.
fn trailer(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<Trailer>> {
    let Some(ends) = length.checked_sub(TRAILER as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(ends))?;
    let mut bytes = [0; TRAILER];
    file.read_exact(&mut bytes)?;
    let within = |trailer: &Trailer| trailer.index_at.saturating_add(BLOCK_HEAD as u64) <= ends;
    Ok(Trailer::read(&bytes).filter(within))
}

fn read(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<Vec<Entry>>> {
    let Some(trailer) = trailer(file, length)? else { return Ok(None) };
    let ends = length - TRAILER as u64;
    file.seek(SeekFrom::Start(trailer.index_at))?;
    let mut head = [0; BLOCK_HEAD];
    file.read_exact(&mut head)?;
    let fits = |head: &BlockHead| {
        head.kind == BlockKind::Index && trailer.index_at + (BLOCK_HEAD as u64) + u64::from(head.stored) == ends
    };
    let Some(head) = BlockHead::read(&head).ok().filter(fits) else { return Ok(None) };
    let mut stored = Vec::new();
    file.take(u64::from(head.stored)).read_to_end(&mut stored)?;
    let content = Block::content(&head, &stored);
    Ok(content.ok().and_then(|content| index::read(&mut Reading::new(&content)).ok()))
}

/// Earliest time of all records, `CLOCK_BOOTTIME` nanoseconds, by the heads of the blocks alone; `u64::MAX` where there is none, `None` where
/// a head is damaged, behind which a reader seeks the next one. The place in `file` is its first byte then.
///
/// A file that ends early, behind a block or inside one, has no record beyond what its heads tell.
///
/// # Errors
/// What gives the bytes failed.
pub fn first_ns(file: &mut (impl Read + Seek)) -> io::Result<Option<u64>> {
    let (mut at, mut first) = (FILE_HEAD as u64, u64::MAX);
    let found = loop {
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::with_capacity(BLOCK_HEAD);
        file.by_ref().take(BLOCK_HEAD as u64).read_to_end(&mut bytes)?;
        if bytes.first_chunk::<TRAILER>().and_then(Trailer::read).is_some() {
            break Some(first);
        }
        let Some(head) = bytes.first_chunk() else { break Some(first) };
        let Ok(head) = BlockHead::read(head) else { break None };
        if head.kind == BlockKind::Records {
            first = first.min(head.first_ns);
        }
        at += (BLOCK_HEAD as u64) + u64::from(head.stored);
    };
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}

/// What is sought. Times are `CLOCK_BOOTTIME` nanoseconds, both ends among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The first moment.
    pub from_ns: u64,
    /// The last one.
    pub until_ns: u64,
    /// Of these workloads; none: of all.
    pub slots: Option<BTreeSet<Slot>>,
}

/// Gives the bytes of a trace without the blocks of records that cannot hold what is asked for, so that a
/// [`TraceReader`](super::TraceReader) never sees them: header, all facts, index and trailer; the blocks that may hold it; and what
/// stands between the first of these and the checkpoint before it, so that its processes are known.
///
/// Limit: of a workload, processes outside of it (a runtime's shim) are known as far as these blocks tell.
#[derive(Debug)]
pub struct Sought<F> {
    file: F,
    /// What is read, in order: from, to.
    spans: std::vec::IntoIter<(u64, u64)>,
    left: u64,
}

/// Which entries are read.
fn chosen(index: &[Entry], wanted: &Wanted) -> Vec<bool> {
    let holds = |entry: &Entry| entry.may_hold(wanted.from_ns, wanted.until_ns, wanted.slots.as_ref());
    let first = index.iter().position(holds).unwrap_or(0);
    let before = index.get(..first).unwrap_or_default();
    let checkpoint = before.iter().rposition(|entry| entry.kind == BlockKind::Checkpoint);
    let is_read = |(at, entry): (usize, &Entry)| match entry.kind {
        BlockKind::Header | BlockKind::Facts | BlockKind::Index => true,
        BlockKind::Checkpoint => checkpoint == Some(at),
        BlockKind::Records => holds(entry) || (at < first && checkpoint.is_none_or(|checkpoint| at > checkpoint)),
    };
    index.iter().enumerate().map(is_read).collect()
}

impl<F: Read + Seek> Sought<F> {
    /// By an index of this very file.
    ///
    /// # Errors
    /// What gives the bytes failed.
    pub fn new(mut file: F, index: &[Entry], wanted: &Wanted) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        // An index without its trailer is none of a file.
        let index_at = trailer(&mut file, length)?.map_or(length, |trailer| trailer.index_at);
        let ends = index.iter().skip(1).map(|entry| entry.at).chain([index_at]);
        let first = index.first().map_or(index_at, |entry| entry.at);
        let mut spans = vec![(0, first)];
        let read = chosen(index, wanted);
        spans.extend(
            index.iter().zip(ends).zip(read).filter(|(_, read)| *read).map(|((entry, end), _)| (entry.at, end)),
        );
        spans.push((index_at, length));
        Ok(Self { file, spans: spans.into_iter(), left: 0 })
    }
}

impl<F: Read + Seek> Read for Sought<F> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let Some((from, to)) = self.spans.next() else { return Ok(0) };
            self.file.seek(SeekFrom::Start(from))?;
            self.left = to.saturating_sub(from);
        }
        let most = usize::try_from(self.left).map_or(out.len(), |left| left.min(out.len()));
        let count = self.file.read(&mut out[..most])?;
        self.left = if count == 0 { 0 } else { self.left - count as u64 };
        Ok(count)
    }
}

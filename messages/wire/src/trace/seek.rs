//! Reading of a seekable trace only what a time and a workload are in.

use std::io::{self, Read, Seek, SeekFrom};

use palisade_domain::Slot;

use super::{
    block::Block,
    cbor::Reading,
    frame::{BLOCK_HEAD, BlockHead, BlockKind, TRAILER, Trailer},
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

fn read(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<Vec<Entry>>> {
    let Some(ends) = length.checked_sub(TRAILER as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(ends))?;
    let mut bytes = [0; TRAILER];
    file.read_exact(&mut bytes)?;
    let within = |trailer: &Trailer| trailer.index_at.saturating_add(BLOCK_HEAD as u64) <= ends;
    let Some(trailer) = Trailer::read(&bytes).filter(within) else { return Ok(None) };
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

/// Gives the bytes of a trace without the blocks of records that cannot hold what is asked for, so that a
/// [`TraceReader`](super::TraceReader) never sees them: header, facts, index and trailer, and the blocks that may.
#[derive(Debug)]
pub struct Sought<F> {
    file: F,
    /// What is read, in order: from, to.
    spans: std::vec::IntoIter<(u64, u64)>,
    left: u64,
}

impl<F: Read + Seek> Sought<F> {
    /// By an index of this very file.
    ///
    /// # Errors
    /// What gives the bytes failed.
    pub fn new(mut file: F, index: &[Entry], from_ns: u64, until_ns: u64, slot: Option<Slot>) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let ends = index.iter().skip(1).map(|entry| entry.at).chain([length]);
        let mut spans: Vec<(u64, u64)> = Vec::new();
        let first = index.first().map_or(length, |entry| entry.at);
        spans.push((0, first));
        let mut last_end = first;
        for (entry, end) in index.iter().zip(ends) {
            // The last entry reaches over the index to the file's end.
            let is_last = end == length;
            if entry.may_hold(from_ns, until_ns, slot) || is_last {
                spans.push((entry.at.max(last_end), end));
            }
            last_end = end;
        }
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

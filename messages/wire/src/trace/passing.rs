//! What the heads of a trace say while its bytes pass by: for who hands them on and does not read them.

use super::frame::{
    BLOCK_HEAD, BLOCK_MARK, BlockHead, BlockKind, FILE_HEAD, TRAILER, TRAILER_MARK, Trailer, version_of,
};

/// See the module. It keeps no more than a head.
#[derive(Debug, Clone, Default)]
pub struct Passing {
    /// Of the head that is coming.
    head: Vec<u8>,
    /// Bytes of a block's content that are still to come.
    content: u64,
    began: bool,
    /// Bytes that passed.
    pub bytes: u64,
    /// Records of the blocks whose heads passed.
    pub records: u64,
    /// Times of the earliest and the latest of them, `CLOCK_BOOTTIME` nanoseconds; none before the first.
    pub times: Option<(u64, u64)>,
    /// The trailer passed, and nothing after it.
    pub is_whole: bool,
    /// Something passed that is no part of a trace: what is said of the rest is nothing.
    pub is_lost: bool,
}

impl Passing {
    /// These came.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() && !self.is_lost {
            if self.content > 0 {
                let over = usize::try_from(self.content).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.content -= over as u64;
                bytes = &bytes[over..];
                continue;
            }
            let missing = self.head_len().saturating_sub(self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.head.len() >= self.head_len() {
                self.headed();
            }
        }
    }

    /// Bytes of the head that is coming, as far as its first ones tell it.
    fn head_len(&self) -> usize {
        match self.head.get(..4) {
            _ if !self.began => FILE_HEAD,
            Some(mark) if mark == TRAILER_MARK => TRAILER,
            Some(mark) if mark == BLOCK_MARK => BLOCK_HEAD,
            _ => 4,
        }
    }

    fn headed(&mut self) {
        if self.is_whole {
            self.is_whole = false;
            self.is_lost = true;
            return;
        }
        if !self.began {
            self.began = self.head.first_chunk().and_then(version_of).is_some();
            self.is_lost = !self.began;
            self.head.clear();
            return;
        }
        match self.head.len() {
            TRAILER => self.is_whole = self.head.first_chunk().and_then(Trailer::read).is_some(),
            BLOCK_HEAD => {
                let Some(Ok(head)) = self.head.first_chunk().map(BlockHead::read) else {
                    self.is_lost = true;
                    return;
                };
                self.content = u64::from(head.stored);
                if head.kind == BlockKind::Records {
                    self.records += u64::from(head.records);
                    let (first, last) = self.times.unwrap_or((head.first_ns, head.last_ns));
                    self.times = Some((first.min(head.first_ns), last.max(head.last_ns)));
                }
            }
            // Four bytes that begin neither.
            _ => {
                self.is_lost = self.head.get(..4).is_some_and(|mark| mark != TRAILER_MARK && mark != BLOCK_MARK);
                return;
            }
        }
        self.is_lost |= self.head.len() == TRAILER && !self.is_whole;
        self.head.clear();
    }
}

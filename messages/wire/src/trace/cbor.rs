//! CBOR items one at a time, to and from a slice.
//!
//! Invariant: a length is held against the bytes that are left, and what is made of it against the memory that is left ([`Reading::within`]),
//! before anything is allocated; an item that is not the one asked for, or too large, is named, with its place. Indefinite lengths, floats
//! and tags are refused: nothing here writes them.
//!
//! Decision: memory is counted as it is made, element by element, and not by the bytes of text, because an empty text is one byte and the
//! string of it is [`OWNED`]: a mebibyte of zstd unfolds to gigabytes of empty strings. Who writes counts the same ([`Items::memory`]), so
//! that nothing is written that is not read.

use ciborium_ll::{Decoder, Encoder, Header, simple};

/// Bytes of memory that a text or bytes of their own cost beside what they say: where they are in what they are part of, and what an
/// allocation takes.
pub const OWNED: usize = 48;

/// Why items are not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Something else stands there.
    #[error("{what} wanted at byte {at}")]
    Wanted {
        /// What is wanted.
        what: &'static str,
        /// Where in the block's content.
        at: usize,
    },
    /// It would take more memory than there is for it.
    #[error("{what} at byte {at} would take {bytes} bytes of memory where {left} are left")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Where in the block's content.
        at: usize,
        /// How much it takes.
        bytes: usize,
        /// How much there is.
        left: usize,
    },
}

/// Writes items behind each other.
#[derive(Debug, Default)]
pub struct Items {
    bytes: Vec<u8>,
    memory: usize,
}

impl Items {
    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes of memory that a reader needs for what it makes of them.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// A reader makes something of so many bytes beside what its lists and texts take.
    pub const fn takes(&mut self, memory: usize) {
        self.memory = self.memory.saturating_add(memory);
    }

    /// A list of so many elements follows, each of `items` items, which are read as `T`.
    pub fn list<T>(&mut self, elements: usize, items: usize) {
        self.takes(elements.saturating_mul(size_of::<T>()));
        self.array(elements.saturating_mul(items));
    }

    /// A text that is kept.
    pub fn owned(&mut self, text: &str) {
        self.takes(OWNED + text.len());
        self.text(text);
    }

    /// Bytes that are kept.
    pub fn owned_bytes(&mut self, bytes: &[u8]) {
        self.takes(OWNED + bytes.len());
        self.bytes(bytes);
    }

    /// Items that were written elsewhere.
    pub fn append(&mut self, items: &[u8]) {
        self.bytes.extend_from_slice(items);
    }

    fn push(&mut self, header: Header) {
        // A vector takes whatever comes.
        let _ = Encoder::from(&mut self.bytes).push(header);
    }

    /// A map of so many pairs follows.
    pub fn map(&mut self, pairs: usize) {
        self.push(Header::Map(Some(pairs)));
    }

    /// An array of so many items follows.
    pub fn array(&mut self, items: usize) {
        self.push(Header::Array(Some(items)));
    }

    /// A number.
    pub fn number(&mut self, number: impl Into<u64>) {
        self.push(Header::Positive(number.into()));
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.push(Header::Text(Some(text.len())));
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.push(Header::Bytes(Some(bytes.len())));
        self.bytes.extend_from_slice(bytes);
    }

    /// Nothing.
    pub fn null(&mut self) {
        self.push(Header::Simple(simple::NULL));
    }
}

/// Reads what [`Items`] writes.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    all: &'a [u8],
    at: usize,
    /// Bytes of memory that may still be made of it.
    left: usize,
}

impl<'a> Reading<'a> {
    /// From the first byte on, where nothing that is made of it needs a bound of its own.
    #[must_use]
    pub const fn new(all: &'a [u8]) -> Self {
        Self::within(all, usize::MAX)
    }

    /// From the first byte on; lists and what is kept take no more than so many bytes of memory.
    #[must_use]
    pub const fn within(all: &'a [u8], memory: usize) -> Self {
        Self { all, at: 0, left: memory }
    }

    /// Bytes of memory that are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Something of so many bytes is made.
    ///
    /// # Errors
    /// Where so many are not left.
    pub const fn take_memory(&mut self, bytes: usize, what: &'static str) -> Result<(), CborError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(CborError::TooLarge { what, at: self.at, bytes, left: self.left }),
        }
    }

    /// A list whose elements are of `items` items each.
    ///
    /// # Errors
    /// See [`Self::map`]; [`CborError::TooLarge`]; those of `read`.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        items: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, CborError>,
    ) -> Result<Vec<T>, CborError> {
        let count = self.elements(what, items)?;
        self.take_memory(count.saturating_mul(size_of::<T>()), what)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// How many elements of `items` items each follow in an array.
    ///
    /// # Errors
    /// See [`Self::map`].
    pub fn elements(&mut self, what: &'static str, items: usize) -> Result<usize, CborError> {
        let at = self.wanted(what);
        let count = self.array(what)?;
        if count.is_multiple_of(items) { Ok(count / items) } else { Err(at) }
    }

    /// A text that is kept.
    ///
    /// # Errors
    /// See [`Self::map`]; [`CborError::TooLarge`].
    pub fn owned(&mut self, what: &'static str) -> Result<String, CborError> {
        let text = self.text(what)?;
        self.take_memory(OWNED + text.len(), what)?;
        Ok(text.to_owned())
    }

    /// Bytes that are kept.
    ///
    /// # Errors
    /// See [`Self::owned`].
    pub fn owned_bytes(&mut self, what: &'static str) -> Result<&'a [u8], CborError> {
        let bytes = self.bytes(what)?;
        self.take_memory(OWNED + bytes.len(), what)?;
        Ok(bytes)
    }

    /// Whether all is read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.at == self.all.len()
    }

    /// An error of this place.
    #[must_use]
    pub const fn wanted(&self, what: &'static str) -> CborError {
        CborError::Wanted { what, at: self.at }
    }

    fn rest(&self) -> &'a [u8] {
        self.all.get(self.at..).unwrap_or_default()
    }

    fn pull(&mut self, what: &'static str) -> Result<Header, CborError> {
        let mut decoder = Decoder::from(self.rest());
        let header = decoder.pull().map_err(|_| self.wanted(what))?;
        self.at += decoder.offset();
        Ok(header)
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], CborError> {
        let taken = self.rest().get(..len).ok_or(self.wanted(what))?;
        self.at += len;
        Ok(taken)
    }

    /// A map; how many pairs, never more than there are bytes for.
    ///
    /// # Errors
    /// Where there is none. So for all others.
    pub fn map(&mut self, what: &'static str) -> Result<usize, CborError> {
        match self.pull(what)? {
            Header::Map(Some(pairs)) if pairs <= self.rest().len() / 2 => Ok(pairs),
            _ => Err(self.wanted(what)),
        }
    }

    /// An array; how many items, never more than there are bytes for.
    ///
    /// # Errors
    /// See [`Self::map`].
    pub fn array(&mut self, what: &'static str) -> Result<usize, CborError> {
        match self.pull(what)? {
            Header::Array(Some(items)) if items <= self.rest().len() => Ok(items),
            _ => Err(self.wanted(what)),
        }
    }

    /// A number that fits.
    ///
    /// # Errors
    /// See [`Self::map`].
    pub fn number<N: TryFrom<u64>>(&mut self, what: &'static str) -> Result<N, CborError> {
        match self.pull(what)? {
            Header::Positive(number) => N::try_from(number).map_err(|_| self.wanted(what)),
            _ => Err(self.wanted(what)),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// See [`Self::map`].
    pub fn text(&mut self, what: &'static str) -> Result<&'a str, CborError> {
        match self.pull(what)? {
            Header::Text(Some(len)) => {
                let at = self.wanted(what);
                std::str::from_utf8(self.take(len, what)?).map_err(|_| at)
            }
            _ => Err(self.wanted(what)),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// See [`Self::map`].
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], CborError> {
        match self.pull(what)? {
            Header::Bytes(Some(len)) => self.take(len, what),
            _ => Err(self.wanted(what)),
        }
    }

    /// What `read` reads, or nothing where null stands.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CborError>,
    ) -> Result<Option<T>, CborError> {
        let before = *self;
        if matches!(self.pull("an item")?, Header::Simple(simple::NULL)) {
            return Ok(None);
        }
        *self = before;
        read(self).map(Some)
    }

    /// The pairs of a map with the integer keys from 1 on, in order: each is asked for by its number.
    ///
    /// # Errors
    /// Where another number stands.
    pub fn key(&mut self, key: u64, what: &'static str) -> Result<(), CborError> {
        let at = self.wanted(what);
        if self.number::<u64>(what)? == key { Ok(()) } else { Err(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_cbor_reads_what_it_writes_and_allocates_for_no_length_that_is_not_there() {
        let mut items = Items::default();
        items.map(2);
        items.number(1_u64);
        items.text("é");
        items.number(2_u64);
        items.array(2);
        items.bytes(&[1, 2]);
        items.null();
        let bytes = items.into_bytes();
        let mut reading = Reading::new(&bytes);
        assert_eq!(reading.map("a map"), Ok(2));
        assert_eq!((reading.key(1, "key"), reading.text("text")), (Ok(()), Ok("é")));
        assert_eq!((reading.key(2, "key"), reading.array("array")), (Ok(()), Ok(2)));
        assert_eq!(reading.bytes("bytes"), Ok(&[1, 2][..]));
        assert_eq!(reading.optional(|r| r.number::<u8>("number")), Ok(None));
        assert!(reading.is_over());
        // An array, a map, a text and bytes of 2^60.
        for first in [0x9b_u8, 0xbb, 0x7b, 0x5b] {
            let mut huge = vec![first];
            huge.extend_from_slice(&(1_u64 << 60).to_be_bytes());
            let mut reading = Reading::new(&huge);
            let errors = [
                Reading::new(&huge).map("m").is_err(),
                Reading::new(&huge).array("a").is_err(),
                Reading::new(&huge).text("t").is_err(),
                reading.bytes("b").is_err(),
            ];
            assert_eq!(errors, [true; 4]);
        }
        let mut lists = Items::default();
        lists.list::<String>(3, 1);
        ["", "", "abc"].into_iter().for_each(|text| lists.owned(text));
        assert_eq!(lists.memory(), 3 * size_of::<String>() + 3 * OWNED + 3);
        let (memory, bytes) = (lists.memory(), lists.into_bytes());
        let read = |memory| {
            let mut reading = Reading::within(&bytes, memory);
            reading.list("texts", 1, |reading| reading.owned("a text")).map(|texts| (texts.len(), reading.left()))
        };
        assert_eq!(read(memory), Ok((3, 0)));
        let error = CborError::TooLarge { what: "a text", at: 7, bytes: OWNED + 3, left: OWNED + 2 };
        assert_eq!(read(memory - 1), Err(error));
        assert!(matches!(read(71), Err(CborError::TooLarge { what: "texts", bytes: 72, left: 71, .. })));
        // Of no certain length, a float, a tag, a number that does not fit, text that is none.
        for wrong in [&[0x9f_u8, 0xff][..], &[0xfa, 0, 0, 0, 0], &[0xc1, 1], &[0x19, 1, 0], &[0x61, 0xff], &[]] {
            let mut reading = Reading::new(wrong);
            assert!(reading.array("a").is_err() && Reading::new(wrong).text("t").is_err());
            assert!(Reading::new(wrong).number::<u8>("n").is_err());
        }
    }
}

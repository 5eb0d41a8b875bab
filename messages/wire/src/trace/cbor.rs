//! CBOR items one at a time, to and from a slice.
//!
//! Invariant: a length is held against the bytes that are left before anything is allocated, and an item that is not the one asked for is
//! named, with its place. Indefinite lengths, floats and tags are refused: nothing here writes them.

use ciborium_ll::{Decoder, Encoder, Header, simple};

/// What stands where something else was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} wanted at byte {at}")]
pub struct CborError {
    /// What is wanted.
    pub what: &'static str,
    /// Where in the block's content.
    pub at: usize,
}

/// Writes items behind each other.
#[derive(Debug, Default)]
pub struct Items(Vec<u8>);

impl Items {
    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Items that were written elsewhere.
    pub fn append(&mut self, items: &[u8]) {
        self.0.extend_from_slice(items);
    }

    fn push(&mut self, header: Header) {
        // A vector takes whatever comes.
        let _ = Encoder::from(&mut self.0).push(header);
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
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.push(Header::Bytes(Some(bytes.len())));
        self.0.extend_from_slice(bytes);
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
}

impl<'a> Reading<'a> {
    /// From the first byte on.
    #[must_use]
    pub const fn new(all: &'a [u8]) -> Self {
        Self { all, at: 0 }
    }

    /// Whether all is read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.at == self.all.len()
    }

    /// An error of this place.
    #[must_use]
    pub const fn wanted(&self, what: &'static str) -> CborError {
        CborError { what, at: self.at }
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
        // Of no certain length, a float, a tag, a number that does not fit, text that is none.
        for wrong in [&[0x9f_u8, 0xff][..], &[0xfa, 0, 0, 0, 0], &[0xc1, 1], &[0x19, 1, 0], &[0x61, 0xff], &[]] {
            let mut reading = Reading::new(wrong);
            assert!(reading.array("a").is_err() && Reading::new(wrong).text("t").is_err());
            assert!(Reading::new(wrong).number::<u8>("n").is_err());
        }
    }
}

//! CBOR (RFC 8949) read from a slice within bounds, and written to a vector.
//!
//! Invariant: reading allocates nothing, looks at each byte once, and never follows a nested item deeper than [`DEEPEST`]. Only definite
//! lengths are read, for only those can be held to a bound before anything of the item is there.
//! Decision: the lower half of ciborium and not serde, because serde names fields by text, and a general value would be allocated before
//! it is refused.

use ciborium_ll::{Decoder, Encoder, Header};

/// Items within items that are skipped; ours have two.
pub(super) const DEEPEST: usize = 8;

/// What is wrong with some CBOR, and at which byte of the frame's body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// It ends too early.
    #[error("it ends at byte {0}, within an item")]
    Ends(usize),
    /// Not CBOR.
    #[error("byte {0} is not CBOR")]
    Syntax(usize),
    /// Another kind of item than is expected.
    #[error("byte {at} is not {expected}")]
    Kind {
        /// Where.
        at: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// More than its bound.
    #[error("at byte {at}: {length} of at most {most} {what}")]
    TooLong {
        /// Where.
        at: usize,
        /// Of what.
        what: &'static str,
        /// How many are said to follow.
        length: u64,
        /// How many may.
        most: u64,
    },
    /// Text that is not UTF-8.
    #[error("the text at byte {0} is not UTF-8")]
    NotText(usize),
    /// Items within items within items.
    #[error("byte {0} is nested deeper than is read")]
    Deep(usize),
    /// More bytes than the item has.
    #[error("{0} bytes follow the item")]
    Trailing(usize),
}

/// Reads items one after the other.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(whole: &'a [u8]) -> Self {
        Self { whole, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    fn header(&mut self) -> Result<Header, CborError> {
        // What stands before most messages, without the general decoder: a byte string of up to 255 bytes.
        if let Some([0x58, length, ..]) = self.whole.get(self.at..) {
            self.at += 2;
            return Ok(Header::Bytes(Some(usize::from(*length))));
        }
        let rest = self.whole.get(self.at..).unwrap_or_default();
        let mut decoder = Decoder::from(rest);
        match decoder.pull() {
            Ok(header) => {
                self.at += decoder.offset();
                Ok(header)
            }
            Err(ciborium_ll::Error::Io(_)) => Err(CborError::Ends(self.whole.len())),
            Err(ciborium_ll::Error::Syntax(offset)) => Err(CborError::Syntax(self.at + offset)),
        }
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, CborError> {
        let at = self.at;
        match self.header()? {
            Header::Positive(value) => Ok(value),
            _ => Err(CborError::Kind { at, expected: "a whole number" }),
        }
    }

    /// The range of a byte string within the whole.
    pub(super) fn bytes(&mut self, most: usize) -> Result<std::ops::Range<usize>, CborError> {
        let at = self.at;
        match self.header()? {
            Header::Bytes(Some(length)) => self.take(at, length, most, "bytes"),
            _ => Err(CborError::Kind { at, expected: "a byte string of a stated length" }),
        }
    }

    pub(super) fn text(&mut self, most: usize) -> Result<&'a str, CborError> {
        let at = self.at;
        match self.header()? {
            Header::Text(Some(length)) => {
                let range = self.take(at, length, most, "bytes of text")?;
                std::str::from_utf8(&self.whole[range]).map_err(|_| CborError::NotText(at))
            }
            _ => Err(CborError::Kind { at, expected: "a text of a stated length" }),
        }
    }

    pub(super) fn array(&mut self, most: usize) -> Result<usize, CborError> {
        let at = self.at;
        match self.header()? {
            Header::Array(Some(length)) => bounded(at, length, most, "items"),
            _ => Err(CborError::Kind { at, expected: "an array of a stated length" }),
        }
    }

    pub(super) fn map(&mut self, most: usize) -> Result<usize, CborError> {
        let at = self.at;
        match self.header()? {
            Header::Map(Some(length)) => bounded(at, length, most, "keys"),
            _ => Err(CborError::Kind { at, expected: "a map of a stated length" }),
        }
    }

    /// Passes over one item, whatever it is.
    pub(super) fn skip(&mut self) -> Result<(), CborError> {
        self.skip_within(DEEPEST)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), CborError> {
        let at = self.at;
        let Some(depth) = depth.checked_sub(1) else { return Err(CborError::Deep(at)) };
        let items = match self.header()? {
            Header::Positive(_) | Header::Negative(_) | Header::Float(_) | Header::Simple(_) => 0,
            Header::Bytes(Some(length)) | Header::Text(Some(length)) => {
                self.take(at, length, self.whole.len(), "bytes")?;
                0
            }
            Header::Tag(_) => 1,
            // Each item has a byte at least: more than there are bytes left end by `Ends`.
            Header::Array(Some(length)) => length,
            Header::Map(Some(length)) => length.saturating_mul(2),
            Header::Bytes(None) | Header::Text(None) | Header::Array(None) | Header::Map(None) | Header::Break => {
                return Err(CborError::Kind { at, expected: "an item of a stated length" });
            }
        };
        (0..items).try_for_each(|_| self.skip_within(depth))
    }

    pub(super) fn end(&self) -> Result<(), CborError> {
        match self.whole.len() - self.at {
            0 => Ok(()),
            more => Err(CborError::Trailing(more)),
        }
    }

    fn take(
        &mut self,
        at: usize,
        length: usize,
        most: usize,
        what: &'static str,
    ) -> Result<std::ops::Range<usize>, CborError> {
        let length = bounded(at, length, most, what)?;
        let (start, end) = (self.at, self.at + length);
        if end > self.whole.len() {
            return Err(CborError::Ends(self.whole.len()));
        }
        self.at = end;
        Ok(start..end)
    }
}

fn bounded(at: usize, length: usize, most: usize, what: &'static str) -> Result<usize, CborError> {
    if length <= most {
        return Ok(length);
    }
    Err(CborError::TooLong { at, what, length: length as u64, most: most as u64 })
}

/// Writes items one after the other, each in its shortest form.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn header(&mut self, header: Header) {
        // Writing to a vector does not fail.
        let written = Encoder::from(&mut *self.0).push(header);
        debug_assert!(written.is_ok(), "a vector takes what it is given");
    }

    pub(super) fn unsigned(&mut self, value: u64) {
        self.header(Header::Positive(value));
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        match u8::try_from(value.len()) {
            // The same as below for most messages, without the general encoder.
            Ok(length @ 24..) => self.0.extend_from_slice(&[0x58, length]),
            _ => self.header(Header::Bytes(Some(value.len()))),
        }
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.header(Header::Text(Some(value.len())));
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(super) fn array(&mut self, length: usize) {
        self.header(Header::Array(Some(length)));
    }

    pub(super) fn map(&mut self, length: usize) {
        self.header(Header::Map(Some(length)));
    }
}

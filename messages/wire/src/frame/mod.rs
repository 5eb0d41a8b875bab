//! Frames between nodes: what stands on the streams of a link, and the questions and answers within its messages.
//!
//! On a stream each frame is its length (four bytes, big-endian, of at most [`LONGEST_FRAME`]) and then one CBOR map with integer keys, of
//! which key 0 is the kind:
//!
//! | kind | frame | keys |
//! |---|---|---|
//! | 1 | [`Hello`] | 1 oldest version, 2 newest version, 3 name of the node, 4 run and 5 sequence and 6 digest of what it last took |
//! | 2 | [`Welcome`] | 1 version, 3 name of the node, 4, 5, 6 as above |
//! | 4 | [`Begin`] | 1 run, 2 sequence, 3 digest: all after this follows |
//! | 5 | [`Batch`] | 1 sequence of the first message, 2 the messages (byte strings), 3 digest after the last |
//! | 6 | [`Taken`] | 1 run, 2 sequence |
//! | 7 | [`Frame::Renew`] | none: "my certificate is another: dial anew" |
//!
//! Who dials opens one stream of both directions for kinds 1, 2, 6 and 7, and each side one stream for 4 and 5: messages that wait for a slow
//! reader hold back no acknowledgement.
//!
//! Invariant: the length is held to its bound before anything is allocated, each part before it is read; a frame is read whole or refused
//! with the byte at which it is wrong. An unknown kind and an unknown key are refused by their number, but for keys of [`Hello`], which a
//! later version may have more of: versions are not agreed before it is read.

mod batch;
mod cbor;
mod digest;
mod message;
mod refusal;
#[cfg(test)]
mod tests;
mod version;

use bytes::Bytes;
use palisade_domain::NodeName;

use self::cbor::{Reader, Writer};
pub use self::{
    batch::{append_message, around_messages, batched_bytes, encoded_messages},
    cbor::CborError,
    digest::Digest,
    message::{FollowedLines, LONGEST_ANSWER, MOST_ALERTS, MOST_ROWS, Message, MessageError, TreeRow},
    refusal::{GOODBYE, LONGEST_REASON, TAKEN_OVER, close_code, of_close_code, of_tls_alert},
    version::{SPOKEN, Versions},
};

/// Bytes of a frame's length before it.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of the longest frame, without its length.
pub const LONGEST_FRAME: usize = 1 << 20;
/// Bytes of the longest message: with its heads it fits into a frame.
pub const LONGEST_MESSAGE: usize = LONGEST_FRAME - 64;
/// Messages in a batch.
pub const MOST_MESSAGES: usize = 1 << 16;
/// Keys of a frame; of a [`Hello`] of a later version, too.
const MOST_KEYS: usize = 16;

/// Names one life of one sender for one receiver: drawn anew at each start, so that numbers of another life are not taken for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

/// A place in a sender's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Whose numbers.
    pub run: Run,
    /// The number of the message, from 1; 0 stands before all.
    pub sequence: u64,
    /// Of all messages up to it.
    pub digest: Digest,
}

/// The first frame of who dials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What it speaks.
    pub versions: Versions,
    /// Its name.
    pub name: NodeName,
    /// The last that it took from the other.
    pub taken: Option<Place>,
}

/// The first frame of who was dialled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// What both speak from now on.
    pub version: u32,
    /// Its name.
    pub name: NodeName,
    /// The last that it took from the other.
    pub taken: Option<Place>,
}

/// Messages of a sender, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The number of the first.
    pub first: u64,
    /// Each is a part of the frame that it came in.
    pub messages: Vec<Bytes>,
    /// Of all messages up to the last of these.
    pub digest: Digest,
}

/// What the receiver took; the sender forgets up to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// Whose numbers.
    pub run: Run,
    /// The last.
    pub sequence: u64,
}

/// Any frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Kind 1.
    Hello(Hello),
    /// Kind 2.
    Welcome(Welcome),
    /// Kind 4.
    Begin(Place),
    /// Kind 5.
    Batch(Batch),
    /// Kind 6.
    Taken(Taken),
    /// Kind 7.
    Renew,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than any.
    #[error("a frame of {0} bytes, of at most {LONGEST_FRAME}")]
    TooLong(u64),
    /// Not as it should be written.
    #[error("a frame that cannot be read: {0}")]
    Cbor(#[from] CborError),
    /// Of a kind that this version does not know.
    #[error("a frame of kind {0}, which is not known here")]
    UnknownKind(u64),
    /// With a key that this version does not know.
    #[error("key {key} of a {frame} frame, which is not known here")]
    UnknownKey {
        /// Of which.
        frame: &'static str,
        /// Its number.
        key: u64,
    },
    /// Without a key that it needs.
    #[error("a {frame} frame without its {key}")]
    Missing {
        /// Of which.
        frame: &'static str,
        /// In words.
        key: &'static str,
    },
    /// A key twice, or before the keys that stand before it.
    #[error("key {0} of a frame is not in its order")]
    Order(u64),
    /// With a value that cannot be.
    #[error("a {frame} frame whose {key} cannot be")]
    Impossible {
        /// Of which.
        frame: &'static str,
        /// In words.
        key: &'static str,
    },
}

/// The length of the frame that a length announces.
///
/// # Errors
/// It is longer than any may be.
pub fn length(prefix: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(fits) if fits <= LONGEST_FRAME => Ok(fits),
        _ => Err(FrameError::TooLong(u64::from(length))),
    }
}

impl Frame {
    /// Appends it to `out` with its length before it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => framed(out, |out| {
                out.map(4 + place_keys(hello.taken));
                keyed(out, &[(0, 1), (1, hello.versions.oldest.into()), (2, hello.versions.newest.into())]);
                out.unsigned(3);
                out.text(hello.name.as_str());
                write_taken(out, hello.taken);
            }),
            Self::Welcome(welcome) => framed(out, |out| {
                out.map(3 + place_keys(welcome.taken));
                keyed(out, &[(0, 2), (1, welcome.version.into())]);
                out.unsigned(3);
                out.text(welcome.name.as_str());
                write_taken(out, welcome.taken);
            }),
            Self::Begin(place) => framed(out, |out| {
                out.map(4);
                keyed(out, &[(0, 4), (1, place.run.0), (2, place.sequence), (3, place.digest.0)]);
            }),
            Self::Batch(batch) => write_batch(batch.first, &batch.messages, batch.digest, out),
            Self::Taken(taken) => framed(out, |out| {
                out.map(3);
                keyed(out, &[(0, 6), (1, taken.run.0), (2, taken.sequence)]);
            }),
            Self::Renew => framed(out, |out| {
                out.map(1);
                keyed(out, &[(0, 7)]);
            }),
        }
    }

    /// Reads the body of a frame, its length taken off.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &Bytes) -> Result<Self, FrameError> {
        if body.len() > LONGEST_FRAME {
            return Err(FrameError::TooLong(body.len() as u64));
        }
        let mut reader = Reader::new(body);
        let mut keys = Keys { left: reader.map(MOST_KEYS)?, last: None };
        if keys.next(&mut reader)? != Some(0) {
            return Err(FrameError::Missing { frame: "any", key: "kind" });
        }
        let frame = match reader.unsigned()? {
            1 => read_hello(&mut reader, &mut keys)?,
            2 => read_welcome(&mut reader, &mut keys)?,
            4 => read_begin(&mut reader, &mut keys)?,
            5 => read_batch(body, &mut reader, &mut keys)?,
            6 => read_taken(&mut reader, &mut keys)?,
            7 => match keys.next(&mut reader)? {
                None => Self::Renew,
                Some(key) => return Err(FrameError::UnknownKey { frame: "renew", key }),
            },
            kind => return Err(FrameError::UnknownKind(kind)),
        };
        reader.end()?;
        Ok(frame)
    }
}

/// Appends a batch with its length before it: the same as [`Frame::write`] of one, of messages that somebody else keeps.
pub fn write_batch<M: AsRef<[u8]>>(first: u64, messages: &[M], digest: Digest, out: &mut Vec<u8>) {
    framed(out, |out| {
        out.map(4);
        keyed(out, &[(0, 5), (1, first)]);
        out.unsigned(2);
        out.array(messages.len());
        for message in messages {
            out.bytes(message.as_ref());
        }
        keyed(out, &[(3, digest.0)]);
    });
}

fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    body(&mut Writer(out));
    let length = out.len() - start - LENGTH_BYTES;
    debug_assert!(length <= LONGEST_FRAME, "who writes frames holds them to their bound");
    let prefix = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    out[start..start + LENGTH_BYTES].copy_from_slice(&prefix);
}

fn keyed(out: &mut Writer<'_>, pairs: &[(u64, u64)]) {
    for (key, value) in pairs {
        out.unsigned(*key);
        out.unsigned(*value);
    }
}

const fn place_keys(place: Option<Place>) -> usize {
    if place.is_some() { 3 } else { 0 }
}

fn write_taken(out: &mut Writer<'_>, taken: Option<Place>) {
    if let Some(place) = taken {
        keyed(out, &[(4, place.run.0), (5, place.sequence), (6, place.digest.0)]);
    }
}

/// The keys of one map, which stand in rising order, so that none comes twice.
struct Keys {
    left: usize,
    last: Option<u64>,
}

impl Keys {
    fn next(&mut self, reader: &mut Reader<'_>) -> Result<Option<u64>, FrameError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let key = reader.unsigned()?;
        if self.last.is_some_and(|last| key <= last) {
            return Err(FrameError::Order(key));
        }
        self.last = Some(key);
        Ok(Some(key))
    }
}

fn narrow(value: u64, frame: &'static str, key: &'static str) -> Result<u32, FrameError> {
    u32::try_from(value).map_err(|_| FrameError::Impossible { frame, key })
}

fn name(reader: &mut Reader<'_>, frame: &'static str) -> Result<NodeName, FrameError> {
    reader.text(NodeName::LONGEST)?.parse().map_err(|_| FrameError::Impossible { frame, key: "name" })
}

/// Keys 4, 5 and 6: all of them or none.
#[derive(Default)]
struct TakenKeys {
    run: Option<u64>,
    sequence: Option<u64>,
    digest: Option<u64>,
}

impl TakenKeys {
    fn place(self, frame: &'static str) -> Result<Option<Place>, FrameError> {
        match (self.run, self.sequence, self.digest) {
            (None, None, None) => Ok(None),
            (Some(run), Some(sequence), Some(digest)) => {
                Ok(Some(Place { run: Run(run), sequence, digest: Digest(digest) }))
            }
            _ => Err(FrameError::Missing { frame, key: "run, sequence or digest" }),
        }
    }
}

fn read_hello(reader: &mut Reader<'_>, keys: &mut Keys) -> Result<Frame, FrameError> {
    const HELLO: &str = "hello";
    let (mut oldest, mut newest, mut named, mut taken) = (None, None, None, TakenKeys::default());
    while let Some(key) = keys.next(reader)? {
        match key {
            1 => oldest = Some(narrow(reader.unsigned()?, HELLO, "oldest version")?),
            2 => newest = Some(narrow(reader.unsigned()?, HELLO, "newest version")?),
            3 => named = Some(name(reader, HELLO)?),
            4 => taken.run = Some(reader.unsigned()?),
            5 => taken.sequence = Some(reader.unsigned()?),
            6 => taken.digest = Some(reader.unsigned()?),
            _ => reader.skip()?,
        }
    }
    let missing = |key| FrameError::Missing { frame: HELLO, key };
    let (oldest, newest) =
        (oldest.ok_or_else(|| missing("oldest version"))?, newest.ok_or_else(|| missing("newest version"))?);
    if oldest > newest {
        return Err(FrameError::Impossible { frame: HELLO, key: "versions" });
    }
    let name = named.ok_or_else(|| missing("name"))?;
    Ok(Frame::Hello(Hello { versions: Versions { oldest, newest }, name, taken: taken.place(HELLO)? }))
}

fn read_welcome(reader: &mut Reader<'_>, keys: &mut Keys) -> Result<Frame, FrameError> {
    const WELCOME: &str = "welcome";
    let (mut version, mut named, mut taken) = (None, None, TakenKeys::default());
    while let Some(key) = keys.next(reader)? {
        match key {
            1 => version = Some(narrow(reader.unsigned()?, WELCOME, "version")?),
            3 => named = Some(name(reader, WELCOME)?),
            4 => taken.run = Some(reader.unsigned()?),
            5 => taken.sequence = Some(reader.unsigned()?),
            6 => taken.digest = Some(reader.unsigned()?),
            key => return Err(FrameError::UnknownKey { frame: WELCOME, key }),
        }
    }
    let missing = |key| FrameError::Missing { frame: WELCOME, key };
    let (version, name) = (version.ok_or_else(|| missing("version"))?, named.ok_or_else(|| missing("name"))?);
    Ok(Frame::Welcome(Welcome { version, name, taken: taken.place(WELCOME)? }))
}

/// The numbers of keys 1 to `N`, all of which must be there and nothing else.
fn numbers<const N: usize>(
    reader: &mut Reader<'_>,
    keys: &mut Keys,
    frame: &'static str,
) -> Result<[u64; N], FrameError> {
    let mut values = [0; N];
    for (value, expected) in values.iter_mut().zip(1u64..) {
        match keys.next(reader)? {
            Some(key) if key == expected => *value = reader.unsigned()?,
            Some(key) if key > N as u64 => return Err(FrameError::UnknownKey { frame, key }),
            _ => return Err(FrameError::Missing { frame, key: "numbers" }),
        }
    }
    match keys.next(reader)? {
        None => Ok(values),
        Some(key) => Err(FrameError::UnknownKey { frame, key }),
    }
}

fn read_begin(reader: &mut Reader<'_>, keys: &mut Keys) -> Result<Frame, FrameError> {
    let [run, sequence, digest] = numbers(reader, keys, "begin")?;
    Ok(Frame::Begin(Place { run: Run(run), sequence, digest: Digest(digest) }))
}

fn read_taken(reader: &mut Reader<'_>, keys: &mut Keys) -> Result<Frame, FrameError> {
    let [run, sequence] = numbers(reader, keys, "taken")?;
    Ok(Frame::Taken(Taken { run: Run(run), sequence }))
}

fn read_batch(body: &Bytes, reader: &mut Reader<'_>, keys: &mut Keys) -> Result<Frame, FrameError> {
    const BATCH: &str = "batch";
    let mut expect = |reader: &mut Reader<'_>, expected, key| match keys.next(reader)? {
        Some(found) if found == expected => Ok(()),
        Some(found) if found > 3 => Err(FrameError::UnknownKey { frame: BATCH, key: found }),
        _ => Err(FrameError::Missing { frame: BATCH, key }),
    };
    expect(reader, 1, "sequence")?;
    let first = reader.unsigned()?;
    expect(reader, 2, "messages")?;
    let (at, count) = (reader.at(), reader.array(MOST_MESSAGES)?);
    // Each message has a byte of its own at least: no room is made for more than can be there.
    if count > body.len() - reader.at() {
        return Err(CborError::Ends(body.len()).into());
    }
    let last = first.checked_add(count as u64);
    if count == 0 || first == 0 || last.is_none() {
        return Err(CborError::Kind { at, expected: "messages with numbers" }.into());
    }
    let mut messages = Vec::with_capacity(count);
    for _ in 0..count {
        messages.push(body.slice(reader.bytes(LONGEST_MESSAGE)?));
    }
    expect(reader, 3, "digest")?;
    let digest = Digest(reader.unsigned()?);
    if let Some(key) = keys.next(reader)? {
        return Err(FrameError::UnknownKey { frame: BATCH, key });
    }
    Ok(Frame::Batch(Batch { first, messages, digest }))
}

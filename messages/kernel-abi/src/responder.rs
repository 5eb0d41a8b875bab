//! What the node and its responder say to each other over a `SOCK_SEQPACKET` pair.
//!
//! A request is one datagram: a head of fixed size, then at most [`MAX_PAYLOAD`] bytes; descriptors travel beside it. Each
//! request is answered by one reply with its number, in order. Fixed frames, not a self-describing format: both sides are the
//! same binary, and the version is checked at the first frame only to catch a file replaced between two starts.
//!
//! Invariant: decoding never panics and takes nothing it does not know.

/// Of the frames.
pub const VERSION: u32 = 1;
/// The longest cgroup path, and the longest text of a reply.
pub const MAX_PAYLOAD: usize = 4096;
const HEAD: usize = 32;
/// The longest frame.
pub const MAX_FRAME: usize = HEAD + MAX_PAYLOAD;

/// What the node asks for. Descriptors, in order, are named beside each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The first frame. With the record socket and the counters' memory.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Producer number of this responder's records.
        producer: u32,
        /// 1: what cannot be decided is refused.
        refuse_on_failure: bool,
        /// How long policy stands without a node, in seconds.
        unattended_seconds: u32,
    },
    /// Tasks of the cgroup and of those below it belong to the slot.
    Admit {
        /// For whom.
        slot: u32,
        /// Inode number of the cgroup's directory.
        cgroup: u64,
        /// The container has executed its own code already.
        running: bool,
        /// Below the mount of the unified hierarchy, starting with `/`.
        path: Vec<u8>,
    },
    /// Watch the file system of the descriptor.
    Mark {
        /// For whom.
        slot: u32,
        /// Keep the descriptor, to end the watch when the slot is released.
        keep: bool,
    },
    /// With a live mountinfo of the container's namespace, the root it is seen from, and the text of the table to name files by.
    Learn {
        /// For whom.
        slot: u32,
    },
    /// With the blob's bytes, if there is a policy.
    Install {
        /// For whom.
        slot: u32,
        /// Of which set.
        generation: u32,
        /// The policy's number, for records.
        policy: u32,
        /// Whether a blob comes along; without one the slot has no policy.
        present: bool,
    },
    /// Forget the slot.
    Release {
        /// Whose.
        slot: u32,
    },
    /// Are you there?
    Ping,
    /// End.
    Retire,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a head, or more than a frame.
    #[error("frame of {0} bytes")]
    Length(usize),
    /// No such kind.
    #[error("frame of kind {0}")]
    Kind(u32),
}

/// Fields of a head, all native byte order: kind, number, then a, b, c, d, and a long one.
#[derive(Debug, Default, Clone, Copy)]
struct Head {
    kind: u32,
    number: u32,
    a: u32,
    b: u32,
    c: u32,
    d: u32,
    long: u64,
}

impl Head {
    fn write(&self, out: &mut Vec<u8>) {
        for field in [self.kind, self.number, self.a, self.b, self.c, self.d] {
            out.extend_from_slice(&field.to_ne_bytes());
        }
        out.extend_from_slice(&self.long.to_ne_bytes());
    }

    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let (head, payload) = bytes.split_first_chunk::<HEAD>().ok_or(FrameError::Length(bytes.len()))?;
        if payload.len() > MAX_PAYLOAD {
            return Err(FrameError::Length(bytes.len()));
        }
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = head.last_chunk::<8>().map_or(0, |last| u64::from_ne_bytes(*last));
        let head = Self { kind: word(0), number: word(4), a: word(8), b: word(12), c: word(16), d: word(20), long };
        Ok((head, payload))
    }
}

const HELLO: u32 = 1;
const ADMIT: u32 = 2;
const MARK: u32 = 3;
const LEARN: u32 = 4;
const INSTALL: u32 = 5;
const RELEASE: u32 = 6;
const PING: u32 = 7;
const RETIRE: u32 = 8;
const REPLY: u32 = 100;

/// A request with its number, as bytes.
pub fn encode_request(number: u32, request: &Request) -> Vec<u8> {
    let mut head = Head { number, ..Head::default() };
    let mut payload: &[u8] = &[];
    match request {
        Request::Hello { version, producer, refuse_on_failure, unattended_seconds } => {
            (head.kind, head.a, head.b) = (HELLO, *version, *producer);
            (head.c, head.d) = (u32::from(*refuse_on_failure), *unattended_seconds);
        }
        Request::Admit { slot, cgroup, running, path } => {
            (head.kind, head.a, head.b, head.long) = (ADMIT, *slot, u32::from(*running), *cgroup);
            payload = path;
        }
        Request::Mark { slot, keep } => (head.kind, head.a, head.b) = (MARK, *slot, u32::from(*keep)),
        Request::Learn { slot } => (head.kind, head.a) = (LEARN, *slot),
        Request::Install { slot, generation, policy, present } => {
            (head.kind, head.a, head.b) = (INSTALL, *slot, *generation);
            (head.c, head.d) = (*policy, u32::from(*present));
        }
        Request::Release { slot } => (head.kind, head.a) = (RELEASE, *slot),
        Request::Ping => head.kind = PING,
        Request::Retire => head.kind = RETIRE,
    }
    let mut out = Vec::with_capacity(HEAD + payload.len());
    head.write(&mut out);
    out.extend_from_slice(payload);
    out
}

/// A request's number and content.
pub fn decode_request(bytes: &[u8]) -> Result<(u32, Request), FrameError> {
    let (head, payload) = Head::read(bytes)?;
    let slot = head.a;
    let request = match head.kind {
        HELLO => Request::Hello {
            version: head.a,
            producer: head.b,
            refuse_on_failure: head.c != 0,
            unattended_seconds: head.d,
        },
        ADMIT => Request::Admit { slot, cgroup: head.long, running: head.b != 0, path: payload.to_vec() },
        MARK => Request::Mark { slot, keep: head.b != 0 },
        LEARN => Request::Learn { slot },
        INSTALL => Request::Install { slot, generation: head.b, policy: head.c, present: head.d != 0 },
        RELEASE => Request::Release { slot },
        PING => Request::Ping,
        RETIRE => Request::Retire,
        other => return Err(FrameError::Kind(other)),
    };
    Ok((head.number, request))
}

/// A reply: nothing, or why it failed. Longer text is cut at [`MAX_PAYLOAD`] bytes; it is for people.
pub fn encode_reply(number: u32, result: &Result<(), String>) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD);
    Head { kind: REPLY, number, a: u32::from(result.is_err()), ..Head::default() }.write(&mut out);
    if let Err(text) = result {
        out.extend_from_slice(&text.as_bytes()[..text.len().min(MAX_PAYLOAD)]);
    }
    out
}

/// The number of the request that is answered, and the answer.
pub fn decode_reply(bytes: &[u8]) -> Result<(u32, Result<(), String>), FrameError> {
    let (head, payload) = Head::read(bytes)?;
    match (head.kind, head.a) {
        (REPLY, 0) => Ok((head.number, Ok(()))),
        (REPLY, _) => Ok((head.number, Err(String::from_utf8_lossy(payload).into_owned()))),
        (other, _) => Err(FrameError::Kind(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_each_request_is_read_as_it_was_written() {
        let requests = [
            Request::Hello { version: VERSION, producer: 7, refuse_on_failure: true, unattended_seconds: 9 },
            Request::Admit { slot: 3, cgroup: u64::MAX, running: true, path: b"/k8s/x".to_vec() },
            Request::Mark { slot: 3, keep: true },
            Request::Learn { slot: 3 },
            Request::Install { slot: 3, generation: 4, policy: 5, present: true },
            Request::Release { slot: 3 },
            Request::Ping,
            Request::Retire,
        ];
        for (number, request) in (0..).zip(requests) {
            assert_eq!(decode_request(&encode_request(number, &request)), Ok((number, request)));
        }
        for reply in [Ok(()), Err("no".to_owned())] {
            assert_eq!(decode_reply(&encode_reply(8, &reply)), Ok((8, reply)));
        }
    }

    #[test]
    fn unit_frames_that_are_cut_too_long_or_unknown_are_refused() {
        let frame = encode_request(1, &Request::Ping);
        for cut in 0..frame.len() {
            assert_eq!(decode_request(&frame[..cut]), Err(FrameError::Length(cut)));
        }
        assert_eq!(decode_request(&vec![0; MAX_FRAME + 1]), Err(FrameError::Length(MAX_FRAME + 1)));
        assert_eq!(decode_request(&[0xff; HEAD]), Err(FrameError::Kind(u32::MAX)));
        assert_eq!(decode_reply(&frame), Err(FrameError::Kind(PING)));
    }
}

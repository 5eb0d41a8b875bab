//! ttrpc, as far as NRI needs it: unary calls both ways over one connection of the multiplexer. Pure.
//!
//! A message is its length (without the header), its stream's number, four bytes each, big-endian, a byte for its kind and one of flags; then
//! protobuf. Who calls numbers streams oddly; an answer has its call's number.
//!
//! Bounds: [`MAX_MESSAGE_BYTES`], as in the runtime's own library; [`Assembler`] holds one message and what was read behind it.

use prost::{
    Message as _,
    bytes::{Buf as _, Bytes, BytesMut},
};

pub(super) const HEADER_BYTES: usize = 10;
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 20;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// Codes of a status, which are gRPC's.
pub(super) const INVALID_ARGUMENT: i32 = 3;
pub(super) const UNIMPLEMENTED: i32 = 12;

/// A call.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: Bytes,
}

/// The answer to one.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: Bytes,
}

/// How a call ended; 0 is well.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Request { stream: u32, request: Request },
    Response { stream: u32, response: Response },
}

/// A message that no runtime writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TtrpcError {
    #[error("a message of {0} bytes, more than {MAX_MESSAGE_BYTES}")]
    TooLong(usize),
    #[error("a message of kind {0}, which is neither a call nor an answer")]
    Kind(u8),
    #[error("a message that is no protobuf: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// Makes messages of the pieces of a connection.
#[derive(Debug, Default)]
pub(super) struct Assembler(BytesMut);

impl Assembler {
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next message that is whole. To be asked until there is none before more is pushed: that is its bound.
    pub(super) fn message(&mut self) -> Result<Option<Message>, TtrpcError> {
        let Some(mut header) = self.0.get(..HEADER_BYTES) else { return Ok(None) };
        let (length, stream, kind) = (header.get_u32() as usize, header.get_u32(), header.get_u8());
        if length > MAX_MESSAGE_BYTES {
            return Err(TtrpcError::TooLong(length));
        }
        if kind != REQUEST && kind != RESPONSE {
            return Err(TtrpcError::Kind(kind));
        }
        if self.0.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let payload = self.0.split_to(HEADER_BYTES + length).freeze().slice(HEADER_BYTES..);
        Ok(Some(if kind == REQUEST {
            Message::Request { stream, request: Request::decode(payload)? }
        } else {
            Message::Response { stream, response: Response::decode(payload)? }
        }))
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_within(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The bytes of a call.
pub(super) fn request(stream: u32, service: &str, method: &str, payload: &impl prost::Message) -> Vec<u8> {
    let payload = payload.encode_to_vec().into();
    message(stream, REQUEST, &Request { service: service.to_owned(), method: method.to_owned(), payload })
}

/// The bytes of an answer.
pub(super) fn response(stream: u32, outcome: Result<Vec<u8>, Status>) -> Vec<u8> {
    let response = match outcome {
        Ok(payload) => Response { status: None, payload: payload.into() },
        Err(status) => Response { status: Some(status), payload: Bytes::new() },
    };
    message(stream, RESPONSE, &response)
}

fn message(stream: u32, kind: u8, body: &impl prost::Message) -> Vec<u8> {
    let body = body.encode_to_vec();
    // What is written here is some hundred bytes long.
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(length.to_be_bytes());
    message.extend(stream.to_be_bytes());
    message.extend([kind, 0]);
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_nri_messages_come_out_as_they_went_in_byte_by_byte() {
        let call = request(1, "s", "m", &Status { code: 7, message: "x".repeat(5000) });
        let answer = response(3, Err(Status { code: 12, message: "no".into() }));
        let (mut assembler, mut found) = (Assembler::default(), Vec::new());
        for byte in call.iter().chain(&answer) {
            assembler.push(&[*byte]);
            while let Some(message) = assembler.message().unwrap() {
                found.push(message);
            }
        }
        assert!(!assembler.is_within());
        let [Message::Request { stream: 1, request }, Message::Response { stream: 3, response }] = found.as_slice()
        else {
            panic!("{found:?}")
        };
        assert_eq!((request.service.as_str(), request.method.as_str()), ("s", "m"));
        assert_eq!(Status::decode(request.payload.clone()).unwrap().message.len(), 5000);
        assert_eq!(response.status.as_ref().unwrap().code, 12);
    }

    #[test]
    fn unit_nri_messages_that_no_runtime_writes_are_refused_before_they_are_read() {
        let header = |length: u32, kind: u8| [&length.to_be_bytes()[..], &[0, 0, 0, 1, kind, 0]].concat();
        let said = |bytes: &[u8]| {
            let mut assembler = Assembler::default();
            assembler.push(bytes);
            assembler.message()
        };
        let most = u32::try_from(MAX_MESSAGE_BYTES).unwrap();
        assert_eq!(said(&header(most, REQUEST)), Ok(None));
        assert_eq!(said(&header(most + 1, REQUEST)), Err(TtrpcError::TooLong(MAX_MESSAGE_BYTES + 1)));
        assert_eq!(said(&header(4, 3)), Err(TtrpcError::Kind(3)), "no stream of data is ever opened here");
        let broken = [header(2, REQUEST).as_slice(), &[0x0a, 0xff]].concat();
        assert!(matches!(said(&broken), Err(TtrpcError::Malformed(_))));
    }
}

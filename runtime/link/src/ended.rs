//! How a connection ends, as both sides say it.

use std::net::SocketAddr;

use palisade_domain::Refusal;
use palisade_wire::frame::{self, LONGEST_REASON};
use quinn::{Connection, ConnectionError, VarInt};

use crate::words::plain;

/// TLS alerts as codes of QUIC: RFC 9001, section 4.8.
const CRYPTO: std::ops::Range<u64> = 0x100..0x200;

/// Why there is no connection any more, or none yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// One side does not want the other.
    Refused { why: Refusal, said: String, by_us: bool },
    /// Another node took the link: it goes by our name.
    TakenOver(String),
    /// It broke, or the peer went.
    Out(String),
}

impl Ended {
    pub(crate) fn by_us(why: Refusal, said: impl Into<String>) -> Self {
        Self::Refused { why, said: said.into(), by_us: true }
    }

    /// What an error of a connection means.
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let said = text(&close.reason);
                if close.error_code == VarInt::from_u32(frame::TAKEN_OVER) {
                    return Self::TakenOver(said);
                }
                let code = close.error_code.into_inner();
                match frame::of_close_code(code) {
                    Some(why) => Self::Refused { why, said, by_us: false },
                    // A process that ends without a word closes by the same code.
                    None if said.is_empty() && code == u64::from(frame::GOODBYE) => {
                        Self::Out("it closed the link".into())
                    }
                    None if said.is_empty() => {
                        Self::Out(format!("it closed the link, for a reason of number {code}, which is not known here"))
                    }
                    None => Self::Out(said),
                }
            }
            ConnectionError::ConnectionClosed(close) => {
                Self::of_code(close.error_code.into(), &text(&close.reason), false)
            }
            ConnectionError::TransportError(error) => Self::of_code(error.code.into(), &error.reason, true),
            ConnectionError::TimedOut => Self::Out("it does not answer".into()),
            ConnectionError::LocallyClosed => Self::Out("this node closed the link".into()),
            ConnectionError::VersionMismatch => Self::Out("it speaks no version of QUIC that this node does".into()),
            ConnectionError::Reset => Self::Out("it no longer knows the link: it began anew".into()),
            ConnectionError::CidsExhausted => Self::Out("this node has no more numbers for connections".into()),
        }
    }

    fn of_code(code: u64, said: &str, by_us: bool) -> Self {
        let said = plain(said);
        let alert = CRYPTO.contains(&code).then(|| u8::try_from(code - CRYPTO.start).ok()).flatten();
        match alert.and_then(frame::of_tls_alert) {
            Some(why) => Self::Refused { why, said, by_us },
            None => Self::Out(of_quic(code, &said)),
        }
    }

    /// Why a connection of which something failed is no more: its own word, where it has one.
    pub(crate) fn of_connection(connection: &Connection, otherwise: &dyn std::fmt::Display) -> Self {
        connection.close_reason().map_or_else(|| Self::Out(otherwise.to_string()), |error| Self::of(&error))
    }
}

/// What a code of QUIC means that is no refusal of a certificate: RFC 9000, section 20.1; of TLS, RFC 8446, section 6.
fn of_quic(code: u64, said: &str) -> String {
    match code {
        NO_ERROR if said.is_empty() => "it closed the link".into(),
        CONNECTION_REFUSED => "it takes no more handshakes now".into(),
        // What an application says before its peer is known goes without its code and its reason (RFC 9000, section 10.2.3).
        APPLICATION_ERROR => "it closed the link while it was being made".into(),
        NO_APPLICATION_PROTOCOL => "it speaks QUIC, and is no node: it does not know palisade's links".into(),
        _ if said.is_empty() => format!("the link broke by an error of QUIC (number {code:#x})"),
        _ => format!("{said} (error {code:#x} of QUIC)"),
    }
}

const NO_ERROR: u64 = 0;
const CONNECTION_REFUSED: u64 = 2;
const APPLICATION_ERROR: u64 = 0xc;
const NO_APPLICATION_PROTOCOL: u64 = CRYPTO.start + 120;

/// What a peer says, who may be anybody: no longer than ours would be, and nothing that moves a terminal's cursor.
fn text(reason: &[u8]) -> String {
    let said = String::from_utf8_lossy(&reason[..reason.len().min(LONGEST_REASON)]);
    said.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Refuses the peer; it is told why.
pub(crate) fn refuse(connection: &Connection, why: Refusal, said: &str) {
    connection.close(VarInt::from_u32(frame::close_code(why)), cut(said));
}

/// Ends a connection in whose place there is another of the same peer.
pub(crate) fn take_over(connection: &Connection, by: SocketAddr) {
    let said = format!("a newer connection took over, from {by}");
    connection.close(VarInt::from_u32(frame::TAKEN_OVER), cut(&said));
}

/// Ends a connection that is no longer wanted, of a peer that is.
pub(crate) fn goodbye(connection: &Connection, said: &str) {
    connection.close(VarInt::from_u32(frame::GOODBYE), cut(said));
}

/// As much as a close carries. Reasons are our own and short; names within them are not.
fn cut(said: &str) -> &[u8] {
    let end = (0..=said.len().min(LONGEST_REASON)).rev().find(|end| said.is_char_boundary(*end)).unwrap_or(0);
    &said.as_bytes()[..end]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn::{ApplicationClose, ConnectionClose, TransportErrorCode};

    use super::*;

    fn out(error: &ConnectionError) -> String {
        match Ended::of(error) {
            Ended::Out(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unit_link_says_in_words_how_a_connection_was_closed() {
        let by_quic = |error_code| {
            out(&ConnectionError::ConnectionClosed(ConnectionClose {
                error_code,
                frame_type: None,
                reason: Bytes::new(),
            }))
        };
        assert_eq!(by_quic(TransportErrorCode::CONNECTION_REFUSED), "it takes no more handshakes now");
        assert_eq!(by_quic(TransportErrorCode::APPLICATION_ERROR), "it closed the link while it was being made");
        assert_eq!(by_quic(TransportErrorCode::NO_ERROR), "it closed the link");
        assert!(by_quic(TransportErrorCode::crypto(120)).contains("is no node"));
        assert!(by_quic(TransportErrorCode::FLOW_CONTROL_ERROR).contains("number 0x3"));
        let by_peer = |code: u32, reason: &'static str| {
            let (error_code, reason) = (VarInt::from_u32(code), Bytes::from_static(reason.as_bytes()));
            out(&ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason }))
        };
        assert_eq!(by_peer(frame::GOODBYE, "the node stopped"), "the node stopped");
        assert_eq!(by_peer(frame::GOODBYE, "a\u{1b}[2J\nb"), "a\u{fffd}[2J\u{fffd}b");
        let long: &'static str = "y".repeat(9000).leak();
        assert_eq!(by_peer(frame::GOODBYE, long).len(), LONGEST_REASON);
        assert_eq!(by_peer(frame::GOODBYE, ""), "it closed the link");
        assert!(by_peer(4711, "").contains("number 4711"));
    }
}

//! How a connection ends, as both sides say it.

use std::net::SocketAddr;

use palisade_domain::Refusal;
use palisade_wire::frame::{self, LONGEST_REASON};
use quinn::{Connection, ConnectionError, VarInt};

use crate::verify::plain;

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
                match frame::of_close_code(close.error_code.into_inner()) {
                    Some(why) => Self::Refused { why, said, by_us: false },
                    None => Self::Out(said),
                }
            }
            ConnectionError::ConnectionClosed(close) => {
                Self::of_code(close.error_code.into(), &text(&close.reason), false)
            }
            ConnectionError::TransportError(error) => Self::of_code(error.code.into(), &error.reason, true),
            ConnectionError::TimedOut => Self::Out("it does not answer".into()),
            ConnectionError::LocallyClosed => Self::Out("this node closed the link".into()),
            error => Self::Out(error.to_string()),
        }
    }

    fn of_code(code: u64, said: &str, by_us: bool) -> Self {
        let said = plain(said);
        let alert = CRYPTO.contains(&code).then(|| u8::try_from(code - CRYPTO.start).ok()).flatten();
        match alert.and_then(frame::of_tls_alert) {
            Some(why) => Self::Refused { why, said, by_us },
            None => Self::Out(if said.is_empty() { format!("QUIC error {code:#x}") } else { said }),
        }
    }

    /// Why a connection of which something failed is no more: its own word, where it has one.
    pub(crate) fn of_connection(connection: &Connection, otherwise: &dyn std::fmt::Display) -> Self {
        connection.close_reason().map_or_else(|| Self::Out(otherwise.to_string()), |error| Self::of(&error))
    }
}

fn text(reason: &[u8]) -> String {
    String::from_utf8_lossy(reason).into_owned()
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

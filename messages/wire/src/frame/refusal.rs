//! Refusals as numbers: QUIC closes a connection with a code and a reason.
//!
//! What TLS refuses has the code of its alert (RFC 8446, section 6; RFC 9001, section 4.8: 0x100 and the alert); what the protocol refuses
//! has one of ours. Either way the reason in words goes along, and both sides say the same.

use palisade_domain::Refusal;

/// Bytes of the longest reason that is sent.
pub const LONGEST_REASON: usize = 512;

/// The code of a close of ours that is no refusal: the node stops, or the link was replaced by a newer one.
pub const GOODBYE: u32 = 0;

/// The code of a close of ours that is no refusal either: another connection of the same name took the place of this one. Who did not make
/// that other one learns that somebody else goes by its name.
pub const TAKEN_OVER: u32 = 10;

/// By which code a link is refused after the handshake of TLS.
#[must_use]
pub const fn close_code(refusal: Refusal) -> u32 {
    match refusal {
        Refusal::Expired => 1,
        Refusal::UnknownAuthority => 2,
        Refusal::Revoked => 3,
        Refusal::WrongName => 4,
        Refusal::BadCertificate => 5,
        Refusal::Version => 6,
        Refusal::Protocol => 7,
        Refusal::Full => 8,
        Refusal::Itself => 9,
    }
}

/// What a code of a close means; `None` for [`GOODBYE`], for [`TAKEN_OVER`] and for codes of a later version.
#[must_use]
pub fn of_close_code(code: u64) -> Option<Refusal> {
    Refusal::ALL.into_iter().find(|refusal| u64::from(close_code(*refusal)) == code)
}

/// What an alert of TLS means for a link. All other alerts are broken handshakes and no refusals.
#[must_use]
pub const fn of_tls_alert(alert: u8) -> Option<Refusal> {
    match alert {
        // bad_certificate, unsupported_certificate, decrypt_error, certificate_required
        42 | 43 | 51 | 116 => Some(Refusal::BadCertificate),
        // certificate_revoked
        44 => Some(Refusal::Revoked),
        // certificate_expired
        45 => Some(Refusal::Expired),
        // certificate_unknown: "some other (unspecified) issue"; ours, and nobody else's here: another name.
        46 => Some(Refusal::WrongName),
        // unknown_ca
        48 => Some(Refusal::UnknownAuthority),
        _ => None,
    }
}

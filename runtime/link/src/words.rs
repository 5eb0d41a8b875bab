//! Errors of TLS, certificates and PEM in words: without names of types, arrays of bytes or seconds of 1970.
//!
//! What a peer says of ours comes as its TLS says it, and is put into words here as well: both sides show the same.

use palisade_domain::UnixNanos;
use rustls::{CertificateError, Error, pki_types::pem};

/// A certificate's fault that the other side is told of.
pub(crate) fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(fault) => of_certificate(fault),
        Error::InconsistentKeys(_) => "the key is not that of the certificate".into(),
        Error::NoCertificatesPresented => "it showed no certificate".into(),
        Error::InvalidCertRevocationList(_) => {
            "a revocation list cannot be read, or is of a kind that is not understood".into()
        }
        // Our own words, and those of the makers of keys.
        Error::General(said) => said.clone(),
        error => error.to_string(),
    }
}

fn of_certificate(fault: &CertificateError) -> String {
    match fault {
        CertificateError::BadEncoding => "the certificate cannot be read".into(),
        CertificateError::Expired => "the certificate expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => expired(not_after.as_secs()),
        CertificateError::NotValidYet => "the certificate does not hold yet".into(),
        CertificateError::NotValidYetContext { not_before, .. } => not_yet(not_before.as_secs()),
        CertificateError::Revoked => "the certificate was revoked".into(),
        CertificateError::UnknownIssuer => UNKNOWN_ISSUER.into(),
        CertificateError::BadSignature => "the certificate, or what was signed with its key, is forged".into(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => PURPOSE.into(),
        CertificateError::UnhandledCriticalExtension => "the certificate demands what is not understood here".into(),
        CertificateError::Other(ours) => ours.to_string(),
        fault => {
            of_name(&fault.to_string()).map_or_else(|| format!("the certificate is not good: {fault}"), Into::into)
        }
    }
}

const UNKNOWN_ISSUER: &str = "the certificate is of no authority that is believed";
const PURPOSE: &str = "the certificate does not permit the authentication of a node (both client and server)";

fn date(seconds: u64) -> String {
    UnixNanos(seconds.saturating_mul(1_000_000_000)).rfc3339()
}

fn expired(seconds: u64) -> String {
    format!("the certificate expired {}", date(seconds))
}

fn not_yet(seconds: u64) -> String {
    format!("the certificate holds from {} on", date(seconds))
}

/// What rustls calls a fault.
fn of_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "BadEncoding" => "the certificate cannot be read",
        "Expired" => "the certificate expired",
        "NotValidYet" => "the certificate does not hold yet",
        "Revoked" => "the certificate was revoked",
        "UnknownIssuer" => UNKNOWN_ISSUER,
        "BadSignature" => "the certificate, or what was signed with its key, is forged",
        "InvalidPurpose" => PURPOSE,
        "UnhandledCriticalExtension" => "the certificate demands what is not understood",
        "UnknownRevocationStatus" => "nothing says whether the certificate was revoked",
        _ => return None,
    })
}

fn number_after(said: &str, words: &str) -> Option<u64> {
    let (_, rest) = said.split_once(words)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// What TLS says of a certificate at the handshake, here or there.
pub(crate) fn plain(said: &str) -> String {
    if said.starts_with("invalid certificate revocation list: ") {
        return "the revocation list is not signed by the authority that it names".to_owned();
    }
    let Some(fault) = said.strip_prefix("invalid peer certificate: ") else {
        return said.strip_prefix("unexpected error: ").unwrap_or(said).to_owned();
    };
    // Ours, which TLS wraps.
    if let Some(ours) = fault.strip_prefix("Other(OtherError(").and_then(|fault| fault.strip_suffix("))")) {
        return ours.to_owned();
    }
    if fault.starts_with("certificate does not allow extended key usage") {
        return PURPOSE.to_owned();
    }
    number_after(fault, "certificate is not valid after ")
        .map(expired)
        .or_else(|| number_after(fault, "certificate is not valid before ").map(not_yet))
        .or_else(|| of_name(fault).map(Into::into))
        .unwrap_or_else(|| fault.to_owned())
}

/// Why text is no PEM.
pub(crate) fn of_pem(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            let marker = String::from_utf8_lossy(end_marker);
            format!("it is cut off: there is no line -----END {}-----", marker.trim())
        }
        pem::Error::IllegalSectionStart { .. } => "a line that begins as -----BEGIN does not end as it should".into(),
        pem::Error::Base64Decode(_) => "what stands between its BEGIN and END lines is no base64".into(),
        pem::Error::Io(error) => error.to_string(),
        pem::Error::NoItemsFound => "nothing of the kind is in it (PEM)".into(),
        error => error.to_string(),
    }
}

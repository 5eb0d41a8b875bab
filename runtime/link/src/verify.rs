//! Whether a peer's certificate is good: at the handshake, and again while a link stands.
//!
//! rustls' own verifiers decide (RFC 5280: authority, time, use, revocation); here stands only by which alert a wrong name is told, so that
//! both sides know it from other faults, and how a link that stands is looked at once more.
//!
//! A node is one name: what a wildcard would match is none. Lists count for the authorities between, too.
//!
//! A certificate that no list speaks of is not revoked: an authority elsewhere may publish none. A list past its date still counts,
//! and is said: see [`crate::examine`].

use std::{fmt, sync::Arc};

use palisade_domain::{NodeName, Refusal};
use palisade_wire::frame;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    authority,
    credentials::{Credentials, CredentialsError},
};

/// See the module. Both sides of a handshake use it.
#[derive(Clone)]
pub(crate) struct PeerVerifier {
    of_dialled: Arc<WebPkiServerVerifier>,
    of_dialling: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerVerifier")
    }
}

/// The name that was called is not one of the certificate's.
#[derive(thiserror::Error)]
#[error("the certificate is of {presented}, not of {called:?}")]
struct WrongName {
    called: String,
    presented: String,
}

// rustls says errors that are not its own by `Debug`.
impl fmt::Debug for WrongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What TLS says of a certificate, without the types that an error of ours is wrapped in.
pub(crate) fn plain(said: &str) -> String {
    let ours =
        said.strip_prefix("invalid peer certificate: Other(OtherError(").and_then(|said| said.strip_suffix("))"));
    ours.unwrap_or(said).to_owned()
}

/// Which side of the connection a peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// This node dials it.
    Dialled,
    /// It dials this node.
    Dialling,
}

impl PeerVerifier {
    pub(crate) fn new(credentials: &Credentials, provider: &Arc<CryptoProvider>) -> Result<Self, CredentialsError> {
        let mut roots = RootCertStore::empty();
        for authority in &credentials.authorities {
            roots.add(authority.clone())?;
        }
        let roots = Arc::new(roots);
        let lists = || credentials.revocations.iter().cloned();
        let unusable = |error: rustls::server::VerifierBuilderError| CredentialsError::Revocations(error.to_string());
        let of_dialled = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .with_crls(lists())
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        let of_dialling = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .with_crls(lists())
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        Ok(Self { of_dialled, of_dialling })
    }

    /// Looks at a certificate once more. Which alert it would be, and why.
    pub(crate) fn look(
        &self,
        chain: &[CertificateDer<'static>],
        name: &NodeName,
        side: Side,
        now: UnixTime,
    ) -> Result<(), (Refusal, String)> {
        let Some((own, between)) = chain.split_first() else {
            return Err((Refusal::BadCertificate, "no certificate".into()));
        };
        let seen = match side {
            Side::Dialled => ServerName::try_from(name.as_str())
                .map_err(|error| Error::General(error.to_string()))
                .and_then(|called| self.verify_server_cert(own, between, &called, &[], now).map(|_| ())),
            Side::Dialling => self.verify_client_cert(own, between, now).and_then(|_| is_named(own, name)),
        };
        seen.map_err(|error| (refusal_of(&error), plain(&error.to_string())))
    }
}

/// Whether a certificate is good for a name.
pub(crate) fn is_named(certificate: &CertificateDer<'_>, name: &NodeName) -> Result<(), Error> {
    let called = ServerName::try_from(name.as_str()).map_err(|error| Error::General(error.to_string()))?;
    verify_server_name(&ParsedCertificate::try_from(certificate)?, &called)
        .and_then(|()| says_itself(certificate, name.as_str()))
        .map_err(|error| named_wrongly(error, certificate, name.as_str()))
}

/// A certificate of `*.example.com` would be every node there.
fn says_itself(certificate: &CertificateDer<'_>, called: &str) -> Result<(), Error> {
    if authority::names(certificate).iter().any(|name| name.eq_ignore_ascii_case(called)) {
        Ok(())
    } else {
        Err(CertificateError::NotValidForName.into())
    }
}

/// An error of TLS as a refusal, by the alert that it is told by.
pub(crate) fn refusal_of(error: &Error) -> Refusal {
    let alert = match error {
        Error::InvalidCertificate(error) => rustls::AlertDescription::from(error.clone()),
        _ => return Refusal::BadCertificate,
    };
    frame::of_tls_alert(alert.into()).unwrap_or(Refusal::BadCertificate)
}

/// A wrong name gets an alert of its own (certificate_unknown), for its usual one says no more than that something is bad.
fn named_wrongly(error: Error, certificate: &CertificateDer<'_>, called: &str) -> Error {
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let presented = authority::names(certificate).join(", ");
            let presented = if presented.is_empty() { "nobody".into() } else { presented };
            let wrong = WrongName { called: called.to_owned(), presented };
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(wrong))))
        }
        error => error,
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.of_dialled
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .and_then(|verified| says_itself(end_entity, &server_name.to_str()).map(|()| verified))
            .map_err(|error| named_wrongly(error, end_entity, &server_name.to_str()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_dialled.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_dialled.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.of_dialled.supported_verify_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.of_dialling.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.of_dialling.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_dialling.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.of_dialling.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.of_dialling.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};

    use super::*;

    #[test]
    fn unit_link_certificate_of_a_wildcard_is_no_node_there() {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let names = vec!["*.example.com".to_owned(), "b.example.com".to_owned()];
        let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("signed");
        let named = |name: &str| is_named(certificate.der(), &name.parse().expect("a name"));
        assert!(named("b.example.com").is_ok());
        let said = named("a.example.com").expect_err("only by the wildcard").to_string();
        assert!(said.contains("not of"), "{said}");
    }
}

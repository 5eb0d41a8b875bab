//! Whether a peer's certificate is good: at the handshake, and again while a link stands.
//!
//! rustls' own verifiers decide (RFC 5280: authority, time, use, revocation); here stands only by which alert a wrong name is told, so that
//! both sides know it from other faults, and how a link that stands is looked at once more.
//!
//! An authority that was made anew under its old name has another key, and both are believed while both are there; whom neither of the keys
//! signed is of no authority that is believed, and not forged.
//!
//! A node is one name: what a wildcard would match is none. Lists count for the authorities between, too.
//!
//! A certificate that no list speaks of is not revoked: an authority elsewhere may publish none. A list past its date still counts,
//! and is said: see [`crate::examine`].

use std::{collections::BTreeSet, fmt, sync::Arc};

use palisade_domain::{NodeName, Refusal};
use palisade_wire::frame;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use crate::{
    authority,
    credentials::{Credentials, CredentialsError},
    lists::{self, Listed},
    words,
};

/// See the module. Both sides of a handshake use it.
#[derive(Clone)]
pub(crate) struct PeerVerifier {
    /// One, but where authorities of one name have several keys: then as many as there are choices, see [`lists::by_keys`].
    by_keys: Vec<Rustls>,
    /// What dialling peers are told of whom this node believes.
    hints: Vec<DistinguishedName>,
    authorities: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    /// The lists that count.
    pub(crate) lists: Vec<Listed>,
    /// Of whom lists say to be that do not.
    pub(crate) nobodys: BTreeSet<String>,
}

/// rustls' own verifiers.
#[derive(Clone)]
struct Rustls {
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

/// Which side of the connection a peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// This node dials it.
    Dialled,
    /// It dials this node.
    Dialling,
}

impl Rustls {
    fn new((authorities, lists): lists::OfOneKey, provider: &Arc<CryptoProvider>) -> Result<Self, CredentialsError> {
        let roots = Arc::new(roots(&authorities)?);
        let unusable = |_: rustls::server::VerifierBuilderError| {
            CredentialsError::Revocations(
                "one is of a kind that is not understood (a difference to another, say)".into(),
            )
        };
        let of_dialled = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
            .with_crls(lists.iter().cloned())
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        let of_dialling = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider))
            .with_crls(lists)
            .allow_unknown_revocation_status()
            .build()
            .map_err(unusable)?;
        Ok(Self { of_dialled, of_dialling })
    }
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    authorities.iter().try_for_each(|authority| roots.add(authority.clone()))?;
    Ok(roots)
}

/// How much an error tells: least where an authority's other key is the one that signed.
const fn weight(error: &Error) -> u8 {
    match error {
        Error::InvalidCertificate(CertificateError::Revoked) => 3,
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => 0,
        Error::InvalidCertificate(CertificateError::BadSignature) | Error::InvalidCertRevocationList(_) => 1,
        _ => 2,
    }
}

impl PeerVerifier {
    pub(crate) fn new(credentials: &Credentials, provider: &Arc<CryptoProvider>) -> Result<Self, CredentialsError> {
        let Credentials { authorities, revocations, .. } = credentials;
        let hints = roots(authorities)?.subjects();
        let lists = lists::newest(revocations, authorities).map_err(CredentialsError::Revocations)?;
        let by_keys = lists::by_keys(authorities, &lists.newest).map_err(CredentialsError::Revocations)?;
        let by_keys = by_keys.into_iter().map(|one| Rustls::new(one, provider)).collect::<Result<_, _>>()?;
        let (lists, nobodys) = (lists.newest.into_iter().map(|(_, listed)| listed).collect(), lists.nobodys);
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { by_keys, hints, authorities: authorities.clone(), algorithms, lists, nobodys })
    }

    /// By each choice of keys.
    fn verify<T>(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        verify: impl Fn(&Rustls) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let (mut good, mut worst) = (None, None::<Error>);
        for verifier in &self.by_keys {
            match verify(verifier) {
                Ok(verified) => good = Some(verified),
                Err(error) => {
                    if worst.as_ref().is_none_or(|known| weight(&error) > weight(known)) {
                        worst = Some(error);
                    }
                }
            }
        }
        match (good, worst) {
            (Some(good), worst) if worst.as_ref().is_none_or(|error| weight(error) < 3) => Ok(good),
            (_, Some(Error::InvalidCertificate(CertificateError::BadSignature)))
                if self.is_of_another_key(end_entity, intermediates) =>
            {
                Err(CertificateError::UnknownIssuer.into())
            }
            (_, Some(error)) => Err(error),
            (_, None) => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    /// Whether a key signed it that is none of those which authorities of the name have here, before or after they were made anew.
    fn is_of_another_key(&self, end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> bool {
        std::iter::once(end_entity).chain(intermediates).any(|certificate| {
            let Ok((_, read)) = x509_parser::parse_x509_certificate(certificate) else { return false };
            let id = lists::signed_by(read.extensions());
            lists::is_another_key(read.issuer().as_raw(), id.as_ref(), &self.authorities)
        })
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
        seen.map_err(|error| (refusal_of(&error), words::of_tls(&error)))
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

/// Names of which there may be as many as a certificate has room for.
fn some(names: &[String]) -> String {
    const SAID: usize = 3;
    match names {
        [] => "nobody".into(),
        few if few.len() <= SAID => few.join(", "),
        many => format!("{} and {} more", many[..SAID].join(", "), many.len() - SAID),
    }
}

/// A wrong name gets an alert of its own (certificate_unknown), for its usual one says no more than that something is bad.
fn named_wrongly(error: Error, certificate: &CertificateDer<'_>, called: &str) -> Error {
    match error {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let wrong = WrongName { called: called.to_owned(), presented: some(&authority::names(certificate)) };
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
        let seen =
            |by: &Rustls| by.of_dialled.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        self.verify(end_entity, intermediates, seen)
            .and_then(|verified| says_itself(end_entity, &server_name.to_str()).map(|()| verified))
            .map_err(|error| named_wrongly(error, end_entity, &server_name.to_str()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, |by| by.of_dialling.verify_client_cert(end_entity, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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

    #[test]
    fn unit_link_certificate_of_many_names_is_told_by_a_few() {
        let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
        let names: Vec<String> = (0..900).map(|n| format!("node-{n}.{}", "x".repeat(50))).collect();
        let certificate = CertificateParams::new(names).expect("names").self_signed(&key).expect("signed");
        let error = is_named(certificate.der(), &"a".parse().expect("a name")).expect_err("not among them");
        let said = words::of_tls(&error);
        assert!(said.ends_with("and 897 more, not of \"a\"") && said.len() < 400, "{said}");
    }
}

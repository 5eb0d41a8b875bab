//! An authority of one's own: makes certificates for nodes and takes them back.
//!
//! Text in, text out (PEM): who calls reads and writes files. Keys are Ed25519, drawn from the randomness port, so that a simulated cluster
//! has the same certificates at each run; so are serial numbers.
//! Decision: a revocation list as RFC 5280 has it and not a file of names, because it is signed (who can write it cannot take anybody out or
//! in), and because authorities elsewhere publish the same.

use palisade_domain::{NodeName, UnixNanos};
use palisade_world::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use time::{Duration, OffsetDateTime};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, pem::Pem, prelude::FromDer as _,
    revocation_list::CertificateRevocationList,
};

/// Clocks of nodes differ; a certificate holds from this long before it was made.
const SKEW: Duration = Duration::minutes(5);
/// Within which a list is to be made anew. Links take an older one still, for a list that is late must not part a cluster.
const LIST_HOLDS: Duration = Duration::days(90);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// What was given cannot be read as what it should be.
    #[error("{0} cannot be read: {1}")]
    Unreadable(&'static str, String),
    /// The list is not of this authority: what is built on it would be signed as if it were.
    #[error(
        "the revocation list is not this authority's, or was changed by somebody: it says to be of {0}. Nothing is built on it"
    )]
    ForgedList(String),
    /// More than one list is there, and what is written holds one.
    #[error("{0} revocation lists are in the file, of which one can be built on: leave this authority's own")]
    ManyLists(usize),
    /// The certificate is not of this authority.
    #[error("the certificate is not of this authority, whose list only it can be on: it was issued by {0}")]
    NotOurs(String),
    /// It cannot be signed.
    #[error("cannot sign: {0}")]
    Signing(#[from] rcgen::Error),
}

/// A certificate and its key, as text.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM.
    pub certificate: String,
    /// PEM: private.
    pub key: String,
}

/// What a certificate or a list says, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    /// A certificate.
    Certificate {
        /// DNS names that it is good for.
        names: Vec<String>,
        /// Whose it is.
        subject: String,
        /// Who signed it.
        issuer: String,
        /// Hexadecimal.
        serial: String,
        /// It signs others.
        authority: bool,
        /// It holds from here.
        from: UnixNanos,
        /// It holds until here.
        until: UnixNanos,
    },
    /// A revocation list.
    Revocations {
        /// Who signed it.
        issuer: String,
        /// When.
        made: UnixNanos,
        /// By when there is to be a newer one, where it says so.
        due: Option<UnixNanos>,
        /// Serial numbers, hexadecimal.
        serials: Vec<String>,
    },
}

/// A new authority, with an empty revocation list.
///
/// # Errors
/// It cannot sign itself.
pub fn authority(name: &str, days: u32, now: UnixNanos, rng: &dyn Rng) -> Result<(Issued, String), AuthorityError> {
    let key = key(rng)?;
    // No two authorities have one name: certificates and lists say by name who signed them.
    let mut own = [0; 4];
    rng.fill(&mut own);
    let mut params = params(&format!("{name} {}", hex(&own)), days, now, rng)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?.pem();
    let list = signed_list(&Issuer::from_params(&params, &key), Vec::new(), 1, now)?;
    Ok((Issued { certificate, key: key.serialize_pem() }, list))
}

/// A certificate for a node: it may dial and be dialled by this name.
///
/// # Errors
/// The authority's certificate or key cannot be read, or it cannot sign.
pub fn issue(by: &Issued, name: &NodeName, days: u32, now: UnixNanos, rng: &dyn Rng) -> Result<Issued, AuthorityError> {
    let issuer = issuer(by)?;
    let key = key(rng)?;
    let mut params = params(name.as_str(), days, now, rng)?;
    params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Issued { certificate, key: key.serialize_pem() })
}

/// The authority's list with one certificate more on it; once is enough for each.
///
/// # Errors
/// Something cannot be read, the certificate is of another authority, or the list cannot be signed.
pub fn revoke(by: &Issued, list: &str, certificate: &str, now: UnixNanos) -> Result<String, AuthorityError> {
    let issuer = issuer(by)?;
    let authority = pem(by.certificate.as_bytes(), "the authority's certificate")?;
    let authority = authority.parse_x509().map_err(unreadable("the authority's certificate"))?;
    let revoked = pem(certificate.as_bytes(), "the certificate")?;
    let revoked = revoked.parse_x509().map_err(unreadable("the certificate"))?;
    if revoked.issuer() != authority.subject() || revoked.verify_signature(Some(authority.public_key())).is_err() {
        return Err(AuthorityError::NotOurs(revoked.issuer().to_string()));
    }
    let (mut entries, number) = entries_after(list, &authority)?;
    let serial = SerialNumber::from_slice(revoked.raw_serial());
    entries.retain(|one| one.serial_number != serial);
    entries.push(entry(serial, at(now)));
    signed_list(&issuer, entries, number, now)
}

/// The authority's list with what is on it, and a new date.
///
/// # Errors
/// Something cannot be read, or the list cannot be signed.
pub fn renew_list(by: &Issued, list: &str, now: UnixNanos) -> Result<String, AuthorityError> {
    let authority = pem(by.certificate.as_bytes(), "the authority's certificate")?;
    let authority = authority.parse_x509().map_err(unreadable("the authority's certificate"))?;
    let (entries, number) = entries_after(list, &authority)?;
    signed_list(&issuer(by)?, entries, number, now)
}

/// What is on this authority's list, and the number of the one after it. Whoever can write the list's file must not have it signed by this.
fn entries_after(list: &str, authority: &X509Certificate<'_>) -> Result<(Vec<RevokedCertParams>, u64), AuthorityError> {
    let lists =
        Pem::iter_from_buffer(list.as_bytes()).filter(|part| part.as_ref().is_ok_and(|part| part.label == "X509 CRL"));
    match lists.count() {
        0 | 1 => {}
        many => return Err(AuthorityError::ManyLists(many)),
    }
    let list = pem(list.as_bytes(), "the revocation list")?;
    let (_, list) = CertificateRevocationList::from_der(&list.contents).map_err(unreadable("the revocation list"))?;
    if list.issuer() != authority.subject() || list.verify_signature(authority.public_key()).is_err() {
        return Err(AuthorityError::ForgedList(list.issuer().to_string()));
    }
    let digits = list.crl_number().map_or_else(Vec::new, |number| number.to_u64_digits());
    let next = match digits.as_slice() {
        [] => Some(1),
        [number] => number.checked_add(1),
        _ => None,
    };
    let too_large =
        || AuthorityError::Unreadable("the revocation list", "its number is too large to be followed".into());
    let number = next.ok_or_else(too_large)?;
    let entries = list
        .iter_revoked_certificates()
        .map(|one| entry(SerialNumber::from_slice(one.raw_serial()), one.revocation_date.to_datetime()));
    Ok((entries.collect(), number))
}

fn entry(serial_number: SerialNumber, revocation_time: OffsetDateTime) -> RevokedCertParams {
    RevokedCertParams { serial_number, revocation_time, reason_code: None, invalidity_date: None }
}

/// What each part of a file says.
///
/// # Errors
/// It is no PEM, or holds neither a certificate nor a list.
pub fn describe(text: &[u8]) -> Result<Vec<Described>, AuthorityError> {
    let mut all = Vec::new();
    for part in Pem::iter_from_buffer(text) {
        let part = part.map_err(unreadable("the file"))?;
        match part.label.as_str() {
            "CERTIFICATE" => all.push(certificate(&part)?),
            "X509 CRL" => all.push(revocations(&part)?),
            _ => {}
        }
    }
    if all.is_empty() {
        return Err(AuthorityError::Unreadable(
            "the file",
            "it holds neither a certificate nor a revocation list".into(),
        ));
    }
    Ok(all)
}

fn certificate(part: &Pem) -> Result<Described, AuthorityError> {
    let certificate = part.parse_x509().map_err(unreadable("the certificate"))?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Ok(Described::Certificate {
        names: names.collect(),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        serial: hex(certificate.raw_serial()),
        authority: certificate.is_ca(),
        from: unix(certificate.validity().not_before.timestamp()),
        until: unix(certificate.validity().not_after.timestamp()),
    })
}

fn revocations(part: &Pem) -> Result<Described, AuthorityError> {
    let (_, list) = CertificateRevocationList::from_der(&part.contents).map_err(unreadable("the revocation list"))?;
    Ok(Described::Revocations {
        issuer: list.issuer().to_string(),
        made: unix(list.last_update().timestamp()),
        due: list.next_update().map(|due| unix(due.timestamp())),
        serials: list.iter_revoked_certificates().map(|one| hex(one.raw_serial())).collect(),
    })
}

/// When a certificate (DER) ends.
#[must_use]
pub fn ends(certificate: &[u8]) -> Option<UnixNanos> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(unix(certificate.validity().not_after.timestamp()))
}

/// The DNS names of a certificate (DER).
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(certificate) else { return Vec::new() };
    let names = certificate.subject_alternative_name().ok().flatten();
    let dns = names.into_iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    dns.collect()
}

fn issuer(by: &Issued) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let key = KeyPair::from_pem(&by.key).map_err(unreadable("the authority's key"))?;
    let own = pem(by.certificate.as_bytes(), "the authority's certificate")?;
    let own = own.parse_x509().map_err(unreadable("the authority's certificate"))?;
    // What it signed would be nobody's.
    if *own.public_key().subject_public_key.data != *key.public_key_raw() {
        return Err(AuthorityError::Unreadable("the authority's key", "it is not that of its certificate".into()));
    }
    Issuer::from_ca_cert_pem(&by.certificate, key).map_err(unreadable("the authority's certificate"))
}

fn params(name: &str, days: u32, now: UnixNanos, rng: &dyn Rng) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    rng.fill(&mut serial);
    // Positive, and of full length: the highest bit is the sign, the next is set.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(now) - SKEW;
    params.not_after = at(now) + Duration::days(days.into());
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// PKCS#8 (RFC 8410) around 32 random bytes, which are an Ed25519 key.
fn key(rng: &dyn Rng) -> Result<KeyPair, AuthorityError> {
    const HEAD: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let mut der = HEAD.to_vec();
    der.resize(HEAD.len() + 32, 0);
    rng.fill(&mut der[HEAD.len()..]);
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &rcgen::PKCS_ED25519)?)
}

fn signed_list(
    issuer: &Issuer<'_, impl rcgen::SigningKey>,
    revoked_certs: Vec<RevokedCertParams>,
    number: u64,
    now: UnixNanos,
) -> Result<String, AuthorityError> {
    let params = CertificateRevocationListParams {
        this_update: at(now),
        next_update: at(now) + LIST_HOLDS,
        crl_number: number.into(),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.pem()?)
}

/// A list of the certificates of nodes alone.
#[cfg(test)]
pub(crate) fn list_of_users(by: &Issued, revoked: &[&str], number: u64, now: UnixNanos) -> String {
    let entries = revoked.iter().map(|certificate| {
        let certificate = pem(certificate.as_bytes(), "the certificate").expect("PEM");
        entry(SerialNumber::from_slice(certificate.parse_x509().expect("a certificate").raw_serial()), at(now))
    });
    let params = CertificateRevocationListParams {
        this_update: at(now),
        next_update: at(now) + LIST_HOLDS,
        crl_number: number.into(),
        issuing_distribution_point: Some(rcgen::CrlIssuingDistributionPoint {
            distribution_point: rcgen::CrlDistributionPoint { uris: vec!["http://lists.example/users.crl".into()] },
            scope: Some(rcgen::CrlScope::UserCertsOnly),
        }),
        revoked_certs: entries.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer(by).expect("an authority")).expect("signed").pem().expect("PEM")
}

/// An authority of the same name, made anew.
#[cfg(test)]
pub(crate) fn rekeyed(by: &Issued, now: UnixNanos, rng: &dyn Rng) -> (Issued, String) {
    let read = pem(by.certificate.as_bytes(), "the authority").expect("PEM");
    let read = read.parse_x509().expect("a certificate");
    let name = read.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).expect("a name");
    let key = key(rng).expect("drawn");
    let mut params = params(name, 365, now, rng).expect("fine");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).expect("signed").pem();
    let list = signed_list(&Issuer::from_params(&params, &key), Vec::new(), 1, now).expect("signed");
    (Issued { certificate, key: key.serialize_pem() }, list)
}

/// A list in the name of one authority, signed by another's key.
#[cfg(test)]
pub(crate) fn forged_list(named: &Issued, signs: &Issued, number: u64, now: UnixNanos) -> String {
    let key = KeyPair::from_pem(&signs.key).expect("a key");
    let issuer = Issuer::from_ca_cert_pem(&named.certificate, key).expect("an authority");
    signed_list(&issuer, Vec::new(), number, now).expect("signed")
}

fn at(now: UnixNanos) -> OffsetDateTime {
    let seconds = i64::try_from(now.0 / 1_000_000_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(crate) fn unix(seconds: i64) -> UnixNanos {
    UnixNanos(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pem(text: &[u8], what: &'static str) -> Result<Pem, AuthorityError> {
    let first = Pem::iter_from_buffer(text).next();
    first.ok_or_else(|| AuthorityError::Unreadable(what, "it is no PEM".into()))?.map_err(unreadable(what))
}

fn unreadable<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> AuthorityError {
    move |error| AuthorityError::Unreadable(what, error.to_string())
}

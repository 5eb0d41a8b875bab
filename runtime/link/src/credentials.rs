//! What a node shows of itself and whom it believes: certificate chain, key, authorities, revocation lists.
//!
//! Read again and again while the node runs, as one reading: files that are written one after the other may not belong together for a
//! moment, and then the last good ones stay in force.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use palisade_domain::NodeName;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use crate::authority;

/// Bytes of the largest file that is read: a list of some ten thousand certificates.
const LARGEST_FILE: u64 = 4 << 20;

/// See the module.
#[derive(PartialEq, Eq)]
pub struct Credentials {
    /// The node's own certificate, and those between it and the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// Whose certificates are believed: more than one while they change.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Which of them are taken back.
    pub revocations: Vec<CertificateRevocationListDer<'static>>,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?})", self.name())
    }
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// They do not belong together, or are of a kind that is not understood.
    #[error("certificate, key and authorities: {0}")]
    Unusable(#[from] rustls::Error),
    /// The certificate names no node.
    #[error("the certificate has no DNS name that is a name of a node: issue one by `palisade certificate issue`")]
    Nameless,
    /// The list cannot be used.
    #[error("the revocation list: {0}")]
    Revocations(String),
}

/// Where they come from.
pub trait CredentialSource: Send + Sync {
    /// All of them, as they are now.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    fn read(&self) -> Result<Credentials, CredentialsError>;
}

/// Files of PEM.
#[derive(Debug, Clone)]
pub struct CredentialFiles {
    /// The node's own certificate first.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// One authority or more.
    pub authorities: PathBuf,
    /// One list or more, or nothing.
    pub revoked: Option<PathBuf>,
}

impl CredentialSource for CredentialFiles {
    fn read(&self) -> Result<Credentials, CredentialsError> {
        let chain = many(&self.certificate, "certificate", |text| CertificateDer::pem_slice_iter(text).collect())?;
        let authorities =
            many(&self.authorities, "certificate", |text| CertificateDer::pem_slice_iter(text).collect())?;
        let key = PrivateKeyDer::from_pem_slice(&content(&self.key)?).map_err(|error| wrong(&self.key, &error))?;
        let revocations = self.revoked.as_ref().map(|path| {
            many(path, "revocation list", |text| CertificateRevocationListDer::pem_slice_iter(text).collect())
        });
        Ok(Credentials { chain, key, authorities, revocations: revocations.transpose()?.unwrap_or_default() })
    }
}

impl Credentials {
    /// From PEM.
    ///
    /// # Errors
    /// It is no PEM of these.
    pub fn of_pem(certificate: &str, key: &str, authorities: &str, revoked: &str) -> Result<Self, pem::Error> {
        Ok(Self {
            chain: CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<_, _>>()?,
            key: PrivateKeyDer::from_pem_slice(key.as_bytes())?,
            authorities: CertificateDer::pem_slice_iter(authorities.as_bytes()).collect::<Result<_, _>>()?,
            revocations: CertificateRevocationListDer::pem_slice_iter(revoked.as_bytes()).collect::<Result<_, _>>()?,
        })
    }

    /// The node that the certificate names first.
    #[must_use]
    pub fn name(&self) -> Option<NodeName> {
        self.chain
            .first()
            .and_then(|certificate| authority::names(certificate).iter().find_map(|name| name.parse().ok()))
    }
}

fn content(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::File { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(failed)?.len();
    if length > LARGEST_FILE {
        let why = format!("{length} bytes, of at most {LARGEST_FILE}");
        return Err(CredentialsError::Content { path: path.to_owned(), why });
    }
    fs::read(path).map_err(failed)
}

fn many<T>(
    path: &Path,
    what: &str,
    parse: impl FnOnce(&[u8]) -> Result<Vec<T>, pem::Error>,
) -> Result<Vec<T>, CredentialsError> {
    let found = parse(&content(path)?).map_err(|error| wrong(path, &error))?;
    if found.is_empty() {
        return Err(CredentialsError::Content { path: path.to_owned(), why: format!("no {what} in it (PEM)") });
    }
    Ok(found)
}

fn wrong(path: &Path, error: &pem::Error) -> CredentialsError {
    CredentialsError::Content { path: path.to_owned(), why: words(error) }
}

/// The crate's own words are bytes as numbers.
fn words(error: &pem::Error) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().escape_debug().to_string();
    match error {
        pem::Error::MissingSectionEnd { end_marker } => {
            format!("it is cut off: the end of its {} is missing", text(end_marker))
        }
        pem::Error::IllegalSectionStart { line } => format!("no part of a PEM file begins so: {}", text(line)),
        pem::Error::Base64Decode(_) => "what stands in it is no base64: it is damaged".to_owned(),
        pem::Error::NoItemsFound => "no private key in it (PEM)".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_credentials_say_in_words_what_is_wrong_with_a_key() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a.key");
        let begin = "-----BEGIN PRIVATE KEY-----\n";
        for (text, says) in [
            (format!("{begin}MIGH\n"), "it is cut off: the end of its PRIVATE KEY is missing"),
            ("-----BEGIN PRIVATE KEY\n".to_owned(), "no part of a PEM file begins so: -----BEGIN PRIVATE KEY"),
            (format!("{begin}!!!!\n-----END PRIVATE KEY-----\n"), "it is damaged"),
            ("nothing".to_owned(), "no private key in it (PEM)"),
        ] {
            fs::write(&path, text).expect("written");
            let error = PrivateKeyDer::from_pem_slice(&content(&path).expect("read")).expect_err("broken");
            let said = wrong(&path, &error).to_string();
            assert!(said.contains(says) && said.contains("a.key") && !said.contains('['), "{said}");
        }
    }
}

//! What a node shows of itself and whom it believes: certificate chain, key, authorities, revocation lists.
//!
//! Read again and again while the node runs, each part by itself, as one [`Reading`]: parts that are written one after the other may not belong
//! together for a moment, and one may not be there at all. Which of them are in force is for [`crate::renewal`].

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use palisade_domain::{NodeName, UnixNanos};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use crate::{authority, words};

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

/// What a node shows of itself: the certificate with those between it and the authority, and the key.
pub type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Credentials as they are now, part by part.
pub struct Reading {
    /// Certificate and key.
    pub own: Result<Own, CredentialsError>,
    /// As in [`Credentials`].
    pub authorities: Result<Vec<CertificateDer<'static>>, CredentialsError>,
    /// As in [`Credentials`].
    pub revocations: Result<Vec<CertificateRevocationListDer<'static>>, CredentialsError>,
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
    /// It is being read, and that does not come to an end.
    #[error(
        "{}: its file system does not answer: reading it began {} and takes more than {} s",
        path.display(), since.rfc3339(), within.as_secs()
    )]
    Hangs {
        /// Which.
        path: PathBuf,
        /// How long it was waited for.
        within: Duration,
        /// When that began.
        since: UnixNanos,
    },
    /// They do not belong together, or are of a kind that is not understood.
    #[error("certificate, key and authorities: {}", words::of_tls(.0))]
    Unusable(#[from] rustls::Error),
    /// The certificate is another node's.
    #[error("the certificate is of {named}, and this node runs as {runs}")]
    OtherNode {
        /// Whom it names.
        named: String,
        /// Who runs.
        runs: NodeName,
    },
    /// The certificate names no node.
    #[error("the certificate has no DNS name that is a name of a node: issue one by `palisade certificate issue`")]
    Nameless,
    /// The list cannot be used.
    #[error("the revocation list: {0}")]
    Revocations(String),
}

/// One of the files that credentials are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The node's own, and those between.
    Certificate,
    /// Its key.
    Key,
    /// Who is believed.
    Authorities,
    /// Who is not any more.
    Revocations,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Certificate, Self::Key, Self::Authorities, Self::Revocations];
}

/// What a part holds, where there is such a part.
pub type Text = Result<Option<Vec<u8>>, CredentialsError>;

/// Parts that are each read by themselves, which may take any time.
pub trait Separate: Send + Sync {
    /// As it is now.
    ///
    /// # Errors
    /// It cannot be read.
    fn text(&self, part: Part) -> Text;

    /// What it is called in complaints.
    fn path(&self, part: Part) -> PathBuf;
}

/// Where credentials come from.
pub trait CredentialSource: Send + Sync {
    /// All of them, as they are now.
    fn read(&self) -> Reading;

    /// Their parts, where reading may take any time: each is then read on a thread of its own, and given up where it takes too long.
    fn separate(&self) -> Option<Arc<dyn Separate>> {
        None
    }
}

impl From<Credentials> for Reading {
    fn from(Credentials { chain, key, authorities, revocations }: Credentials) -> Self {
        Self { own: Ok((chain, key)), authorities: Ok(authorities), revocations: Ok(revocations) }
    }
}

impl Reading {
    /// All parts, or what is wrong with the first that is not there.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn whole(self) -> Result<Credentials, CredentialsError> {
        let (chain, key) = self.own?;
        Ok(Credentials { chain, key, authorities: self.authorities?, revocations: self.revocations? })
    }

    /// Of PEM, in the order of [`Part::ALL`].
    pub(crate) fn of_texts(parts: &dyn Separate, texts: [Text; 4]) -> Self {
        let path = |part| parts.path(part);
        let [certificate, key, authorities, revocations] = texts;
        let own = || {
            let chain = certificates(&path(Part::Certificate), certificate?)?;
            let (path, text) = (path(Part::Key), key?.unwrap_or_default());
            Ok((chain, PrivateKeyDer::from_pem_slice(&text).map_err(|error| wrong(&path, &error))?))
        };
        let listed = |text: Option<Vec<u8>>| {
            let lists = |text: &[u8]| CertificateRevocationListDer::pem_slice_iter(text).collect();
            text.map(|text| many(&path(Part::Revocations), &text, "revocation list", lists)).transpose()
        };
        Self {
            own: own(),
            authorities: authorities.and_then(|text| certificates(&path(Part::Authorities), text)),
            revocations: revocations.and_then(listed).map(Option::unwrap_or_default),
        }
    }
}

impl Credentials {
    pub(crate) fn own(&self) -> Own {
        (self.chain.clone(), self.key.clone_key())
    }

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

fn certificates(path: &Path, text: Option<Vec<u8>>) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    many(path, &text.unwrap_or_default(), "certificate", |text| CertificateDer::pem_slice_iter(text).collect())
}

fn many<T>(
    path: &Path,
    text: &[u8],
    what: &str,
    parse: impl FnOnce(&[u8]) -> Result<Vec<T>, pem::Error>,
) -> Result<Vec<T>, CredentialsError> {
    let found = parse(text).map_err(|error| wrong(path, &error))?;
    if found.is_empty() {
        return Err(CredentialsError::Content { path: path.to_owned(), why: format!("no {what} in it (PEM)") });
    }
    Ok(found)
}

fn wrong(path: &Path, error: &pem::Error) -> CredentialsError {
    CredentialsError::Content { path: path.to_owned(), why: words::of_pem(error) }
}

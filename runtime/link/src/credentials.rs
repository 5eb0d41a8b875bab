//! What a node shows of itself and whom it believes: certificate chain, key, authorities, revocation lists.
//!
//! Read again and again while the node runs, as one reading: files that are written one after the other may not belong together for a
//! moment, and then the last good ones stay in force: the pair of certificate and key, or all.

use std::{
    fmt, fs, io,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use palisade_domain::NodeName;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

use crate::{authority, reader, words};

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

/// Whom a node believes, apart from what it shows of itself.
#[derive(Debug)]
pub struct Trust {
    /// As in [`Credentials`].
    pub authorities: Vec<CertificateDer<'static>>,
    /// As in [`Credentials`].
    pub revocations: Vec<CertificateRevocationListDer<'static>>,
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
    #[error("{}: its file system does not answer: reading it takes more than {} s", path.display(), within.as_secs())]
    Hangs {
        /// Which.
        path: PathBuf,
        /// How long it was waited for.
        within: Duration,
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
    /// The node's own certificate or key cannot be read, and all else can.
    #[error("{why}")]
    OwnPair {
        /// Why.
        why: Box<Self>,
        /// All else.
        trust: Box<Trust>,
    },
}

/// Where they come from.
pub trait CredentialSource: Send + Sync {
    /// All of them, as they are now.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    fn read(&self) -> Result<Credentials, CredentialsError>;

    /// The same; says of each file that it is now being read.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    fn read_telling(&self, _reads: &dyn Fn(&Path)) -> Result<Credentials, CredentialsError> {
        self.read()
    }

    /// Whether reading may take any time: then it is done on a thread of its own, and given up where it takes too long.
    fn may_hang(&self) -> bool {
        false
    }
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
        self.read_telling(&|_| {})
    }

    fn read_telling(&self, reads: &dyn Fn(&Path)) -> Result<Credentials, CredentialsError> {
        let content = |path: &Path| {
            reads(path);
            content(path)
        };
        let certificates =
            |path| many(path, &content(path)?, "certificate", |text| CertificateDer::pem_slice_iter(text).collect());
        let own = || {
            let chain = certificates(&self.certificate)?;
            let key = PrivateKeyDer::from_pem_slice(&content(&self.key)?).map_err(|error| wrong(&self.key, &error))?;
            Ok((chain, key))
        };
        let trust = || {
            let authorities = certificates(&self.authorities)?;
            let revocations = self.revoked.as_ref().map(|path| {
                let lists = |text: &[u8]| CertificateRevocationListDer::pem_slice_iter(text).collect();
                many(path, &content(path)?, "revocation list", lists)
            });
            Ok(Trust { authorities, revocations: revocations.transpose()?.unwrap_or_default() })
        };
        Credentials::of_parts(own(), trust())
    }

    fn may_hang(&self) -> bool {
        true
    }
}

impl CredentialFiles {
    /// As [`CredentialSource::read`], and given up where it takes too long.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn read_in_time(&self) -> Result<Credentials, CredentialsError> {
        reader::wait(Arc::new(self.clone()))
    }
}

impl Credentials {
    pub(crate) fn of_parts(
        own: Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), CredentialsError>,
        trust: Result<Trust, CredentialsError>,
    ) -> Result<Self, CredentialsError> {
        match (own, trust) {
            (Ok((chain, key)), Ok(Trust { authorities, revocations })) => {
                Ok(Self { chain, key, authorities, revocations })
            }
            (Err(why), Ok(trust)) => Err(CredentialsError::OwnPair { why: Box::new(why), trust: Box::new(trust) }),
            (Err(error), Err(_)) | (Ok(_), Err(error)) => Err(error),
        }
    }

    /// This pair, and whom to believe by these.
    pub(crate) fn with(&self, trust: Trust) -> Self {
        let Trust { authorities, revocations } = trust;
        Self { chain: self.chain.clone(), key: self.key.clone_key(), authorities, revocations }
    }

    pub(crate) fn trust(&self) -> Trust {
        Trust { authorities: self.authorities.clone(), revocations: self.revocations.clone() }
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

/// Opened without waiting for anybody: a pipe would wait for its writer for ever.
fn content(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::File { path: path.to_owned(), source };
    let wrong = |why| CredentialsError::Content { path: path.to_owned(), why };
    let at_once = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new().read(true).custom_flags(at_once).open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(wrong("it is no file, but a directory, a pipe or a device".to_owned()));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let length = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if length as u64 > LARGEST_FILE {
        return Err(wrong(format!("{} bytes, of at most {LARGEST_FILE}", about.len().max(length as u64))));
    }
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_link_authorities_and_lists_are_read_though_the_pair_of_the_node_cannot_be() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let office = crate::tests::bed::Office::new(7);
        fs::write(path("ca"), &office.own.certificate).expect("written");
        fs::write(path("list"), &office.list).expect("written");
        let files = CredentialFiles {
            certificate: path("none"),
            key: path("none"),
            authorities: path("ca"),
            revoked: Some(path("list")),
        };
        let error = files.read_in_time().expect_err("there is no pair");
        assert!(error.to_string().contains("none: No such file"), "{error}");
        let CredentialsError::OwnPair { trust, .. } = error else { panic!("{error}") };
        assert_eq!((trust.authorities.len(), trust.revocations.len()), (1, 1));
        fs::write(path("list"), "").expect("written");
        let error = files.read_in_time().expect_err("there is no list, either");
        assert!(matches!(error, CredentialsError::File { .. }), "{error}");
    }

    #[test]
    fn unit_link_files_that_are_none_or_broken_are_named_at_once_and_in_words() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (pipe, file) = (directory.path().join("pipe"), directory.path().join("file"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("made");
        let said = |certificate: &Path| {
            let files = CredentialFiles {
                certificate: certificate.to_owned(),
                key: file.clone(),
                authorities: file.clone(),
                revoked: None,
            };
            files.read_in_time().expect_err("it is none").to_string()
        };
        assert!(said(&pipe).ends_with("pipe: it is no file, but a directory, a pipe or a device"), "{}", said(&pipe));
        assert!(said(directory.path()).ends_with("it is no file, but a directory, a pipe or a device"));
        for (text, words) in [
            ("-----BEGIN CERTIFICATE-----\nMIIB\n", "there is no line -----END CERTIFICATE-----"),
            ("-----BEGIN CERTIFICATE\n", "does not end as it should"),
            ("-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n", "is no base64"),
            ("", "no certificate in it (PEM)"),
        ] {
            fs::write(&file, text).expect("written");
            let said = said(&file);
            assert!(said.contains(words), "{said}");
            assert!(!said.contains('['), "bytes: {said}");
        }
    }
}

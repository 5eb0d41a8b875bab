//! Credentials as files of PEM.
//!
//! Invariant: a file is read by itself, in a bounded size, and says nothing of the others: which of them belong together is for who has read
//! all of them. Opened without waiting for anybody: a pipe would wait for its writer for ever.

use std::{
    fs,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use palisade_domain::UnixNanos;

use crate::{
    credentials::{CredentialSource, Credentials, CredentialsError, Part, Reading, Separate, Text},
    reader,
};

/// Bytes of the largest file that is read: a list of some ten thousand certificates.
pub const LARGEST_FILE: u64 = 4 << 20;

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

impl Separate for CredentialFiles {
    fn text(&self, part: Part) -> Text {
        self.file(part).map(content).transpose()
    }

    fn path(&self, part: Part) -> PathBuf {
        self.file(part).map(Path::to_owned).unwrap_or_default()
    }
}

impl CredentialSource for CredentialFiles {
    fn read(&self) -> Reading {
        Reading::of_texts(self, Part::ALL.map(|part| self.text(part)))
    }

    fn separate(&self) -> Option<Arc<dyn Separate>> {
        Some(Arc::new(self.clone()))
    }
}

impl CredentialFiles {
    fn file(&self, part: Part) -> Option<&Path> {
        match part {
            Part::Certificate => Some(&self.certificate),
            Part::Key => Some(&self.key),
            Part::Authorities => Some(&self.authorities),
            Part::Revocations => self.revoked.as_deref(),
        }
    }

    /// All of them, or what is wrong with one; each is waited for only so long.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn read_in_time(&self, now: UnixNanos) -> Result<Credentials, CredentialsError> {
        reader::wait(self, now).whole()
    }
}

fn content(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    let failed = |source| CredentialsError::File { path: path.to_owned(), source };
    let wrong = |why| CredentialsError::Content { path: path.to_owned(), why };
    let at_once = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file =
        fs::OpenOptions::new().read(true).custom_flags(at_once).open(path).map_err(|error| match error.kind() {
            // A socket cannot be opened at all.
            _ if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => wrong(NO_FILE.to_owned()),
            _ => failed(error),
        })?;
    let about = file.metadata().map_err(failed)?;
    if !about.is_file() {
        return Err(wrong(NO_FILE.to_owned()));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    let length = file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if length as u64 > LARGEST_FILE {
        return Err(wrong(format!("{} bytes, of at most {LARGEST_FILE}", about.len().max(length as u64))));
    }
    Ok(bytes)
}

const NO_FILE: &str = "it is no file, but a directory, a pipe or a device";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::bed::{EPOCH, Office};

    fn pipe(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("made");
    }

    #[test]
    fn unit_link_each_file_of_credentials_is_read_whatever_is_wrong_with_the_others() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let office = Office::new(7);
        let own = office.issue("a", 90);
        for (name, text) in
            [("a.pem", &own.certificate), ("a.key", &own.key), ("ca", &office.own.certificate), ("list", &office.list)]
        {
            fs::write(path(name), text).expect("written");
        }
        pipe(&path("pipe"));
        let good = CredentialFiles {
            certificate: path("a.pem"),
            key: path("a.key"),
            authorities: path("ca"),
            revoked: Some(path("list")),
        };
        good.read_in_time(EPOCH).expect("all are good");
        for bad in ["none", "pipe"] {
            let one_is_bad = [
                CredentialFiles { certificate: path(bad), ..good.clone() },
                CredentialFiles { key: path(bad), ..good.clone() },
                CredentialFiles { authorities: path(bad), ..good.clone() },
                CredentialFiles { revoked: Some(path(bad)), ..good.clone() },
            ];
            for (files, expected) in one_is_bad.into_iter().zip([
                [false, true, true],
                [false, true, true],
                [true, false, true],
                [true, true, false],
            ]) {
                let Reading { own, authorities, revocations } = reader::wait(&files, EPOCH);
                assert_eq!([own.is_ok(), authorities.is_ok(), revocations.is_ok()], expected, "{bad}");
                let said = files.read_in_time(EPOCH).expect_err("one is bad").to_string();
                assert!(said.contains(bad), "{said}");
            }
        }
    }

    #[test]
    fn unit_link_files_that_are_none_or_broken_are_named_at_once_and_in_words() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name);
        let file = path("file");
        pipe(&path("pipe"));
        let _listening = std::os::unix::net::UnixListener::bind(path("socket")).expect("bound");
        fs::write(path("large"), vec![b'x'; 1 + usize::try_from(LARGEST_FILE).expect("fits")]).expect("written");
        let said = |certificate: &Path| {
            let files = CredentialFiles {
                certificate: certificate.to_owned(),
                key: file.clone(),
                authorities: file.clone(),
                revoked: None,
            };
            files.read_in_time(EPOCH).expect_err("it is none").to_string()
        };
        for none in ["pipe", "socket", ""] {
            assert!(said(&path(none)).ends_with(NO_FILE), "{}", said(&path(none)));
        }
        assert!(said(Path::new("/dev/zero")).ends_with(NO_FILE), "{}", said(Path::new("/dev/zero")));
        assert!(said(&path("large")).ends_with("4194305 bytes, of at most 4194304"), "{}", said(&path("large")));
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

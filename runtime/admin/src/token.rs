//! The bearer token of the loopback port.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use subtle::ConstantTimeEq as _;

use crate::AdminError;

/// Most bytes that are read of a token's file.
const MAX_FILE_BYTES: u64 = 4096;

/// Of x86-64 and arm64, `asm-generic/fcntl.h`.
const O_NONBLOCK: i32 = 0o4000;

/// A secret of at least 128 bits. Never printed.
#[derive(Clone)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// Reads the token from `path`, or makes one there (mode 0600, 256 random bits as hex).
    ///
    /// # Errors
    /// What the operating system said, or why the file's token is none: too short, or others could have read or written it.
    pub fn at(path: &Path) -> Result<Self, AdminError> {
        // A FIFO of that name must not hold up the start until somebody writes to it; it is refused as no regular file.
        let token = match OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path) {
            Ok(file) => Self::read(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        };
        token.map_err(|source| AdminError::Token { path: path.to_owned(), source })
    }

    fn read(file: File) -> io::Result<Self> {
        let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let metadata = file.metadata()?;
        // The file's owner is whom it must belong to, whatever user this process has: a token that another user wrote is his to use.
        let own = fs::metadata("/proc/self")?.uid();
        if !metadata.is_file() || ![0, own].contains(&metadata.uid()) {
            return Err(wrong("it is not a regular file of ours; remove it to have one made".into()));
        }
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(wrong(format!(
                "others may use it (mode {mode:04o}): chmod 600, or remove it to have one made"
            )));
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
        let text = text.trim();
        if text.len() < 32 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(
                "a token has at least 32 characters, all of them visible ASCII; remove the file to have one made"
                    .into(),
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// Written whole under another name and then linked: nobody reads half a token, and of two who make one at once one wins.
    fn make(path: &Path) -> io::Result<Self> {
        let mut bits = [0; 32];
        // Unlike urandom it waits, early at boot, until there is randomness.
        File::open("/dev/random")?.read_exact(&mut bits)?;
        let text = bits.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"));
        let mut unseen = path.as_os_str().to_owned();
        unseen.push(format!(".{}", std::process::id()));
        // Left, if it is there, by a process that was killed right here.
        fs::remove_file(&unseen).ok();
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unseen)?;
        let linked = file.write_all(text.as_bytes()).and_then(|()| fs::hard_link(&unseen, path));
        fs::remove_file(&unseen)?;
        match linked {
            Ok(()) => Ok(Self(text)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::read(File::open(path)?),
            Err(error) => Err(error),
        }
    }

    /// Whether an `Authorization` header carries this token; takes the same time for each wrong one of the same length.
    #[must_use]
    pub fn admits(&self, authorization: Option<&str>) -> bool {
        authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|token| token.as_bytes().ct_eq(self.0.as_bytes()).into())
    }
}

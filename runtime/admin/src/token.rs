//! The bearer token of the loopback port.

use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use subtle::ConstantTimeEq as _;

use crate::AdminError;

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
    /// What the operating system said, or that the file holds less than 32 characters.
    pub fn at(path: &Path) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Token { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) if text.trim().len() >= 32 => Ok(Self(text.trim().to_owned())),
            Ok(_) => Err(failed(io::Error::new(
                io::ErrorKind::InvalidData,
                "a token has at least 32 characters; remove the file to have one made",
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut bits = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut bits)?;
        let text = bits.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        Ok(Self(text))
    }

    /// Whether an `Authorization` header carries this token; takes the same time for each wrong one of the same length.
    #[must_use]
    pub fn admits(&self, authorization: Option<&str>) -> bool {
        authorization
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|token| token.as_bytes().ct_eq(self.0.as_bytes()).into())
    }
}

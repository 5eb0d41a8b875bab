//! What a path rule matches, as token sequences.

use palisade_kernel_abi::blob::{BASENAME_MAX, domain_path};
use palisade_policy::ir::PathMatch;
use thiserror::Error;

use crate::automaton::{ByteSet, GlobError, MAX_PATTERN_BYTES, Token, glob};

/// Why a path cannot be lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// Not a glob.
    #[error(transparent)]
    Glob(#[from] GlobError),
    /// No path has a NUL.
    #[error("there is a NUL in it, and no path has one")]
    Nul,
    /// No path is so long.
    #[error("it has {0} bytes, and no path has more than {MAX_PATTERN_BYTES}")]
    TooLong(usize),
    /// No file has so long a name.
    #[error("it has {0} bytes, and no name has more than {BASENAME_MAX}")]
    LongName(usize),
}

/// The sequences whose union is the match. What no path can be is not among them: two slashes have something between them, and but for the
/// root's own no path ends with one. So names with two slashes are free for other questions ([`directories`](crate::directories)).
///
/// # Errors
/// Where the text can match no path, or is no glob.
pub fn sequences(path: &PathMatch) -> Result<Vec<Vec<Token>>, PathError> {
    Ok(spelt(path)?
        .into_iter()
        .map(|tokens| if is_the_root_alone(&tokens) { vec![Token::Byte(b'/')] } else { tokens })
        .filter(|tokens| may_be_a_path(tokens))
        .map(|tokens| with_whole_components(&tokens))
        .collect())
}

fn is_separator(token: &Token) -> bool {
    matches!(token, Token::Byte(b'/') | Token::Components)
}

/// The root is the only path that it can be: each other one would end with a slash.
fn is_the_root_alone(tokens: &[Token]) -> bool {
    tokens.last().is_some_and(is_separator) && may_be_the_root(tokens)
}

/// A separator, and beside it what may be nothing.
fn may_be_the_root(tokens: &[Token]) -> bool {
    let mut others = tokens.iter().filter(|token| **token != Token::DoubleStar);
    others.next().is_some_and(is_separator) && others.next().is_none()
}

fn may_be_a_path(tokens: &[Token]) -> bool {
    let has_an_empty_component = tokens.windows(2).any(|two| two.iter().all(is_separator));
    !has_an_empty_component && (tokens.len() < 2 || !tokens.last().is_some_and(is_separator))
}

/// A `*` that is a whole component has a byte at least, and so has a `**` between slashes; but for the last one of `/*` and `**/*`, which are the
/// root, too.
fn with_whole_components(tokens: &[Token]) -> Vec<Token> {
    let mut whole = Vec::with_capacity(tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        let begins = at > 0 && is_separator(&tokens[at - 1]);
        let next = tokens.get(at + 1);
        let is_whole = match token {
            Token::Star => next.is_none_or(is_separator) && !(next.is_none() && may_be_the_root(&tokens[..at])),
            Token::DoubleStar => next.is_some_and(is_separator),
            _ => false,
        };
        if begins && is_whole {
            whole.push(Token::Set(ByteSet::component()));
        }
        whole.push(*token);
    }
    whole
}

fn spelt(path: &PathMatch) -> Result<Vec<Vec<Token>>, PathError> {
    Ok(match path {
        PathMatch::Exact(path) => vec![literal(path)?],
        PathMatch::Name(name) if name.len() > BASENAME_MAX => return Err(PathError::LongName(name.len())),
        // Read by an automaton of last components.
        PathMatch::Name(name) => vec![literal(name)?],
        PathMatch::Directory { directory, recursive } => directory_sequences(directory, *recursive)?,
        PathMatch::Pattern(pattern) => glob(pattern)?,
        PathMatch::Any => vec![vec![Token::DoubleStar]],
    })
}

/// The directory itself is written without its slash; `/` has no other spelling.
fn directory_sequences(directory: &str, recursive: bool) -> Result<Vec<Vec<Token>>, PathError> {
    let inside = if recursive { Token::DoubleStar } else { Token::Star };
    let children = [literal(directory)?, vec![inside]].concat();
    let itself = literal(directory.trim_end_matches('/'))?;
    Ok(if itself.is_empty() { vec![children] } else { vec![itself, children] })
}

/// A path as it stands.
///
/// # Errors
/// Where no path can be it.
pub fn literal(path: &str) -> Result<Vec<Token>, PathError> {
    if path.len() > MAX_PATTERN_BYTES {
        return Err(PathError::TooLong(path.len()));
    }
    if path.contains('\0') {
        return Err(PathError::Nul);
    }
    Ok(path.bytes().map(Token::Byte).collect())
}

/// A domain and all below it, as the name automaton reads names.
///
/// # Errors
/// Where no name can be it.
pub fn domain_sequences(domain: &str) -> Result<Vec<Vec<Token>>, PathError> {
    if domain.len() > MAX_PATTERN_BYTES {
        return Err(PathError::TooLong(domain.len()));
    }
    let itself: Vec<Token> = domain_path(domain.as_bytes()).into_iter().map(Token::Byte).collect();
    let below = [itself.as_slice(), &[Token::Byte(b'/'), Token::DoubleStar]].concat();
    Ok(vec![itself, below])
}

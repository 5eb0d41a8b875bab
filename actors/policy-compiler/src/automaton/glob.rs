//! Globs over path bytes to token sequences.
//!
//! The language: `?` is one byte of a component and `*` any number of them; `**` is any number of any bytes; a component that is
//! exactly `**` and has a slash on both sides is any number of whole components, also none (`/a/**/b` matches `/a/b`); `[...]` is
//! one byte of a class (ranges `a-z`, negated by a leading `!` or `^`, a `]` in first place is itself), never `/`;
//! `{a,b}` is an alternative, may nest and may hold anything; `\` takes the next byte literally, also within `[...]`. Alternatives are
//! taken apart first, so `/{**,x}/y` is `/**/y` or `/x/y`. All is bytes: `?` is one byte of a multi-byte character.
//!
//! Decision: alternatives are expanded (bounded) rather than kept as NFA branches, because the trie then shares prefixes and
//! `/**/` is recognised across the edges of an alternative.

use thiserror::Error;

use super::{ByteSet, Token};

/// The longest pattern: no path is longer (`PATH_MAX`).
pub const MAX_PATTERN_BYTES: usize = 4096;
/// The most sequences that one pattern's alternatives may make.
pub const MAX_ALTERNATIVES: usize = 1024;
/// The most bytes that one pattern's sequences may have together: each takes 40 while they are written out.
pub const MAX_EXPANDED_BYTES: usize = 1 << 18;
/// The deepest nesting of alternatives.
const MAX_DEPTH: usize = 16;

/// Why a text is not a glob. Offsets are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GlobError {
    /// Longer than any path.
    #[error("it has {0} bytes, and no path has more than {MAX_PATTERN_BYTES}")]
    TooLong(usize),
    /// `[` without `]`.
    #[error("the `[` at byte {0} is not closed; write `\\[` for the character")]
    UnclosedClass(usize),
    /// `[z-a]`, `[/]`: nothing can match it.
    #[error(
        "the class at byte {0} matches nothing (a range is from the lower to the higher byte, and `/` is in no class)"
    )]
    EmptyClass(usize),
    /// A multi-byte character in a class, which would match its bytes one by one.
    #[error("the class at byte {0} holds a character of several bytes; write an alternative: `{{ä,ö}}`")]
    WideClass(usize),
    /// `{` without `}`.
    #[error("the `{{` at byte {0} is not closed; write `\\{{` for the character")]
    UnclosedAlternative(usize),
    /// Nested too deeply.
    #[error("the `{{` at byte {0} is nested more than {MAX_DEPTH} deep")]
    TooDeep(usize),
    /// A `\` with nothing after it.
    #[error("the pattern ends with a `\\` that escapes nothing")]
    DanglingEscape,
    /// NUL is in no path.
    #[error("there is a NUL at byte {0}, and no path has one")]
    Nul(usize),
    /// The product of alternatives.
    #[error("its alternatives make {0} patterns, and {MAX_ALTERNATIVES} are the most")]
    TooManyAlternatives(usize),
    /// The alternatives written out.
    #[error("its alternatives written out have {0} bytes, and {MAX_EXPANDED_BYTES} are the most")]
    TooLongAlternatives(usize),
}

/// Before `*`s are put together.
#[derive(Debug, Clone)]
enum Piece {
    Byte(u8),
    Set(ByteSet),
    Star,
    Alternatives(Vec<Vec<Piece>>),
}

/// The token sequences whose union is the glob.
///
/// # Errors
/// Where the text is not a glob, or is beyond a bound.
pub fn glob(pattern: &str) -> Result<Vec<Vec<Token>>, GlobError> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(GlobError::TooLong(pattern.len()));
    }
    let mut parser = Parser { bytes: pattern.as_bytes(), at: 0, depth: 0 };
    let pieces = parser.sequence()?;
    let (count, bytes) = alternatives_of(&pieces);
    if count > MAX_ALTERNATIVES {
        return Err(GlobError::TooManyAlternatives(count));
    }
    if bytes > MAX_EXPANDED_BYTES {
        return Err(GlobError::TooLongAlternatives(bytes));
    }
    Ok(expand(&pieces).iter().map(|flat| tokens(flat)).collect())
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Up to the end, or within an alternative up to its `,` or `}`.
    fn sequence(&mut self) -> Result<Vec<Piece>, GlobError> {
        let mut pieces = Vec::new();
        while let Some(byte) = self.peek() {
            if self.depth > 0 && matches!(byte, b',' | b'}') {
                break;
            }
            pieces.push(self.piece(byte)?);
        }
        Ok(pieces)
    }

    fn piece(&mut self, byte: u8) -> Result<Piece, GlobError> {
        let start = self.at;
        self.at += 1;
        Ok(match byte {
            0 => return Err(GlobError::Nul(start)),
            b'*' => Piece::Star,
            b'?' => Piece::Set(ByteSet::component()),
            b'[' => Piece::Set(self.class(start)?),
            b'{' => Piece::Alternatives(self.alternatives(start)?),
            b'\\' => Piece::Byte(self.escaped()?),
            literal => Piece::Byte(literal),
        })
    }

    fn escaped(&mut self) -> Result<u8, GlobError> {
        let byte = self.peek().ok_or(GlobError::DanglingEscape)?;
        if byte == 0 {
            return Err(GlobError::Nul(self.at));
        }
        self.at += 1;
        Ok(byte)
    }

    fn alternatives(&mut self, start: usize) -> Result<Vec<Vec<Piece>>, GlobError> {
        if self.depth == MAX_DEPTH {
            return Err(GlobError::TooDeep(start));
        }
        self.depth += 1;
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence()?);
            let end = self.peek().ok_or(GlobError::UnclosedAlternative(start))?;
            self.at += 1;
            if end == b'}' {
                break;
            }
        }
        self.depth -= 1;
        Ok(alternatives)
    }

    fn class(&mut self, start: usize) -> Result<ByteSet, GlobError> {
        let negated = matches!(self.peek(), Some(b'!' | b'^'));
        self.at += usize::from(negated);
        let mut set = ByteSet::EMPTY;
        let mut first = true;
        while first || self.peek() != Some(b']') {
            let low = self.class_member(start)?;
            let is_range = self.peek() == Some(b'-') && self.bytes.get(self.at + 1).is_some_and(|next| *next != b']');
            let high = if is_range {
                self.at += 1;
                self.class_member(start)?
            } else {
                low
            };
            if low > high {
                return Err(GlobError::EmptyClass(start));
            }
            set = set.union(ByteSet::range(low, high));
            first = false;
        }
        self.at += 1;
        let set = if negated { set.complement() } else { set }.without(b'/');
        if set.is_empty() { Err(GlobError::EmptyClass(start)) } else { Ok(set) }
    }

    fn class_member(&mut self, start: usize) -> Result<u8, GlobError> {
        let byte = match self.peek().ok_or(GlobError::UnclosedClass(start))? {
            b'\\' => {
                self.at += 1;
                self.peek().ok_or(GlobError::UnclosedClass(start))?
            }
            byte => byte,
        };
        self.at += 1;
        match byte {
            0 => Err(GlobError::Nul(self.at - 1)),
            0x80.. => Err(GlobError::WideClass(start)),
            ascii => Ok(ascii),
        }
    }
}

/// How many ways there are through the alternatives, and the bytes on all of them together; saturating.
fn alternatives_of(pieces: &[Piece]) -> (usize, usize) {
    pieces.iter().fold((1, 0), |(count, bytes): (usize, usize), piece| {
        let (ways, their_bytes) = match piece {
            Piece::Alternatives(inner) => inner.iter().fold((0, 0), |(ways, bytes): (usize, usize), one| {
                let (more, their_bytes) = alternatives_of(one);
                (ways.saturating_add(more), bytes.saturating_add(their_bytes))
            }),
            _ => (1, 1),
        };
        (count.saturating_mul(ways), bytes.saturating_mul(ways).saturating_add(their_bytes.saturating_mul(count)))
    })
}

/// Every way through the alternatives; at most [`MAX_ALTERNATIVES`] and [`MAX_EXPANDED_BYTES`], which the caller has checked.
fn expand(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut ways = vec![Vec::new()];
    for piece in pieces {
        let Piece::Alternatives(inner) = piece else {
            ways.iter_mut().for_each(|way| way.push(piece.clone()));
            continue;
        };
        let tails: Vec<Vec<Piece>> = inner.iter().flat_map(|one| expand(one)).collect();
        ways = ways.iter().flat_map(|way| tails.iter().map(|tail| [way.as_slice(), tail].concat())).collect();
    }
    ways
}

fn tokens(mut pieces: &[Piece]) -> Vec<Token> {
    use Piece::{Byte, Star};
    let mut out = Vec::new();
    while let Some((piece, rest)) = pieces.split_first() {
        pieces = match (piece, rest) {
            (Byte(b'/'), [Star, Star, Byte(b'/'), rest @ ..]) => {
                out.push(Token::Components);
                let mut rest = rest;
                // Another `**/` adds nothing.
                while let [Star, Star, Byte(b'/'), more @ ..] = rest {
                    rest = more;
                }
                rest
            }
            (Star, [Star, rest @ ..]) => {
                if out.last() != Some(&Token::DoubleStar) {
                    out.push(Token::DoubleStar);
                }
                rest
            }
            // `***` is `**`.
            (Star, rest) => {
                if !matches!(out.last(), Some(Token::DoubleStar | Token::Star)) {
                    out.push(Token::Star);
                }
                rest
            }
            (Byte(byte), rest) => {
                out.push(Token::Byte(*byte));
                rest
            }
            (Piece::Set(set), rest) => {
                out.push(Token::set(*set));
                rest
            }
            // Expanded before.
            (Piece::Alternatives(_), rest) => rest,
        };
    }
    out
}

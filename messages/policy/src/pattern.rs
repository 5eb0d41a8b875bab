//! Path patterns: their syntax, and the literal prefix that ranks them.
//!
//! `*` and `?` and `[...]` stay inside a component, `**` crosses, `{a,b}` alternates, `\` escapes the next character; a `]`
//! in first place of a class is itself, and a class holds single-byte characters, for a path is bytes.
//! Invariant: an accepted pattern has balanced brackets and braces, at most [`MAX_PATTERN_BYTES`] bytes, braces at most
//! [`MAX_BRACE_DEPTH`] deep, at most [`MAX_ALTERNATIVES`] ways through them and [`MAX_EXPANDED_BYTES`] on all of these ways
//! together, so that a compiler never meets one that it cannot read, nor one whose alternatives written out fill its memory.

use thiserror::Error;

use crate::{
    diagnostic::{Problems, quoted},
    fields,
    path::MAX_PATH_BYTES,
    yaml::Node,
};

/// Longest pattern.
pub const MAX_PATTERN_BYTES: usize = MAX_PATH_BYTES;
/// Deepest nesting of braces.
pub const MAX_BRACE_DEPTH: usize = 8;
/// Most ways through the braces of one pattern.
pub const MAX_ALTERNATIVES: usize = 1_024;
/// Most bytes of one pattern's alternatives written out: 1,024 of 256 bytes.
pub const MAX_EXPANDED_BYTES: usize = 1 << 18;

/// Why a pattern cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PatternFault {
    #[error("it is longer than {MAX_PATTERN_BYTES} bytes")]
    TooLong,
    #[error("a pattern is matched against whole absolute paths")]
    Relative,
    #[error("no path that it is matched against ends in `/`")]
    TrailingSlash,
    #[error("the kernel never gives a path with `//`, `.` or `..`")]
    OddComponent,
    #[error("no path holds a NUL")]
    Nul,
    #[error("a `[` is not closed")]
    OpenBracket,
    #[error("a `[...]` holds a character of several bytes, and a path is matched by bytes")]
    WideBracket,
    #[error("a range in `[...]` runs backwards")]
    BackwardRange,
    #[error("a `[...]` stays inside a component and so never matches `/`")]
    SlashInBracket,
    #[error("a `{{` is not closed")]
    OpenBrace,
    #[error("a `}}` closes nothing")]
    StrayBrace,
    #[error("braces are more than {MAX_BRACE_DEPTH} deep")]
    DeepBraces,
    #[error("its braces make more than {MAX_ALTERNATIVES} patterns")]
    TooManyAlternatives,
    #[error("its braces written out make more than {MAX_EXPANDED_BYTES} bytes of patterns")]
    TooLongAlternatives,
    #[error("a `\\` at the end escapes nothing")]
    TrailingEscape,
}

impl PatternFault {
    fn instead(self, pattern: &str) -> String {
        match self {
            Self::TooLong | Self::DeepBraces | Self::TooManyAlternatives | Self::TooLongAlternatives => {
                "split it into several patterns".to_owned()
            }
            Self::Relative => relative_instead(pattern),
            Self::TrailingSlash => format!("write {}, or use `matchDirectories`", quoted(&format!("{pattern}**"))),
            Self::OddComponent => "write the path that the kernel gives".to_owned(),
            Self::Nul => "remove it".to_owned(),
            Self::OpenBracket => "add a `]`, or write `\\[` for the character".to_owned(),
            Self::WideBracket => "write an alternative such as `{ä,ö}`".to_owned(),
            Self::BackwardRange => "write the lower end first: `[a-z]`".to_owned(),
            Self::SlashInBracket => "write the `/` outside the brackets".to_owned(),
            Self::OpenBrace => "add a `}`, or write `\\{` for the character".to_owned(),
            Self::StrayBrace => "remove it, or write `\\}` for the character".to_owned(),
            Self::TrailingEscape => "remove it, or write `\\\\` for the character".to_owned(),
        }
    }
}

fn relative_instead(pattern: &str) -> String {
    match pattern.trim_start_matches("~/") {
        "" => "write a pattern such as `/usr/**/name`".to_owned(),
        // Whose home that is, only the writer knows.
        rest if rest != pattern => format!("write {}", quoted(&format!("/**/{rest}"))),
        _ => format!("write {} or {}", quoted(&format!("/**/{pattern}")), quoted(&format!("/{pattern}"))),
    }
}

/// A pattern field.
pub(crate) fn pattern(node: &Node, place: &str, problems: &mut Problems) -> Option<String> {
    let written = fields::text(node, place, problems)?;
    if let Err(fault) = check(written) {
        let what = format!("{} is {}", quoted(place), quoted(written));
        problems.error(node.at, what, fault.to_string(), fault.instead(written));
        return None;
    }
    Some(written.to_owned())
}

/// Whether the pattern can be read and could match a path.
fn check(pattern: &str) -> Result<(), PatternFault> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(PatternFault::TooLong);
    }
    if pattern.contains('\0') {
        return Err(PatternFault::Nul);
    }
    if !pattern.starts_with('/') && !pattern.starts_with("**") {
        return Err(PatternFault::Relative);
    }
    check_syntax(pattern)?;
    if pattern.ends_with('/') {
        return Err(PatternFault::TrailingSlash);
    }
    // Inside braces and brackets these are legal; as whole components they match nothing.
    let mut components = pattern.split('/').skip(1);
    if components.any(|component| matches!(component, "" | "." | "..")) {
        return Err(PatternFault::OddComponent);
    }
    Ok(())
}

/// Ways through the braces of a part of a pattern, and the bytes on all of them together; saturating.
#[derive(Clone, Copy)]
struct Ways {
    count: usize,
    bytes: usize,
}

impl Ways {
    const NONE: Self = Self { count: 0, bytes: 0 };
    const EMPTY: Self = Self { count: 1, bytes: 0 };

    fn or(self, other: Self) -> Self {
        Self { count: self.count.saturating_add(other.count), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn then(self, next: Self) -> Self {
        let (before, after) = (self.bytes.saturating_mul(next.count), next.bytes.saturating_mul(self.count));
        Self { count: self.count.saturating_mul(next.count), bytes: before.saturating_add(after) }
    }

    fn then_bytes(self, bytes: usize) -> Self {
        self.then(Self { count: 1, bytes })
    }
}

fn check_syntax(pattern: &str) -> Result<(), PatternFault> {
    // For each open brace: its finished alternatives, and what stands before it. `ways` is what is being read.
    let mut open: Vec<(Ways, Ways)> = Vec::new();
    let mut ways = Ways::EMPTY;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => ways = ways.then_bytes(rest.next().ok_or(PatternFault::TrailingEscape)?.len_utf8()),
            '[' => {
                check_class(&mut rest)?;
                ways = ways.then_bytes(1);
            }
            '{' if open.len() == MAX_BRACE_DEPTH => return Err(PatternFault::DeepBraces),
            '{' => open.push((Ways::NONE, std::mem::replace(&mut ways, Ways::EMPTY))),
            ',' => match open.last_mut() {
                Some((finished, _)) => *finished = finished.or(std::mem::replace(&mut ways, Ways::EMPTY)),
                None => ways = ways.then_bytes(1),
            },
            '}' => {
                let (finished, before) = open.pop().ok_or(PatternFault::StrayBrace)?;
                ways = before.then(finished.or(ways));
            }
            c => ways = ways.then_bytes(c.len_utf8()),
        }
    }
    match (open.is_empty(), ways) {
        (false, _) => Err(PatternFault::OpenBrace),
        (_, Ways { count, .. }) if count > MAX_ALTERNATIVES => Err(PatternFault::TooManyAlternatives),
        (_, Ways { bytes, .. }) if bytes > MAX_EXPANDED_BYTES => Err(PatternFault::TooLongAlternatives),
        _ => Ok(()),
    }
}

/// The rest of a class after its `[`: `!` or `^` first negates, `a-z` is a range, `\` escapes.
fn check_class(rest: &mut std::str::Chars<'_>) -> Result<(), PatternFault> {
    if rest.as_str().starts_with(['!', '^']) {
        rest.next();
    }
    let mut is_first = true;
    loop {
        if !is_first && rest.as_str().starts_with(']') {
            rest.next();
            return Ok(());
        }
        is_first = false;
        let low = class_member(rest)?;
        let mut high = low;
        if rest.as_str().starts_with('-') && !rest.as_str().starts_with("-]") {
            rest.next();
            high = class_member(rest)?;
        }
        if low > high {
            return Err(PatternFault::BackwardRange);
        }
        if low == '/' || high == '/' {
            return Err(PatternFault::SlashInBracket);
        }
    }
}

fn class_member(rest: &mut std::str::Chars<'_>) -> Result<char, PatternFault> {
    let member = match rest.next().ok_or(PatternFault::OpenBracket)? {
        '\\' => rest.next().ok_or(PatternFault::OpenBracket)?,
        c => c,
    };
    if member.is_ascii() { Ok(member) } else { Err(PatternFault::WideBracket) }
}

/// Bytes before the first sign that is not literal; an escaped character counts as itself.
pub(crate) fn literal_prefix_bytes(pattern: &str) -> usize {
    let mut bytes = 0;
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        bytes += match c {
            '*' | '?' | '[' | '{' => break,
            '\\' => rest.next().map_or(0, char::len_utf8),
            c => c.len_utf8(),
        };
    }
    bytes
}

//! A bounded tree of a YAML document in which every key and value knows its place.
//!
//! Invariant: a tree holds at most [`MAX_NODES`] nodes and [`MAX_DOCUMENT_BYTES`] of text, aliases expanded, is at most
//! [`MAX_DEPTH`] deep, and no mapping names a key twice; all trees of a file hold at most [`MAX_FILE_NODES`], and only those
//! of one part exist at a time. Whatever breaks that is a diagnostic with the number, not a tree.
//!
//! Decision: built from parser events and not from a parsed document, because the bounds must hold *while* it is read.
//! The text is cut at its `---` lines first and each part is parsed by itself, so that a syntax error in one document
//! hides neither the other documents nor their errors; YAML forbids such a line inside any scalar, so the cut is exact.

mod build;
mod part;

use crate::diagnostic::{Position, Problems};

pub(crate) use part::parts;

/// Largest file, in bytes.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Most documents in a file, empty ones included.
pub const MAX_DOCUMENTS: usize = 4_096;
/// Most nodes in a document, aliases expanded; a value with an anchor counts twice, for it is kept for its aliases.
pub const MAX_NODES: usize = 100_000;
/// Most nodes in a file, aliases expanded.
pub const MAX_FILE_NODES: usize = 1_000_000;
/// Most bytes of a document, and of its text with aliases expanded. etcd takes objects of 1.5 MiB, and no policy comes near
/// it.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Most of YAML's signs (brackets, commas, quotation marks ...) in a document. The parser keeps all tokens of an open
/// bracket at once, and nearly each takes a sign: this bounds its memory, to 75 MB at worst. Densest JSON has four signs a
/// value, policies as people and tools write them one or two.
pub const MAX_SIGNS: usize = 2 * MAX_NODES;
/// Most levels in a document; the deepest field of a policy is at 8, in a list of objects at 10.
pub const MAX_DEPTH: usize = 32;
/// Most keys in a mapping.
pub const MAX_KEYS: usize = 1_024;

/// A value and where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub at: Position,
    pub value: Value,
}

/// The three shapes of YAML.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar {
        text: String,
        /// Written without quotes: may mean a number, a boolean or null.
        plain: bool,
    },
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub at: Position,
    pub text: String,
}

impl Node {
    /// Whether it is YAML's null: absent, for whoever asks for a field.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What it is, for a message.
    pub fn noun(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar { .. } if self.is_null() => "empty",
            Value::Scalar { text, plain: true } if is_boolean(text) => "a boolean",
            Value::Scalar { text, plain: true } if is_number(text) => "a number",
            Value::Scalar { .. } => "text",
        }
    }
}

/// `true` or `false` in YAML 1.2's core schema.
fn is_boolean(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// A number in YAML 1.2's core schema.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if let Some(digits) = text.strip_prefix("0x") {
        return !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    }
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.parse::<f64>().is_ok()
}

/// The text of a file, or what stands against reading it at all: size, encoding, control characters.
///
/// Control characters are refused here because the parser takes a NUL for the end of the text: what follows would vanish.
pub(crate) fn text<'b>(bytes: &'b [u8], problems: &mut Problems) -> Option<&'b str> {
    if bytes.len() > MAX_FILE_BYTES {
        let what = format!("the file has {} bytes", bytes.len());
        let why = format!("at most {MAX_FILE_BYTES} are read");
        problems.error(Position::START, what, why, "split it into several files");
        return None;
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let sound = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let what = format!("byte {:#04x} is not UTF-8", bytes[error.valid_up_to()]);
            problems.error(end_of(&sound), what, "policy files are UTF-8 text", "save the file as UTF-8");
            return None;
        }
    };
    if let Some((index, control)) = text.char_indices().find(|(_, c)| is_forbidden(*c)) {
        let what = format!("control character U+{:04X}", u32::from(control));
        let instead = "remove it, or write it as an escape in a double-quoted string";
        problems.error(end_of(&text[..index]), what, "YAML forbids it in a file", instead);
        return None;
    }
    Some(text)
}

/// YAML 1.2 section 5.1, without the byte order mark inside a text.
fn is_forbidden(c: char) -> bool {
    (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || c == '\u{feff}'
}

/// The position just after `text`.
fn end_of(text: &str) -> Position {
    let line = line_breaks(text);
    let column = text.chars().rev().take_while(|c| !matches!(c, '\n' | '\r')).count();
    Position { line: saturating(line + 1), column: saturating(column + 1) }
}

/// Line breaks as YAML counts them: LF, CR LF, or a lone CR.
fn line_breaks(text: &str) -> usize {
    let bytes = text.as_bytes();
    (0..bytes.len()).filter(|&i| bytes[i] == b'\n' || (bytes[i] == b'\r' && bytes.get(i + 1) != Some(&b'\n'))).count()
}

fn signs(text: &str) -> usize {
    let is_sign =
        |byte: &u8| matches!(byte, b',' | b'[' | b']' | b'{' | b'}' | b':' | b'?' | b'"' | b'\'' | b'*' | b'&' | b'!');
    text.as_bytes().iter().filter(|byte| is_sign(byte)).count()
}

fn saturating(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

//! Names that workloads choose, as text.
//!
//! A path, an argument or a process name is any bytes. Here it becomes text without loss, and the text becomes something that no
//! terminal, JSON reader or log takes for more than a name.
//!
//! Decision: lossless, not U+FFFD, because two names that differ must differ in an alert, and because who acts on an alert has to find the
//! file again. A byte that is not UTF-8 is written `\xNN` (two lower-case digits, 80 to ff), and a backslash that would read as such an
//! escape is written `\x5c`; every other backslash stays, so that names which are UTF-8 read as they are (systemd's `\x2d` among them).

use std::fmt::Write as _;

/// The bytes as text; [`bytes`] turns it back.
#[must_use]
pub fn lossless(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains("\\x") => text.to_owned(),
        _ => escaped(bytes),
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find('\\') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            text.push_str(if escape(rest).is_some() { "\\x5c" } else { "\\" });
            rest = &rest[1..];
        }
        text.push_str(rest);
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The byte that `text` begins with the escape of.
fn escape(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("\\x")?.get(..2)?;
    let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let byte = u8::from_str_radix(digits, 16).ok().filter(|_| lower)?;
    (byte >= 0x80 || byte == b'\\').then_some(byte)
}

/// The bytes that [`lossless`] made the text of.
#[must_use]
pub fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let (byte, taken) = escape(rest).map_or((b'\\', 1), |byte| (byte, 4));
        bytes.push(byte);
        rest = &rest[taken..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// What moves a cursor, changes a terminal's state or the order in which text is read, is not seen at all, or separates lines without
/// being a line feed: C0 and C1 controls, Unicode's format characters (category Cf) but for the soft hyphen, and its two separators.
#[must_use]
pub fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text with what is hostile written as `\u{...}` or as `\n`, `\r`, `\t`; everything else stays as it is.
#[must_use]
pub fn printable(text: &str) -> String {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hostile(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A JSON document in one line with what is hostile written as `\uNNNN`: the same document, for such characters stand only in its strings.
#[must_use]
pub fn printable_json(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    push_json(line, &mut text);
    text
}

/// Appends a part of a JSON document as [`printable_json`] writes it.
pub fn push_json(part: &str, text: &mut String) {
    if part.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.push_str(part);
    }
    for c in part.chars() {
        if hostile(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unit_text_of_names_that_are_utf8_reads_as_they_are() {
        for name in ["/étc/ünï", "/run/dev-disk-by\\x2dlabel", "C:\\tools", "\\", "\\x", "\\xF0"] {
            assert_eq!(lossless(name.as_bytes()), name);
        }
    }

    #[test]
    fn unit_text_of_other_bytes_says_which_and_is_no_other_names() {
        assert_eq!(lossless(b"/a\xff\xfeb"), "/a\\xff\\xfeb");
        assert_eq!(lossless(b"/a\\xffb"), "/a\\x5cxffb", "a name that looks like an escape");
        assert_eq!(lossless(b"\\\xff"), "\\\\xff");
    }

    #[test]
    fn unit_text_for_people_shows_what_would_move_their_cursor_or_turn_their_text_round() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n\u{202e}c"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c");
        assert_eq!(printable("/étc/ünï"), "/étc/ünï");
        assert_eq!(printable_json("\"\u{9b}\u{e0041}é\""), "\"\\u009b\\udb40\\udc41é\"");
    }

    fn like_an_escape() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![
                Just(b"\\x".to_vec()),
                Just(b"\\x5c".to_vec()),
                Just(b"ff".to_vec()),
                any::<u8>().prop_map(|byte| vec![byte])
            ],
            0..24,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn unit_text_loses_no_byte(name in like_an_escape()) {
            prop_assert_eq!(bytes(&lossless(&name)), name);
        }

        #[test]
        fn unit_text_for_people_holds_nothing_hostile(text in ".{0,40}|(\\PC|\\pC){0,40}") {
            prop_assert!(!printable(&text).chars().any(hostile));
            prop_assert!(!printable_json(&text).chars().any(hostile));
        }
    }
}

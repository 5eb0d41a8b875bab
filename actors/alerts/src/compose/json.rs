//! A line as JSON.
//!
//! Invariant: one object in one line of printable text: what would move a terminal's cursor, or turn text round, is escaped as `\uNNNN`
//! ([`palisade_domain::text::hostile`]), so that a file of lines can be shown by anything.

use std::io;

use palisade_domain::{Line, text};
use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Serialises into one line that ends in `\n`.
#[must_use]
pub fn line(line: &Line) -> String {
    let mut bytes = Vec::with_capacity(2048);
    let mut serializer = Serializer::with_formatter(&mut bytes, Printable(CompactFormatter));
    line.serialize(&mut serializer).expect("a line has only strings, numbers and lists");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// Compact JSON whose strings hold nothing hostile.
struct Printable(CompactFormatter);

impl Formatter for Printable {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_string_fragment(writer, fragment);
        }
        writer.write_all(text::printable_json(fragment).as_bytes())
    }
}

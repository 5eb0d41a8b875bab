//! The parts of a file between its `---` lines.

use super::{line_breaks, saturating};
use crate::diagnostic::Position;

/// One part and the number of lines before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part<'t> {
    pub text: &'t str,
    pub lines_before: usize,
}

impl Part<'_> {
    /// Its first character.
    pub fn start(&self) -> Position {
        Position { line: saturating(self.lines_before + 1), column: 1 }
    }
}

/// Cuts before each `---` line, except one that only directives, comments and blank lines precede: it is of the same part.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    let mut lines_before = 0;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let part = Part { text: &rest[..part_length(rest)], lines_before };
        rest = &rest[part.text.len()..];
        lines_before += line_breaks(part.text);
        Some(part)
    })
}

fn part_length(text: &str) -> usize {
    let mut length = 0;
    let mut has_content = false;
    for line in text.split_inclusive('\n') {
        if is_document_start(line) && has_content {
            break;
        }
        has_content |= !is_preamble(line);
        length += line.len();
    }
    length
}

fn is_document_start(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

fn is_preamble(line: &str) -> bool {
    line.starts_with(['%', '#']) || line.trim().is_empty()
}

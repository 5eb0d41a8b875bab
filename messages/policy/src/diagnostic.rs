//! What is wrong with a document, where, why, and what to write instead.
//!
//! Invariant: a [`Diagnostic`] is one line of text that no terminal obeys: whatever it quotes from a document is escaped and cut to
//! [`MAX_QUOTED_CHARS`], and so is the file's name where it is shown. Lines and columns count from 1, columns in characters. A file yields at most [`MAX_DIAGNOSTICS`]
//! diagnostics and then one that says how many more there are.

use std::fmt;

use palisade_domain::text::printable;
use serde::{Deserialize, Serialize};

/// Most diagnostics that one file yields: more than anybody reads, few enough that a binary file costs nothing.
pub const MAX_DIAGNOSTICS: usize = 500;

/// Most characters that a message quotes from a document.
const MAX_QUOTED_CHARS: usize = 80;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document holds, but says something that is probably not meant.
    Warning,
    /// The document holds, but for a part that nothing can hold, here or anywhere, which the message names.
    Unenforceable,
    /// The document is right, but asks for what this version cannot do: it is refused, never held in part.
    Unsupported,
    /// The document is wrong and refused.
    Error,
}

impl Severity {
    /// Whether a document with such a diagnostic is refused.
    #[must_use]
    pub fn refuses(self) -> bool {
        self >= Self::Unsupported
    }
}

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
}

impl Position {
    /// The first character of a file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// One thing that is wrong in one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// Why it is wrong.
    pub why: String,
    /// What to write instead.
    pub instead: String,
}

impl fmt::Display for Diagnostic {
    /// `file:line:column: what, why, what to write instead`; what refuses nothing says its severity before the `what`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.severity {
            Severity::Warning => "warning: ",
            Severity::Unenforceable => "unenforceable: ",
            Severity::Unsupported | Severity::Error => "",
        };
        let Self { file, line, column, what, why, instead, .. } = self;
        // Anybody who may write to a directory names files.
        write!(f, "{}:{line}:{column}: {mark}{what}, {why}, {instead}", printable(file))
    }
}

/// The diagnostics of one file, while it is read.
#[derive(Debug)]
pub(crate) struct Problems {
    file: String,
    found: Vec<Diagnostic>,
    /// Diagnostics past the bound.
    dropped: usize,
    /// How bad the worst of them is.
    worst_dropped: Severity,
    /// Diagnostics that refuse, the dropped ones included.
    refusals: usize,
}

impl Problems {
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), found: Vec::new(), dropped: 0, worst_dropped: Severity::Warning, refusals: 0 }
    }

    /// How many diagnostics so far refuse their document.
    pub fn refusals(&self) -> usize {
        self.refusals
    }

    pub fn error(&mut self, at: Position, what: impl Into<String>, why: impl Into<String>, instead: impl Into<String>) {
        self.add(Severity::Error, at, what.into(), why.into(), instead.into());
    }

    pub fn warning(
        &mut self,
        at: Position,
        what: impl Into<String>,
        why: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add(Severity::Warning, at, what.into(), why.into(), instead.into());
    }

    /// `subject` is well-formed, but not held by this version.
    pub fn unsupported(&mut self, at: Position, subject: &str, instead: impl Into<String>) {
        let what = format!("unsupported in this version: {subject}");
        let why = "it would not be held, so the document is refused".to_owned();
        self.add(Severity::Unsupported, at, what, why, instead.into());
    }

    /// A part of a document that nothing holds, while the rest does.
    pub fn unenforceable(&mut self, at: Position, subject: &str, why: &str, instead: &str) {
        self.add(Severity::Unenforceable, at, subject.to_owned(), why.to_owned(), instead.to_owned());
    }

    fn add(&mut self, severity: Severity, at: Position, what: String, why: String, instead: String) {
        self.refusals += usize::from(severity.refuses());
        if self.found.len() < MAX_DIAGNOSTICS {
            let Position { line, column } = at;
            self.found.push(Diagnostic { file: self.file.clone(), line, column, severity, what, why, instead });
        } else {
            self.dropped += 1;
            self.worst_dropped = self.worst_dropped.max(severity);
        }
    }

    /// All of them in the order of the file, whatever the order in which they were found.
    pub fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.found.sort_by_key(|found| (found.line, found.column));
        if self.dropped > 0 {
            let severity = if self.refusals > 0 { Severity::Error } else { self.worst_dropped };
            let (line, column) = self.found.last().map_or((1, 1), |last| (last.line, last.column));
            self.found.push(Diagnostic {
                file: self.file,
                line,
                column,
                severity,
                what: format!("{} more problems", self.dropped),
                why: format!("at most {MAX_DIAGNOSTICS} are listed for a file"),
                instead: "mend the ones above first".to_owned(),
            });
        }
        self.found
    }
}

/// Text from a document for a message: in backticks, escaped, cut.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED_CHARS).flat_map(char::escape_debug).collect();
    // escape_debug is for Rust strings; quotes need no escape between backticks.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    let cut = if text.chars().nth(MAX_QUOTED_CHARS).is_some() { "…" } else { "" };
    format!("`{shown}{cut}`")
}

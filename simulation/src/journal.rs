//! The journal of a run: its hash, how often each kind of event came, and its last lines for who reads it.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Lines kept for a failure's story.
const LAST_LINES: usize = 200;

/// Characters of an event's detail that a line has; the hash is of all of them.
const LINE: usize = 240;

/// See the module.
#[derive(Debug)]
pub struct Journal {
    hash: blake3::Hasher,
    events: u64,
    counts: BTreeMap<&'static str, u64>,
    lines: VecDeque<String>,
    /// All lines go to standard output as they come.
    aloud: bool,
}

impl Default for Journal {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Journal {
    /// Empty; `aloud` prints each line.
    #[must_use]
    pub fn new(aloud: bool) -> Self {
        Self { hash: blake3::Hasher::new(), events: 0, counts: BTreeMap::new(), lines: VecDeque::new(), aloud }
    }

    /// Writes an event down.
    pub fn hear(&mut self, at: Duration, node: usize, word: &'static str, detail: &str) {
        self.events += 1;
        *self.counts.entry(word).or_default() += 1;
        self.hash.update(&at.as_nanos().to_le_bytes());
        self.hash.update(&node.to_le_bytes());
        self.hash.update(word.as_bytes());
        self.hash.update(detail.as_bytes());
        let keeps = self.aloud
            || !matches!(
                word,
                "act permitted"
                    | "records read"
                    | "looked"
                    | "message sent"
                    | "messages received"
                    | "nodes seen"
                    | "network"
            );
        if keeps {
            let cut = detail.char_indices().nth(LINE).map_or(detail, |(end, _)| &detail[..end]);
            let more = if cut.len() < detail.len() { " ..." } else { "" };
            let line = format!("{:>10.3} node {node}: {word}{cut}{more}", at.as_secs_f64());
            if self.aloud {
                say(&line);
            }
            if self.lines.len() == LAST_LINES {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }

    /// Of all events, their times and their nodes.
    #[must_use]
    pub fn hash(&self) -> String {
        self.hash.finalize().to_hex()[..16].to_owned()
    }

    /// How many there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// By kind.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The last lines, oldest first.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}

/// To standard output; a reader that went away is no error.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

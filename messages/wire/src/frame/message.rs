//! What nodes ask and tell each other: the messages of links, each one CBOR map with integer keys, key 0 its kind.
//!
//! | kind | message | keys |
//! |---|---|---|
//! | 1 | ask for the tree | 1 number of the question |
//! | 2 | the tree | 1 the question's number, 2 rows, 3 rows that are left out |
//! | 3 | ask for alerts | 1 number of the question, 2 how many of the last |
//! | 4 | alerts | 1 the question's number, 2 lines (text), 3 lines that are left out |
//! | 5 | follow alerts: again and again, for as long as they are wanted | 1 number of the question, 2 how many past ones first |
//! | 6 | alerts as they come | 1 the question's number, 2 lines, 3 lines that were lost before them, 4: 1 where past ones are first among them, 2 where no more follow |
//!
//! A row of the tree is a map: 0 level, 1 name, 2 kind, 3 state, 4 restarts, 5 milliseconds since its start, 6 messages waiting, 7 most that
//! may wait, 8 handled, 9 lost, 10 last error; 5 to 10 only where there is one.
//!
//! Invariant: an answer is held to its bounds where it is made, what is left out is counted in it, and a text that is cut ends in `…`; so an
//! answer that a sound node makes is one that any reads.

use bytes::Bytes;

use super::{
    Keys, MOST_KEYS,
    cbor::{CborError, Reader, Writer},
};

/// Rows of a tree in an answer: a node's own actors and some hundreds of enforcers.
pub const MOST_ROWS: usize = 512;
/// Lines in an answer.
pub const MOST_ALERTS: usize = 256;
/// Bytes of all text in an answer: a node of which many are asked keeps as many of these.
pub const LONGEST_ANSWER: usize = 256 << 10;
/// Bytes of a row's name, kind or state.
const LONGEST_NAME: usize = 256;
/// Bytes of a row's last error.
const LONGEST_ERROR: usize = 512;

/// One supervisor or actor, as another node is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeRow {
    /// 0 for the root; children follow their parent.
    pub level: u32,
    /// Unique among its siblings.
    pub name: String,
    /// `supervisor one-for-one`, or the actor's type.
    pub kind: String,
    /// `running`, `backing-off` ...
    pub state: String,
    /// Times it was started again.
    pub restarts: u64,
    /// Milliseconds since its start, while it runs.
    pub uptime_ms: Option<u64>,
    /// Messages waiting, most that may wait, handled, lost; none for supervisors.
    pub mail: Option<[u64; 4]>,
    /// How its last failure came about.
    pub last_error: Option<String>,
}

/// A message between two nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// What does your tree look like?
    AskTree {
        /// To tell the answer by.
        question: u64,
    },
    /// Like this.
    Tree {
        /// Of which question.
        question: u64,
        /// From the root on.
        rows: Vec<TreeRow>,
        /// Rows that are not among them.
        omitted: u64,
    },
    /// Which were your last alerts?
    AskAlerts {
        /// To tell the answer by.
        question: u64,
        /// How many.
        recent: u64,
    },
    /// These.
    Alerts {
        /// Of which question.
        question: u64,
        /// JSON, without line feeds; the newest last.
        lines: Vec<String>,
        /// Of those that were asked for, how many are not among them.
        omitted: u64,
    },
    /// Tell your alerts as they come, for a while: who wants more says so again.
    FollowAlerts {
        /// To tell what comes by.
        question: u64,
        /// How many past ones first.
        recent: u64,
    },
    /// Alerts that came.
    Followed {
        /// Of which question.
        question: u64,
        /// JSON, without line feeds; the newest last.
        lines: Vec<String>,
        /// Lines that were lost before these.
        lost: u64,
        /// Which they are.
        which: FollowedLines,
    },
}

/// What is to be known of the lines of [`Message::Followed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowedLines {
    /// The first of their question: past ones, and perhaps new ones behind them.
    First,
    /// Those after the ones before.
    Next,
    /// None more: too many follow, or the alerts end.
    Last,
}

impl FollowedLines {
    const ALL: [Self; 3] = [Self::Next, Self::First, Self::Last];

    fn of(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    fn number(self) -> u64 {
        Self::ALL.iter().zip(0..).find(|(one, _)| **one == self).map_or(0, |(_, number)| number)
    }
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not as it should be written.
    #[error("a message that cannot be read: {0}")]
    Cbor(#[from] CborError),
    /// Of a kind that this version does not know.
    #[error("a message of kind {0}, which is not known here")]
    UnknownKind(u64),
    /// A key that is not known here, or not in its place.
    #[error("key {0} of a message is not known here, or not in its place")]
    Key(u64),
    /// A key is missing.
    #[error("a message without its {0}")]
    Missing(&'static str),
    /// A line with one below the space: it would be several lines.
    #[error("a line with a control character")]
    Control,
}

impl From<super::FrameError> for MessageError {
    fn from(error: super::FrameError) -> Self {
        match error {
            super::FrameError::Cbor(error) => Self::Cbor(error),
            super::FrameError::Order(key) | super::FrameError::UnknownKey { key, .. } => Self::Key(key),
            _ => Self::Missing("keys"),
        }
    }
}

impl Message {
    /// The answer to [`Message::AskTree`]: of `rows` as many as fit.
    #[must_use]
    pub fn tree(question: u64, rows: impl IntoIterator<Item = TreeRow>) -> Self {
        let (mut kept, mut bytes, mut omitted) = (Vec::new(), 0, 0);
        for mut row in rows {
            [&mut row.name, &mut row.kind, &mut row.state].into_iter().for_each(|text| cut(text, LONGEST_NAME));
            row.last_error.iter_mut().for_each(|text| cut(text, LONGEST_ERROR));
            let error = row.last_error.as_ref().map_or(0, String::len);
            bytes += row.name.len() + row.kind.len() + row.state.len() + error;
            if omitted == 0 && kept.len() < MOST_ROWS && bytes <= LONGEST_ANSWER {
                kept.push(row);
            } else {
                omitted += 1;
            }
        }
        Self::Tree { question, rows: kept, omitted }
    }

    /// What [`Message::FollowAlerts`] is answered by: as many of the newest as fit; the others are lost.
    #[must_use]
    pub fn followed(question: u64, lines: Vec<String>, lost: u64, which: FollowedLines) -> Self {
        let (lines, omitted) = newest(lines);
        Self::Followed { question, lines, lost: lost.saturating_add(omitted), which }
    }

    /// The answer to [`Message::AskAlerts`]: of `lines`, the newest last, as many of the newest as fit.
    #[must_use]
    pub fn alerts(question: u64, lines: Vec<String>) -> Self {
        let (lines, omitted) = newest(lines);
        Self::Alerts { question, lines, omitted }
    }

    /// As bytes.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut out = Vec::new();
        let mut writer = Writer(&mut out);
        match self {
            Self::AskTree { question } => {
                writer.map(2);
                pairs(&mut writer, &[(0, 1), (1, *question)]);
            }
            Self::Tree { question, rows, omitted } => {
                writer.map(4);
                pairs(&mut writer, &[(0, 2), (1, *question)]);
                writer.unsigned(2);
                writer.array(rows.len());
                rows.iter().for_each(|row| write_row(&mut writer, row));
                pairs(&mut writer, &[(3, *omitted)]);
            }
            Self::AskAlerts { question, recent } => {
                writer.map(3);
                pairs(&mut writer, &[(0, 3), (1, *question), (2, *recent)]);
            }
            Self::Alerts { question, lines, omitted } => {
                writer.map(4);
                write_lines(&mut writer, 4, *question, lines);
                pairs(&mut writer, &[(3, *omitted)]);
            }
            Self::FollowAlerts { question, recent } => {
                writer.map(3);
                pairs(&mut writer, &[(0, 5), (1, *question), (2, *recent)]);
            }
            Self::Followed { question, lines, lost, which } => {
                writer.map(5);
                write_lines(&mut writer, 6, *question, lines);
                pairs(&mut writer, &[(3, *lost), (4, which.number())]);
            }
        }
        out.into()
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut reader = Reader::new(bytes);
        let mut keys = Keys { left: reader.map(MOST_KEYS)?, last: None };
        expect(&mut reader, &mut keys, 0, "kind")?;
        let kind = reader.unsigned()?;
        if !(1..=6).contains(&kind) {
            return Err(MessageError::UnknownKind(kind));
        }
        expect(&mut reader, &mut keys, 1, "question")?;
        let question = reader.unsigned()?;
        let message = match kind {
            1 => Self::AskTree { question },
            2 => {
                let mut room = LONGEST_ANSWER;
                let rows = items(&mut reader, &mut keys, MOST_ROWS, |reader| read_row(reader, &mut room))?;
                Self::Tree { question, rows, omitted: omitted(&mut reader, &mut keys)? }
            }
            3 | 5 => {
                expect(&mut reader, &mut keys, 2, "count")?;
                let recent = reader.unsigned()?;
                if kind == 3 { Self::AskAlerts { question, recent } } else { Self::FollowAlerts { question, recent } }
            }
            _ => {
                let mut room = LONGEST_ANSWER;
                let lines = items(&mut reader, &mut keys, MOST_ALERTS, |reader| {
                    let line = reader.text(room)?;
                    // A line is a JSON object, which has none of these; a line feed would make two lines of it.
                    if line.bytes().any(|byte| byte < b' ') {
                        return Err(MessageError::Control);
                    }
                    room -= line.len();
                    Ok(line.to_owned())
                })?;
                let omitted = omitted(&mut reader, &mut keys)?;
                if kind == 4 {
                    Self::Alerts { question, lines, omitted }
                } else {
                    expect(&mut reader, &mut keys, 4, "place among the lines")?;
                    let which = FollowedLines::of(reader.unsigned()?).ok_or(MessageError::Key(4))?;
                    Self::Followed { question, lines, lost: omitted, which }
                }
            }
        };
        if let Some(key) = keys.next(&mut reader)? {
            return Err(MessageError::Key(key));
        }
        reader.end()?;
        Ok(message)
    }
}

/// Of lines, the newest last, as many of the newest as fit, and how many that leaves out.
fn newest(mut lines: Vec<String>) -> (Vec<String>, u64) {
    let mut room = LONGEST_ANSWER;
    let fits = |line: &&String| match room.checked_sub(line.len()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let kept = lines.iter().rev().take(MOST_ALERTS).take_while(fits).count();
    let omitted = lines.len() - kept;
    (lines.split_off(omitted), omitted as u64)
}

fn write_lines(writer: &mut Writer<'_>, kind: u64, question: u64, lines: &[String]) {
    pairs(writer, &[(0, kind), (1, question)]);
    writer.unsigned(2);
    writer.array(lines.len());
    lines.iter().for_each(|line| writer.text(line));
}

/// Cuts a text to `most` bytes, which it then says.
fn cut(text: &mut String, most: usize) {
    const CUT: char = '…';
    if text.len() > most {
        let end = (0..=most - CUT.len_utf8()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push(CUT);
    }
}

fn pairs(writer: &mut Writer<'_>, pairs: &[(u64, u64)]) {
    super::keyed(writer, pairs);
}

fn expect(reader: &mut Reader<'_>, keys: &mut Keys, wanted: u64, word: &'static str) -> Result<(), MessageError> {
    match keys.next(reader)? {
        Some(key) if key == wanted => Ok(()),
        Some(key) => Err(MessageError::Key(key)),
        None => Err(MessageError::Missing(word)),
    }
}

fn items<T>(
    reader: &mut Reader<'_>,
    keys: &mut Keys,
    most: usize,
    mut item: impl FnMut(&mut Reader<'_>) -> Result<T, MessageError>,
) -> Result<Vec<T>, MessageError> {
    expect(reader, keys, 2, "items")?;
    let count = reader.array(most)?;
    (0..count).map(|_| item(reader)).collect()
}

fn omitted(reader: &mut Reader<'_>, keys: &mut Keys) -> Result<u64, MessageError> {
    expect(reader, keys, 3, "count of what is left out")?;
    Ok(reader.unsigned()?)
}

fn write_row(writer: &mut Writer<'_>, row: &TreeRow) {
    let optional = usize::from(row.uptime_ms.is_some())
        + 4 * usize::from(row.mail.is_some())
        + usize::from(row.last_error.is_some());
    writer.map(5 + optional);
    pairs(writer, &[(0, row.level.into())]);
    for (key, text) in [(1, &row.name), (2, &row.kind), (3, &row.state)] {
        writer.unsigned(key);
        writer.text(text);
    }
    pairs(writer, &[(4, row.restarts)]);
    if let Some(uptime) = row.uptime_ms {
        pairs(writer, &[(5, uptime)]);
    }
    if let Some([depth, capacity, handled, lost]) = row.mail {
        pairs(writer, &[(6, depth), (7, capacity), (8, handled), (9, lost)]);
    }
    if let Some(error) = &row.last_error {
        writer.unsigned(10);
        writer.text(error);
    }
}

/// `room` is what is left of the bytes of text that an answer may have.
fn read_row(reader: &mut Reader<'_>, room: &mut usize) -> Result<TreeRow, MessageError> {
    let mut keys = Keys { left: reader.map(MOST_KEYS)?, last: None };
    let mut row = TreeRow::default();
    let mut seen = 0u32;
    let mut mail = [0; 4];
    let mut text = |reader: &mut Reader<'_>, most: usize| -> Result<String, MessageError> {
        let text = reader.text(most.min(*room))?;
        *room -= text.len();
        Ok(text.to_owned())
    };
    while let Some(key) = keys.next(reader)? {
        match key {
            0 => {
                let level = reader.unsigned()?;
                row.level = u32::try_from(level).map_err(|_| MessageError::Key(key))?;
            }
            1 => row.name = text(reader, LONGEST_NAME)?,
            2 => row.kind = text(reader, LONGEST_NAME)?,
            3 => row.state = text(reader, LONGEST_NAME)?,
            4 => row.restarts = reader.unsigned()?,
            5 => row.uptime_ms = Some(reader.unsigned()?),
            6 => mail[0] = reader.unsigned()?,
            7 => mail[1] = reader.unsigned()?,
            8 => mail[2] = reader.unsigned()?,
            9 => mail[3] = reader.unsigned()?,
            10 => row.last_error = Some(text(reader, LONGEST_ERROR)?),
            key => return Err(MessageError::Key(key)),
        }
        seen |= 1 << key;
    }
    const NEEDED: u32 = 0b1_1111;
    const MAIL: u32 = 0b1111 << 6;
    if seen & NEEDED != NEEDED || ![0, MAIL].contains(&(seen & MAIL)) {
        return Err(MessageError::Missing("row's keys"));
    }
    row.mail = (seen & MAIL == MAIL).then_some(mail);
    Ok(row)
}

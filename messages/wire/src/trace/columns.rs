//! Kernel records as columns, so that what repeats stands together.
//!
//! Invariant: the bytes that come back are the bytes that went in, whatever they were; what cannot be is refused, and never more is made
//! than the block says and [`MAX_BYTES`](super::MAX_BYTES) allows.
//!
//! Decision: columns under zstd, not the records' bytes under zstd, because of what was measured on the records of a web server under load
//! (tests/bench `replay`): 7.6 bytes a record instead of 12.1. The head's 128 bytes repeat all but a few from record to record of a thread, and
//! zstd alone pays some bytes for each place where it must say so again.
//!
//! # The form
//! A record is its *words* (8 bytes each: the head's 16 and those of its kind's body) and its *tail* (strings, padding). For each record, in order:
//! - its *shape*: an index into the table of first words (kind, version, length) with how many words it has;
//! - its *thread*: an index into the table of eighth words (process and thread id);
//! - every other word as the difference to what it is likely to be: the sequence number to its producer's last one and one, the time to the
//!   last record's, the head's words to the same thread's last record (to the last record, for a thread's first), the body's words to
//!   those of the last record of the kind. A difference is written so that small ones of both signs have high bytes of zero;
//! - if it has a tail: an index into the table of different tails.
//!
//! All first bytes of the differences of a word stand together, then all second bytes, and so on; a byte that is zero in every record is
//! left out ([`Planes`]). An index that is the table's length means that the entry follows, in its order, in the table.

use std::collections::BTreeMap;

use palisade_kernel_abi::record::{HEAD_SIZE, Kind, MAX_LEN, body_size};

use super::{
    MAX_BYTES, MAX_RECORDS,
    cbor::{CborError, Items, Reading},
};

const WORD: usize = 8;
/// Words of a head.
const HEAD_WORDS: usize = HEAD_SIZE / WORD;
/// Words of the largest body that is split (that of credentials has 15); what is beyond belongs to the tail.
const BODY_WORDS: usize = 32;
/// Kinds that are told apart for their bodies; the others share a place, which costs bytes only.
const KINDS: usize = 32;

/// Why columns are not records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ColumnsError {
    /// Its CBOR is not what it must be.
    #[error("{0}")]
    Form(#[from] CborError),
    /// A number that cannot be.
    #[error("{what} is {found}")]
    Number {
        /// Which.
        what: &'static str,
        /// What it says.
        found: u64,
    },
    /// A column ends early, or is longer than what is in it.
    #[error("the column of {what} has another length")]
    Length {
        /// Which.
        what: &'static str,
    },
}

fn words_of(record: &[u8]) -> impl Iterator<Item = u64> + '_ {
    record.chunks_exact(WORD).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()))
}

fn kind_of(shape: u64) -> usize {
    (shape & 0xffff) as usize % KINDS
}

/// How many words a record that begins so is split into.
fn split_of(shape: u64, len: usize) -> usize {
    let kind = u16::try_from(shape & 0xffff).ok().and_then(Kind::from_code);
    ((HEAD_SIZE + kind.map_or(0, body_size)).min(len) / WORD).min(HEAD_WORDS + BODY_WORDS)
}

const fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ ((difference.cast_signed() >> 63).cast_unsigned())
}

const fn unzigzag(written: u64) -> u64 {
    (written >> 1) ^ (written & 1).wrapping_neg()
}

/// What words are likely to be; the same for who writes and who reads.
struct Likely {
    last: [u64; HEAD_WORDS],
    threads: Vec<[u64; HEAD_WORDS]>,
    bodies: [[u64; BODY_WORDS]; KINDS],
    sequences: BTreeMap<u32, u64>,
}

const SEQUENCE: usize = 1;
const PRODUCER: usize = 2;
const TIME: usize = 3;
const THREAD: usize = 7;

impl Likely {
    fn new() -> Self {
        Self {
            last: [0; HEAD_WORDS],
            threads: Vec::new(),
            bodies: [[0; BODY_WORDS]; KINDS],
            sequences: BTreeMap::new(),
        }
    }

    /// The head's word `at` of a record of this thread, whose producer's word is `producer`.
    fn head(&self, at: usize, thread: usize, producer: u64) -> u64 {
        match at {
            // The producer is the low half of its word.
            SEQUENCE => self.sequences.get(&((producer & 0xffff_ffff) as u32)).map_or(0, |last| last.wrapping_add(1)),
            TIME => self.last[TIME],
            _ => self.threads.get(thread).unwrap_or(&self.last)[at],
        }
    }

    fn was(&mut self, thread: usize, head: [u64; HEAD_WORDS]) {
        self.sequences.insert((head[PRODUCER] & 0xffff_ffff) as u32, head[SEQUENCE]);
        self.last = head;
        match self.threads.get_mut(thread) {
            Some(known) => *known = head,
            None => self.threads.push(head),
        }
    }
}

/// Numbers byte by byte: all first bytes, then all second bytes; those that are zero in every number are left out, and a byte in front
/// says which are there.
struct Planes;

impl Planes {
    fn write(numbers: &[u64], out: &mut Vec<u8>) {
        let any = numbers.iter().fold(0, |any, number| any | number);
        let there = (0..WORD).filter(|plane| any >> (8 * plane) & 0xff != 0);
        let mask = there.fold(0_u8, |mask, plane| mask | 1 << plane);
        out.push(mask);
        for plane in (0..WORD).filter(|plane| mask >> plane & 1 == 1) {
            out.extend(numbers.iter().map(|number| (number >> (8 * plane)) as u8));
        }
    }

    fn read(count: usize, from: &mut &[u8], what: &'static str) -> Result<Vec<u64>, ColumnsError> {
        let length = ColumnsError::Length { what };
        let (mask, mut rest) = from.split_first().ok_or(length.clone())?;
        let mut numbers = vec![0_u64; count];
        for plane in (0..WORD).filter(|plane| mask >> plane & 1 == 1) {
            let (bytes, after) = rest.split_at_checked(count).ok_or(length.clone())?;
            numbers.iter_mut().zip(bytes).for_each(|(number, byte)| *number |= u64::from(*byte) << (8 * plane));
            rest = after;
        }
        *from = rest;
        Ok(numbers)
    }
}

/// An index into a table that grows as it is used.
fn index_of<K: Ord + Clone>(table: &mut BTreeMap<K, usize>, key: &K) -> (usize, bool) {
    if let Some(known) = table.get(key) {
        return (*known, false);
    }
    table.insert(key.clone(), table.len());
    (table.len() - 1, true)
}

#[derive(Default)]
struct Written {
    shapes: Vec<(u64, usize)>,
    threads: Vec<u8>,
    tails: Vec<u8>,
    shape_indices: Vec<u64>,
    thread_indices: Vec<u64>,
    tail_indices: Vec<u64>,
    words: Vec<Vec<u64>>,
}

/// Writes the records' columns, one item: a map. Each slice is one whole record.
pub(super) fn write<'r>(records: impl Iterator<Item = &'r [u8]>, out: &mut Items) {
    let mut written =
        Written { words: (0..HEAD_WORDS + BODY_WORDS).map(|_| Vec::new()).collect(), ..Written::default() };
    let (mut shapes, mut threads, mut tails) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut likely = Likely::new();
    for record in records {
        let mut head = [0; HEAD_WORDS];
        head.iter_mut().zip(words_of(record)).for_each(|(word, is)| *word = is);
        let split = split_of(head[0], record.len());
        let (shape, is_new) = index_of(&mut shapes, &head[0]);
        if is_new {
            written.shapes.push((head[0], split));
        }
        written.shape_indices.push(shape as u64);
        let (thread, is_new) = index_of(&mut threads, &head[THREAD]);
        if is_new {
            written.threads.extend_from_slice(&head[THREAD].to_le_bytes());
        }
        written.thread_indices.push(thread as u64);
        for at in (1..HEAD_WORDS).filter(|at| *at != THREAD) {
            let expected = likely.head(at, thread, head[PRODUCER]);
            written.words[at].push(zigzag(head[at].wrapping_sub(expected)));
        }
        likely.was(thread, head);
        let body = &mut likely.bodies[kind_of(head[0])];
        for (at, word) in words_of(record).take(split).skip(HEAD_WORDS).enumerate() {
            written.words[HEAD_WORDS + at].push(zigzag(word.wrapping_sub(body[at])));
            body[at] = word;
        }
        let tail = record.get(split * WORD..).unwrap_or_default();
        if !tail.is_empty() {
            let (tail_index, is_new) = index_of(&mut tails, &tail);
            if is_new {
                written.tails.extend_from_slice(tail);
            }
            written.tail_indices.push(tail_index as u64);
        }
    }
    put(&written, out);
}

fn put(written: &Written, out: &mut Items) {
    let mut columns = Vec::new();
    Planes::write(&written.shape_indices, &mut columns);
    Planes::write(&written.thread_indices, &mut columns);
    Planes::write(&written.tail_indices, &mut columns);
    written.words.iter().filter(|word| !word.is_empty()).for_each(|word| Planes::write(word, &mut columns));
    out.map(4);
    out.number(1_u64);
    out.array(2 * written.shapes.len());
    for (first, words) in &written.shapes {
        out.number(*first);
        out.number(*words as u64);
    }
    out.number(2_u64);
    out.bytes(&written.threads);
    out.number(3_u64);
    out.bytes(&columns);
    out.number(4_u64);
    out.bytes(&written.tails);
}

/// What a shape says, checked.
struct Shape {
    first: u64,
    words: usize,
    tail: usize,
}

fn shapes(reading: &mut Reading<'_>) -> Result<Vec<Shape>, ColumnsError> {
    let mut shapes = Vec::new();
    let count = reading.elements("the shapes", 2)?;
    reading.take_memory(count.saturating_mul(SHAPE), "the shapes")?;
    shapes.reserve_exact(count);
    for _ in 0..count {
        let first: u64 = reading.number("a shape")?;
        let words: usize = reading.number("a shape's words")?;
        let len = (first >> 32) as usize;
        if !(HEAD_SIZE..=MAX_LEN).contains(&len) || !len.is_multiple_of(WORD) {
            return Err(ColumnsError::Number { what: "a record's length", found: len as u64 });
        }
        if !(HEAD_WORDS..=HEAD_WORDS + BODY_WORDS).contains(&words) || words * WORD > len {
            return Err(ColumnsError::Number { what: "a record's words", found: words as u64 });
        }
        shapes.push(Shape { first, words, tail: len - words * WORD });
    }
    Ok(shapes)
}

/// Bytes of memory of a shape that is read.
pub(super) const SHAPE: usize = size_of::<Shape>();

/// Numbers of a column, read one after the other.
struct Column {
    numbers: Vec<u64>,
    at: usize,
}

impl Column {
    fn next(&mut self, what: &'static str) -> Result<u64, ColumnsError> {
        let number = self.numbers.get(self.at).copied().ok_or(ColumnsError::Length { what })?;
        self.at += 1;
        Ok(number)
    }

    fn index(&mut self, what: &'static str, table: usize) -> Result<usize, ColumnsError> {
        let found = self.next(what)?;
        usize::try_from(found).ok().filter(|index| *index <= table).ok_or(ColumnsError::Number { what, found })
    }
}

/// Reads `count` records of `bytes` bytes in all.
pub(super) fn read(reading: &mut Reading<'_>, count: usize, bytes: usize) -> Result<Vec<u8>, ColumnsError> {
    if count > MAX_RECORDS || bytes > MAX_BYTES {
        return Err(ColumnsError::Number { what: "the number of records or bytes", found: count.max(bytes) as u64 });
    }
    if reading.map("columns")? != 4 {
        return Err(reading.wanted("columns").into());
    }
    reading.key(1, "shapes")?;
    let shapes = shapes(reading)?;
    reading.key(2, "threads")?;
    let threads = reading.bytes("threads")?;
    reading.key(3, "the columns")?;
    let mut columns = reading.bytes("the columns")?;
    reading.key(4, "tails")?;
    let mut literals = reading.bytes("tails")?;

    let column = |numbers| Column { numbers, at: 0 };
    let shape_indices = Planes::read(count, &mut columns, "shapes")?;
    let mut tailed = 0;
    let mut with_word = [0_usize; BODY_WORDS];
    for index in &shape_indices {
        let shape = usize::try_from(*index).ok().and_then(|index| shapes.get(index));
        let shape = shape.ok_or(ColumnsError::Number { what: "a shape's index", found: *index })?;
        tailed += usize::from(shape.tail > 0);
        with_word[..shape.words - HEAD_WORDS].iter_mut().for_each(|count| *count += 1);
    }
    let mut thread_indices = column(Planes::read(count, &mut columns, "threads")?);
    let mut tail_indices = column(Planes::read(tailed, &mut columns, "tails")?);
    let mut words = Vec::with_capacity(HEAD_WORDS + BODY_WORDS);
    for at in 0..HEAD_WORDS {
        let is_there = at != 0 && at != THREAD && count > 0;
        words.push(column(if is_there { Planes::read(count, &mut columns, "the head")? } else { Vec::new() }));
    }
    for count in with_word {
        words.push(column(if count > 0 { Planes::read(count, &mut columns, "a body")? } else { Vec::new() }));
    }
    if !columns.is_empty() {
        return Err(ColumnsError::Length { what: "the last" });
    }

    let mut out = Vec::with_capacity(bytes);
    let mut likely = Likely::new();
    let mut tails: Vec<&[u8]> = Vec::new();
    for index in shape_indices {
        // Looked up before.
        let Some(shape) = usize::try_from(index).ok().and_then(|index| shapes.get(index)) else { break };
        let thread = thread_indices.index("a thread's index", likely.threads.len())?;
        let of_thread = threads.get(thread * WORD..).and_then(|rest| rest.first_chunk());
        let of_thread = u64::from_le_bytes(*of_thread.ok_or(ColumnsError::Length { what: "threads" })?);
        let mut head = [0; HEAD_WORDS];
        (head[0], head[THREAD]) = (shape.first, of_thread);
        // The producer's word first: the sequence number is told by it.
        for at in [PRODUCER, SEQUENCE, TIME].into_iter().chain(4..HEAD_WORDS).filter(|at| *at != THREAD) {
            let difference = unzigzag(words[at].next("the head")?);
            head[at] = likely.head(at, thread, head[PRODUCER]).wrapping_add(difference);
        }
        if out.len() + shape.words * WORD + shape.tail > bytes {
            return Err(ColumnsError::Number { what: "the length of all records", found: bytes as u64 });
        }
        head.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        likely.was(thread, head);
        let body = &mut likely.bodies[kind_of(shape.first)];
        for at in 0..shape.words - HEAD_WORDS {
            body[at] = body[at].wrapping_add(unzigzag(words[HEAD_WORDS + at].next("a body")?));
            out.extend_from_slice(&body[at].to_le_bytes());
        }
        if shape.tail > 0 {
            let index = tail_indices.index("a tail's index", tails.len())?;
            if index == tails.len() {
                let (tail, rest) =
                    literals.split_at_checked(shape.tail).ok_or(ColumnsError::Length { what: "tails" })?;
                literals = rest;
                tails.push(tail);
            }
            let tail = tails.get(index).filter(|tail| tail.len() == shape.tail);
            out.extend_from_slice(tail.ok_or(ColumnsError::Length { what: "a tail" })?);
        }
    }
    if out.len() != bytes || !literals.is_empty() || threads.len() != likely.threads.len() * WORD {
        return Err(ColumnsError::Length { what: "all records" });
    }
    Ok(out)
}

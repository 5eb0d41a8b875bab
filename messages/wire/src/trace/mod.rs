//! The trace format: what a node recorded, to be replayed anywhere.
//!
//! Invariant: a trace is read to its last whole block whatever happened to it behind that, and says what is missing; no record is given out
//! that is not the one that was recorded. Every length is held against a bound and against what is there before it is allocated.
//!
//! # The file, version 1
//! All numbers of this table are little-endian.
//!
//! | bytes | file head |
//! |---|---|
//! | 0..8 | `89 50 41 4c 54 52 43 0a` ([`frame::MAGIC`]) |
//! | 8..10 | version ([`frame::VERSION`]); a reader refuses any other by its number |
//! | 10..16 | zero |
//!
//! Blocks follow, each with this head ([`frame::BlockHead`]), then the index block's trailer:
//!
//! | bytes | block head |
//! |---|---|
//! | 0..4 | `PBLK` |
//! | 4 | kind: 1 header, 2 facts, 3 records, 4 index, 5 checkpoint |
//! | 5 | encoding: 1, CBOR under zstd |
//! | 6..8 | zero |
//! | 8..12 | number of the block in the file, from 0 |
//! | 12..16 | bytes of the content, at most [`frame::MAX_CONTENT`] |
//! | 16..20 | bytes that follow the head, at most [`frame::MAX_STORED`] |
//! | 20..24 | records in it |
//! | 24..32, 32..40 | earliest and latest time in it, `CLOCK_BOOTTIME` nanoseconds |
//! | 40..48 | sum of what follows the head ([`frame::sum`]: the first 8 bytes of BLAKE3) |
//! | 48..56 | sum of the bytes 0..48 |
//!
//! | bytes | trailer |
//! |---|---|
//! | 0..4 | `PEND` |
//! | 4..8 | blocks, the index among them |
//! | 8..16 | where the index block begins |
//! | 16..24 | records in all |
//! | 24..32 | zero |
//! | 32..40 | sum of the bytes 0..32 |
//!
//! The content of a block is one CBOR item (RFC 8949, definite lengths, no floats, no tags), maps with integer keys in order from 1.
//!
//! - **Header** (block 0): a map of 17: node, cluster, machine id, `uname -r`, `uname -m`, version of the program; boot time and wall clock of
//!   the same moment, byte order (1: little), version of the records' layout, bound in bytes, bound in nanoseconds, part; what is
//!   redacted, workloads recorded; default visibility; limit of alerts, `[a second, seconds]` or null ([`Header`]).
//! - **Facts**: an array of facts, each an array `[kind, time, fields ...]`; kinds 1 to 14, of which 12 is reserved ([`What`]).
//!   The facts before the first record are the start snapshot, ended by kind 11.
//! - **Records**: a map of 3: the numbers of records of each batch, as batches were delivered; the bytes of all records; their columns,
//!   a map of 4 (`columns`): shapes, threads, columns, tails. Records are the kernel's own bytes (`bpf/include/record.h`).
//! - **Checkpoint**: as facts, of kind 7 alone: the processes that live at this place, with arguments only where the
//!   node keeps them throughout. Who reads in order knows them and passes over it.
//! - **Index**: an array of `place, kind, records, first, last, slots` for each block before it ([`index::Entry`]).
//!
//! A trace is written and read without seeking. With a whole file, [`seek`] reads only all facts, the blocks of records of a time and a
//! workload, and before the first of these what follows the last checkpoint: at most [`CHECKPOINT_RECORDS`] records and a block.
//!
//! # What is redacted
//! Unless arguments are asked for, no argument of a process is in a trace: those in records and in the start snapshot are overwritten.
//! Environments are in none: nothing records them. What *is* in a trace: paths (also one that a command was given as an argument, once it
//! opened or executed it), names of commands (`comm`), of users, hosts that DNS was asked for, addresses and ports, images, labels, and the
//! policies as they were written. Whoever hands a trace on hands those on.
//!
//! Decision: facts stand in their own blocks, in order among those of records, because a reader that seeks must have all of them.
//! Decision: redaction overwrites the arguments in the record ([`palisade_kernel_abi::record::redact_arguments`]) before the block is made, and
//! is not a reader's courtesy.

pub mod block;
pub mod cbor;
mod columns;
pub mod fact;
pub mod frame;
mod header;
pub mod index;
mod passing;
pub mod picture;
mod reader;
pub mod seek;
mod writer;

#[cfg(test)]
mod tests;

pub use block::{Batches, Block, BlockError, Damage};
pub use fact::{Fact, Held, Loss, Place, PolicyDocuments, PolicyOfSlot, Process, Users, What};
pub use header::Header;
pub use passing::Passing;
pub use picture::{Acting, Chosen, Picture, checkpoint_of, is_called};
pub use reader::{Damaged, Ending, OpenError, Part, Report, TraceReader};
pub use writer::{TraceWriter, WriteError};

/// Records of a block at which it is ended.
pub const BLOCK_RECORDS: usize = 8192;
/// Bytes of records at which a block is ended.
pub const BLOCK_BYTES: usize = 2 << 20;
/// Records after which the processes that live are told once more: some dozens of milliseconds of reading, for one in a hundred bytes.
pub const CHECKPOINT_RECORDS: u64 = 8 * BLOCK_RECORDS as u64;
/// Records of one batch that are taken: as many bytes as 512 of the longest have.
pub const MAX_BATCH_BYTES: usize = 512 * palisade_kernel_abi::record::MAX_LEN;
/// Records of a block, at most: a batch more than [`BLOCK_RECORDS`], where a batch is of the shortest records.
pub const MAX_RECORDS: usize = BLOCK_RECORDS + MAX_BATCH_BYTES / palisade_kernel_abi::record::HEAD_SIZE;
/// Bytes of a block's records, at most.
pub const MAX_BYTES: usize = BLOCK_BYTES + MAX_BATCH_BYTES;

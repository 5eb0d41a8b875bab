//! The kernel's records as a [`RecordSource`]: one ring buffer for each CPU, read in batches.
//!
//! Invariant: reading allocates nothing once the batch has its size; a record is copied once, from the ring into the batch. What
//! is no record is counted as lost and never ends the reading.
//! The rings live in the pinned array of maps that `bpf/include/emit.h` declares, so that a restarted runtime finds them with
//! the records that were written while it was away, and every program that decides or observes writes into the same ones.
//!
//! Decision: rings are read through aya's `RingBuf`, not by our own mapping, because its ordering with the kernel is the
//! delicate part and it is kept up there. Rings are drained in turn and each read begins with the ring after the last
//! one's, so that a busy CPU delays the others by a batch at most.
//!
//! Wake-ups are batched in the kernel: [`KernelRecords::as_fd`] becomes readable for a record with a decision or a ring that
//! is a quarter full, at most once a millisecond for each CPU. Whoever waits on it reads at least every [`READ_INTERVAL`] too.
//!
//! Needs Linux 5.8 (ring buffers).

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use aya::maps::{ArrayOfMaps, Map, MapData, MapError, PerCpuArray, RingBuf};
use palisade_kernel_abi::record::{self, RecordReader};
use palisade_world::{Loss, LossReason, RecordBatch, RecordSource, RecordSourceError};

use crate::{probes::SharedProbes, sys};

/// What nobody was woken for waits this long at most: alerts are woken for, so that this bounds plain visibility only.
pub const READ_INTERVAL: Duration = Duration::from_millis(20);
/// A ring's bytes where the configuration says nothing: about 5,000 records of an open, 5 ms of the fastest loop of opens.
pub const DEFAULT_RING_BYTES: u32 = 1 << 20;
/// `PAL_RINGS`: the kernel programs mask the CPU's number with one less.
const RINGS: u32 = 1024;
/// `PAL_LOSS_REASONS`.
const LOSS_REASONS: u32 = 5;
/// `enum pal_loss_reason`, but for the one that is the responder's.
const KERNEL_REASONS: [(LossReason, u32); 4] =
    [(LossReason::RingFull, 0), (LossReason::NoScratch, 1), (LossReason::Suppressed, 3), (LossReason::Folded, 4)];
/// `BPF_MAP_TYPE_RINGBUF`.
const RINGBUF: u32 = 27;

/// `struct pal_producer`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Producer {
    next_sequence: u64,
    woken_ns: u64,
}

// SAFETY: two u64 in C's layout, so no padding that would be read uninitialised, and every bit pattern is a value; `Copy`, no drop.
unsafe impl aya::Pod for Producer {}

/// Why the rings cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecordsOpenError {
    /// A pinned map cannot be opened: no program was loaded below this pin root.
    #[error("map {name}: {source}")]
    Map {
        /// Its name.
        name: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// A ring's size must be a power of two of at least one page.
    #[error("ring of {bytes} bytes: must be a power of two, {page} or more", page = 4096)]
    RingSize {
        /// What was asked for.
        bytes: u32,
    },
    /// The rings cannot be polled together, or the CPUs cannot be counted.
    #[error("{what}: {source}")]
    System {
        /// Which call.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// All rings of this machine.
pub struct KernelRecords {
    rings: Vec<RingBuf<MapData>>,
    first: usize,
    poll: OwnedFd,
    malformed: Malformed,
    losses: PerCpuArray<MapData, u64>,
    producers: PerCpuArray<MapData, Producer>,
    sweep: Option<Sweep>,
}

/// Who sends the counts of what was folded once it is this old.
struct Sweep {
    probes: SharedProbes,
    age: Duration,
    failed: bool,
}

impl Sweep {
    fn run(&mut self) {
        if let Err(error) = self.probes.sweep_folds(self.age)
            && !std::mem::replace(&mut self.failed, true)
        {
            tracing::warn!(%error, "counts of folded records come only with the next ones in their places");
        }
    }
}

impl std::fmt::Debug for KernelRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelRecords")
            .field("rings", &self.rings.len())
            .field("first", &self.first)
            .finish_non_exhaustive()
    }
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> RecordsOpenError {
    move |source| RecordsOpenError::Map { name, source: Box::new(source) }
}

fn pinned(root: &Path, name: &'static str) -> Result<Map, RecordsOpenError> {
    MapData::from_pin(root.join(name)).and_then(Map::from_map_data).map_err(map_error(name))
}

impl KernelRecords {
    /// Opens the rings below `pin_root`, and makes those that are not there yet with `ring_bytes` each.
    ///
    /// # Errors
    /// See [`RecordsOpenError`].
    pub fn open(pin_root: &Path, ring_bytes: u32) -> Result<Self, RecordsOpenError> {
        if ring_bytes < 4096 || !ring_bytes.is_power_of_two() {
            return Err(RecordsOpenError::RingSize { bytes: ring_bytes });
        }
        let mut outer: ArrayOfMaps<MapData> = pinned(pin_root, "rings")?.try_into().map_err(map_error("rings"))?;
        let losses = pinned(pin_root, "losses")?.try_into().map_err(map_error("losses"))?;
        let producers = pinned(pin_root, "producers")?.try_into().map_err(map_error("producers"))?;
        let poll = epoll_create()?;
        let count = rings()?;
        let mut rings = Vec::new();
        for cpu in 0..count {
            let ring = open_ring(&mut outer, cpu, ring_bytes).map_err(map_error("rings"))?;
            epoll_add(&poll, ring.as_fd())?;
            rings.push(ring);
        }
        Ok(Self { rings, first: 0, poll, malformed: Malformed::default(), losses, producers, sweep: None })
    }

    /// Lets the probes send the counts of what was folded, once it is older than `age`, whenever losses are asked for; they are attached
    /// as long as somebody reads.
    #[must_use]
    pub fn swept_by(mut self, probes: SharedProbes, age: Duration) -> Self {
        self.sweep = Some(Sweep { probes, age, failed: false });
        self
    }

    /// Waits until a wake-up came or `timeout` is over, at millisecond steps; for callers without an event loop.
    ///
    /// # Errors
    /// What poll(2) says; an interrupted wait is a wait that is over.
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let mut poll = libc::pollfd { fd: self.poll.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the kernel reads and writes one `pollfd`, which is what the count says and what `poll` is, alive over the call.
        if unsafe { libc::poll(&raw mut poll, 1, milliseconds) } < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(()) } else { Err(error) };
        }
        Ok(())
    }

    /// Moves records of one ring into the batch until one of them is at its end; returns whether the ring is empty.
    fn drain(ring: &mut RingBuf<MapData>, batch: &mut RecordBatch, malformed: &mut Malformed) -> bool {
        while batch.records < RecordBatch::MAX_RECORDS {
            let Some(item) = ring.next() else { return true };
            malformed.take(&item, batch);
        }
        false
    }
}

impl RecordSource for KernelRecords {
    fn read(&mut self, batch: &mut RecordBatch) -> Result<bool, RecordSourceError> {
        batch.clear();
        let rings = self.rings.len();
        for turn in 0..rings {
            let at = (self.first + turn) % rings;
            if !Self::drain(&mut self.rings[at], batch, &mut self.malformed) {
                self.first = (at + 1) % rings;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn loss(&mut self) -> Result<Loss, RecordSourceError> {
        if let Some(sweep) = &mut self.sweep {
            sweep.run();
        }
        let mut loss = Loss::default();
        for kind in record::Kind::ALL {
            for (reason, number) in KERNEL_REASONS {
                let index = u32::from(kind.code()) * LOSS_REASONS + number;
                let lost: u64 = self.losses.get(&index, 0).map_err(|e| unreadable("losses", e))?.iter().sum();
                if lost != 0 {
                    loss.counts.insert((kind.code(), reason), lost);
                }
            }
        }
        for (kind, count) in &self.malformed.by_kind {
            loss.counts.insert((*kind, LossReason::Malformed), *count);
        }
        let producers = self.producers.get(&0, 0).map_err(|e| unreadable("producers", e))?;
        loss.produced = (0_u32..).zip(producers.iter().map(|p| p.next_sequence)).filter(|p| p.1 != 0).collect();
        Ok(loss)
    }
}

impl AsFd for KernelRecords {
    /// Readable when there is something to read that somebody should be woken for.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }
}

/// What is in a ring and not one record, by the kind that it says it is (0: none that is known). It took a number, so it is
/// counted as lost; the records around it are good.
#[derive(Debug, Default)]
struct Malformed {
    by_kind: BTreeMap<u16, u64>,
}

impl Malformed {
    /// Copies a record to the batch, or counts it.
    fn take(&mut self, item: &[u8], batch: &mut RecordBatch) {
        if RecordReader::peek_len(item) == Ok(item.len()) {
            batch.bytes.extend_from_slice(item);
            batch.records += 1;
            return;
        }
        let said = item.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
        let kind = said.and_then(record::Kind::from_code).map_or(0, record::Kind::code);
        let count = self.by_kind.entry(kind).or_default();
        *count += 1;
        // Programs of another version write nothing else: said once a kind, then counted.
        if *count == 1 {
            tracing::error!(
                bytes = item.len(),
                kind,
                "in a ring is what is not one record: are programs of another version loaded?"
            );
        }
    }
}

fn unreadable(what: &'static str, error: MapError) -> RecordSourceError {
    RecordSourceError { what, source: io::Error::other(error) }
}

/// How many rings there are: one for each CPU that this machine may ever have, which in a VM is often many more than it has.
///
/// # Errors
/// The kernel does not tell.
pub fn rings() -> Result<u32, RecordsOpenError> {
    // By the highest number, not by how many there are: numbers may have holes.
    let count = sys::possible_cpus().map_err(|source| RecordsOpenError::System { what: "possible CPUs", source })?;
    Ok(u32::try_from(count).unwrap_or(RINGS).min(RINGS))
}

fn open_ring(outer: &mut ArrayOfMaps<MapData>, cpu: u32, bytes: u32) -> Result<RingBuf<MapData>, MapError> {
    let data = match outer.get(&cpu, 0) {
        Ok(existing) => existing,
        Err(MapError::KeyNotFound) => {
            let parameters = aya_obj::Map::new_from_params(RINGBUF, 0, 0, bytes, 0);
            let made = MapData::create(parameters, "ring", None)?;
            outer.set(cpu, &made, 0)?;
            made
        }
        Err(error) => return Err(error),
    };
    RingBuf::try_from(Map::from_map_data(data)?)
}

fn epoll_create() -> Result<OwnedFd, RecordsOpenError> {
    // SAFETY: takes a number; a negative result is told from a descriptor below.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if fd < 0 {
        return Err(RecordsOpenError::System { what: "epoll_create1", source: io::Error::last_os_error() });
    }
    // SAFETY: the call above made the descriptor, it is not negative, and its number goes nowhere else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn epoll_add(poll: &OwnedFd, fd: BorrowedFd<'_>) -> Result<(), RecordsOpenError> {
    let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
    // SAFETY: both descriptors are borrowed, so open; the kernel copies one event, which lives over the call.
    let result = unsafe { libc::epoll_ctl(poll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event) };
    if result < 0 {
        return Err(RecordsOpenError::System { what: "epoll_ctl", source: io::Error::last_os_error() });
    }
    Ok(())
}

/// Checks `produced = delivered + lost + suppressed + folded` over one source, in user space.
#[derive(Debug, Clone, Default)]
pub struct SequenceCheck {
    delivered: BTreeMap<u32, u64>,
}

/// The sum does not hold: a record vanished without being counted, or was counted twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{produced} records produced, {delivered} delivered and {lost} lost, suppressed or folded")]
pub struct Unaccounted {
    /// Numbers that the kernel gave out.
    pub produced: u64,
    /// Records that came.
    pub delivered: u64,
    /// Records that the kernel counted as lost, suppressed or folded.
    pub lost: u64,
}

impl SequenceCheck {
    /// Counts a delivered record.
    pub fn delivered(&mut self, header: &record::Header) {
        *self.delivered.entry(header.producer).or_default() += 1;
    }

    /// Compares with what the kernel counted. Holds when the programs rest and the rings are empty: between a record's
    /// number and its arrival the sum is short by it.
    ///
    /// # Errors
    /// [`Unaccounted`] with the three sums.
    pub fn verify(&self, loss: &Loss) -> Result<(), Unaccounted> {
        let of_kernel = |(producer, n): (&u32, &u64)| (*producer < record::PRODUCER_USER).then_some(*n);
        let delivered = self.delivered.iter().filter_map(of_kernel).sum();
        let produced = loss.produced.iter().filter_map(of_kernel).sum();
        let lost = loss.counts.values().sum();
        if produced == delivered + lost { Ok(()) } else { Err(Unaccounted { produced, delivered, lost }) }
    }
}

#[cfg(test)]
mod tests {
    use palisade_kernel_abi::record::{Body, Exit, Header, Kind, Record, RecordWriter};

    use super::*;

    #[test]
    fn unit_what_is_no_record_is_counted_by_kind_and_the_next_ones_are_taken() {
        let mut writer = RecordWriter::default();
        let exit = Record { header: Header::default(), body: Body::Exit(Exit { status: 0 }), decision: None };
        writer.write(&exit).expect("it fits");
        let good = writer.into_bytes();
        let (mut malformed, mut batch) = (Malformed::default(), RecordBatch::default());
        let mut longer = good.clone();
        longer[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        for item in [&good[..], &longer, &good[..good.len() - 8], &[], &[0xff; 9], &good] {
            malformed.take(item, &mut batch);
        }
        assert_eq!((batch.records, batch.bytes.len()), (2, 2 * good.len()));
        assert_eq!(malformed.by_kind, BTreeMap::from([(Kind::Exit.code(), 2), (0, 2)]));
    }
}

//! Blobs in the kernel: content-shared, and never changed while a program may read them.
//!
//! Each size class has an outer array of inner arrays with one value. Changing an outer array waits for a grace period (about
//! 10 ms), filling an inner array does not; so free inner arrays are kept in the outer ones, and an installation is one map
//! update and one store to each slot. A blob that no slot names any more is *retired*: it becomes free only once every
//! program that was running has ended. For small blobs a thread waits for that, so that a change of all workloads' policies
//! does not; a large blob's array is waited for instead of making another one, and so is a small one's where there is no place
//! for another.
//!
//! The pool also tells the programs which families nobody decides (`idle_families`), since it knows every blob in force.
//!
//! Invariant: an inner array is written only while it is free, and no slot names a free one. While a slot names a blob, no
//! family of it is told to be idle.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use palisade_kernel_abi::blob::{Blob, HEAD_BYTES, SizeClass};

use crate::{
    layout::{self, PolicyNumber},
    objects::{ObjectError, PinRoot},
    sys::{MapFd, Readers},
};

/// Free arrays that are made at once: a class grows by its own size, within these bounds, so that many different blobs cost
/// few grace periods. 16 arrays of the smallest class are 256 KiB.
const fn growth(class: SizeClass) -> (usize, usize) {
    match class {
        SizeClass::K16 => (16, 128),
        SizeClass::K128 => (2, 16),
        SizeClass::M1 => (1, 8),
        SizeClass::M8 => (1, 1),
    }
}

/// Whether retired arrays are waited for by a thread: while it waits as many again are made, which large ones are too dear for.
const fn is_reclaimed_apart(class: SizeClass) -> bool {
    matches!(class, SizeClass::K16 | SizeClass::K128)
}

/// Why a blob cannot be installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("{what}: {source}")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("policies of one size class are full: {bound} at most", bound = layout::POLICIES)]
    Full,
}

fn refused(what: &'static str) -> impl FnOnce(io::Error) -> PoolError {
    move |source| PoolError::Refused { what, source }
}

/// The families that it decides, and [`layout::WRITES`].
pub(crate) fn decided_by(blob: &Blob) -> u32 {
    blob.head().families | if blob.denies_writing_alone() { layout::WRITES } else { 0 }
}

/// A blob in use.
#[derive(Debug)]
struct Held {
    number: PolicyNumber,
    /// Slots that name it.
    slots: u32,
}

/// Arrays of one size class, by their index in the outer array.
#[derive(Debug)]
struct Class {
    class: SizeClass,
    outer: MapFd,
    arrays: Vec<MapFd>,
    free: Vec<u32>,
    retired: Vec<u32>,
    /// Retired before the thread began to wait, and not free before that has ended: by it, or by who cannot do without them.
    waited_for: Vec<u32>,
}

impl Class {
    fn grow(&mut self) -> Result<(), PoolError> {
        let (least, most) = growth(self.class);
        let room = (layout::POLICIES as usize).saturating_sub(self.arrays.len());
        let count = self.arrays.len().clamp(least, most).min(room);
        if count == 0 {
            return Err(PoolError::Full);
        }
        let bytes = u32::try_from(self.class.value_bytes()).map_err(|_| PoolError::Full)?;
        let made: io::Result<Vec<MapFd>> = (0..count).map(|_| MapFd::create_single("palisade_blob", bytes)).collect();
        let made = made.map_err(refused("make a blob's map"))?;
        let first = u32::try_from(self.arrays.len()).map_err(|_| PoolError::Full)?;
        self.outer.update_inner(first, &made).map_err(refused("add a blob's map"))?;
        self.free.extend((first..).take(made.len()));
        self.arrays.extend(made);
        Ok(())
    }
}

/// All blobs of this node.
#[derive(Debug)]
pub(crate) struct PolicyPool {
    classes: Vec<Class>,
    held: BTreeMap<[u8; 32], Held>,
    by_number: BTreeMap<PolicyNumber, [u8; 32]>,
    readers: Arc<Readers>,
    /// One word, `idle_families`.
    idle: MapFd,
    /// Families of policies that slots named at the start and that had no blob: never told to be idle, for what is judged by
    /// them takes the fail mode.
    missing: u32,
    /// A thread waits for retired arrays.
    reclaiming: bool,
}

/// The pool, as the adapter and the thread that waits share it.
#[derive(Debug, Clone)]
pub(crate) struct SharedPool(Arc<Mutex<PolicyPool>>);

impl SharedPool {
    pub fn new(pool: PolicyPool) -> Self {
        Self(Arc::new(Mutex::new(pool)))
    }

    pub fn lock(&self) -> MutexGuard<'_, PolicyPool> {
        // Each change of the pool is complete before anything in it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One slot names the policy no more; the slot has been told before.
    pub fn release(&self, number: PolicyNumber) {
        let mut pool = self.lock();
        pool.release(number);
        if pool.reclaiming || !pool.has_retired_apart() {
            return;
        }
        let shared = self.clone();
        let started = thread::Builder::new().name("blob-reclaim".to_owned()).spawn(move || shared.reclaim());
        // Without the thread they are waited for when they are wanted.
        pool.reclaiming = started.is_ok();
    }

    fn reclaim(&self) {
        loop {
            let readers = {
                let mut pool = self.lock();
                if !pool.has_retired_apart() {
                    pool.reclaiming = false;
                    return;
                }
                pool.begin_waiting();
                Arc::clone(&pool.readers)
            };
            let waited = readers.wait().is_ok();
            let mut pool = self.lock();
            pool.end_waiting(waited);
            if !waited {
                pool.reclaiming = false;
                return;
            }
        }
    }
}

impl PolicyPool {
    /// Opens the outer maps and takes over what an earlier runtime left in them: `named` are the policies in force by slot.
    pub fn open(pins: &PinRoot, named: impl Iterator<Item = PolicyNumber>) -> Result<Self, ObjectError> {
        let readers = Readers::new().map_err(|source| ObjectError::Pins { path: pins.path().to_path_buf(), source })?;
        let mut pool = Self {
            classes: Vec::new(),
            held: BTreeMap::new(),
            by_number: BTreeMap::new(),
            readers: Arc::new(readers),
            idle: pins.open("idle_families")?,
            missing: 0,
            reclaiming: false,
        };
        let mut references: BTreeMap<(SizeClass, u32), (PolicyNumber, u32)> = BTreeMap::new();
        for number in named {
            if let Some(place) = number.place() {
                references.entry(place).or_insert((number, 0)).1 += 1;
            }
        }
        for (class, name) in SizeClass::ALL.into_iter().zip(["blobs_16k", "blobs_128k", "blobs_1m", "blobs_8m"]) {
            let outer = pins.open(name)?;
            let pins_error = |source| ObjectError::Pins { path: pins.map(name), source };
            let mut taken = Class {
                class,
                outer,
                arrays: Vec::new(),
                free: Vec::new(),
                retired: Vec::new(),
                waited_for: Vec::new(),
            };
            pool.take_over(&mut taken, &references).map_err(pins_error)?;
            pool.classes.push(taken);
        }
        let missing = references.values().filter(|(number, _)| !pool.by_number.contains_key(number));
        pool.missing = missing.fold(0, |families, (number, _)| families | number.families());
        pool.tell_idle(0).map_err(|source| ObjectError::Pins { path: pins.map("idle_families"), source })?;
        Ok(pool)
    }

    /// The families that a blob in force decides.
    pub fn decided(&self) -> u32 {
        self.by_number.keys().fold(self.missing, |families, number| families | number.families())
    }

    /// Which families no blob in force decides, nor one of these `wanted` that is about to be.
    fn tell_idle(&self, wanted: u32) -> io::Result<()> {
        let decided = self.decided() | wanted;
        self.idle.update(&0u32.to_ne_bytes(), &(layout::ALL_FAMILIES & !decided).to_ne_bytes())
    }

    fn take_over(
        &mut self,
        class: &mut Class,
        named: &BTreeMap<(SizeClass, u32), (PolicyNumber, u32)>,
    ) -> io::Result<()> {
        for index in 0..layout::POLICIES {
            let mut id = [0; 4];
            if !class.outer.lookup(&index.to_ne_bytes(), &mut id)? {
                break;
            }
            let array = MapFd::open_id(u32::from_ne_bytes(id))?;
            match named.get(&(class.class, index)) {
                Some((number, slots)) => {
                    let digest = digest_in(&array, class.class)?;
                    self.by_number.insert(*number, digest);
                    self.held.insert(digest, Held { number: *number, slots: *slots });
                }
                None => class.retired.push(index),
            }
            class.arrays.push(array);
        }
        Ok(())
    }

    /// The number of the blob's copy in the kernel, which is made if there is none; one slot more names it.
    pub fn acquire(&mut self, blob: &Blob) -> Result<PolicyNumber, PoolError> {
        if let Some(held) = self.held.get_mut(&blob.digest()) {
            held.slots += 1;
            return Ok(held.number);
        }
        let index = self.take_free(blob.size_class())?;
        let class = &mut self.classes[blob.size_class() as usize];
        let array = &class.arrays[index as usize];
        if let Err(source) = array.update(&0u32.to_ne_bytes(), blob.as_bytes()) {
            class.free.push(index);
            return Err(PoolError::Refused { what: "write a blob", source });
        }
        let families = decided_by(blob);
        if let Err(source) = self.tell_idle(families) {
            self.classes[blob.size_class() as usize].free.push(index);
            return Err(PoolError::Refused { what: "wake the families of a blob", source });
        }
        let number = PolicyNumber::new(blob.size_class(), index, families);
        self.by_number.insert(number, blob.digest());
        self.held.insert(blob.digest(), Held { number, slots: 1 });
        Ok(number)
    }

    fn take_free(&mut self, class: SizeClass) -> Result<u32, PoolError> {
        if self.classes[class as usize].free.is_empty() {
            let grown =
                if is_reclaimed_apart(class) { self.classes[class as usize].grow() } else { Err(PoolError::Full) };
            if grown.is_err() {
                self.reclaim_now()?;
            }
        }
        let class = &mut self.classes[class as usize];
        if class.free.is_empty() {
            class.grow()?;
        }
        class.free.pop().ok_or(PoolError::Full)
    }

    /// Waits for all that is retired, also for what the thread has begun to wait for.
    fn reclaim_now(&mut self) -> Result<(), PoolError> {
        if self.classes.iter().all(|class| class.retired.is_empty() && class.waited_for.is_empty()) {
            return Ok(());
        }
        self.readers.wait().map_err(refused("wait for readers"))?;
        for class in &mut self.classes {
            class.free.append(&mut class.retired);
            class.free.append(&mut class.waited_for);
        }
        Ok(())
    }

    /// One slot more names a blob that is in force already.
    pub fn share(&mut self, number: PolicyNumber) {
        if let Some(held) = self.by_number.get(&number).and_then(|digest| self.held.get_mut(digest)) {
            held.slots += 1;
        }
    }

    fn release(&mut self, number: PolicyNumber) {
        let Some(digest) = self.by_number.get(&number).copied() else {
            return;
        };
        let Some(held) = self.held.get_mut(&digest) else {
            return;
        };
        held.slots = held.slots.saturating_sub(1);
        if held.slots > 0 {
            return;
        }
        self.held.remove(&digest);
        self.by_number.remove(&number);
        if let Some((class, index)) = number.place() {
            self.classes[class as usize].retired.push(index);
        }
        if let Err(error) = self.tell_idle(0) {
            // Its families stay awake, which costs time and no verdict.
            tracing::warn!(%error, "families that nobody decides cannot be told");
        }
    }

    fn has_retired_apart(&self) -> bool {
        self.classes.iter().any(|class| is_reclaimed_apart(class.class) && !class.retired.is_empty())
    }

    fn begin_waiting(&mut self) {
        for class in self.classes.iter_mut().filter(|class| is_reclaimed_apart(class.class)) {
            class.waited_for.append(&mut class.retired);
        }
    }

    /// Arrays that were waited for are free, but for those that somebody needed earlier; where that failed they stay retired.
    fn end_waiting(&mut self, waited: bool) {
        for class in &mut self.classes {
            let to = if waited { &mut class.free } else { &mut class.retired };
            to.append(&mut class.waited_for);
        }
    }

    /// Different blobs in force.
    pub fn count(&self) -> u64 {
        self.held.len() as u64
    }

    /// Bytes of all blobs' maps as the kernel accounts them, free ones included.
    pub fn memory(&self) -> u64 {
        let arrays = self.classes.iter().flat_map(|class| &class.arrays);
        arrays.map(|array| array.memory().unwrap_or(0)).sum()
    }
}

/// The digest of the blob that an earlier runtime wrote.
fn digest_in(array: &MapFd, class: SizeClass) -> io::Result<[u8; 32]> {
    let mut value = vec![0; class.value_bytes()];
    array.lookup(&0u32.to_ne_bytes(), &mut value)?;
    let mut digest = [0; 32];
    digest.copy_from_slice(&value[HEAD_BYTES - 32..HEAD_BYTES]);
    Ok(digest)
}

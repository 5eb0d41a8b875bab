//! The kernel's own types, read once for all who load programs at about the same time.
//!
//! Invariant: an object is loaded with exactly the constants that are given; another that was set for an object before is 0 again, as all
//! of them are in the objects.
//!
//! Decision: one loader is kept beside the types, not one made for each object, because aya's reads and parses all types of the kernel
//! whenever it is made, which is most of the time of loading a small object. Both live while somebody holds them, and no longer: they are
//! some 30 MB that a node needs at its start alone.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader},
    ops::Deref,
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use aya::{Btf, BtfError, Ebpf, EbpfError, EbpfLoader};

/// A value for a constant of the program, set before it is loaded.
#[derive(Debug, Clone, Copy)]
pub enum Constant {
    /// 32 bits.
    Word(&'static str, u32),
    /// 64 bits.
    Long(&'static str, u64),
}

const NO_PINS: &str = "/nonexistent";

/// The types of the running kernel.
#[derive(Debug)]
pub struct KernelTypes {
    btf: Btf,
    loader: Mutex<Loader>,
}

#[derive(Debug)]
struct Loader {
    aya: EbpfLoader<'static>,
    /// What was set for any object so far.
    set: BTreeMap<&'static str, Constant>,
}

impl KernelTypes {
    /// Those that somebody in this process holds, or freshly read ones.
    ///
    /// # Errors
    /// The kernel does not describe its types.
    pub fn shared() -> Result<Arc<Self>, BtfError> {
        static SHARED: Mutex<Weak<KernelTypes>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = shared.upgrade() {
            return Ok(held);
        }
        let btf = Btf::from_sys_fs()?;
        let mut aya = EbpfLoader::new();
        aya.allow_unsupported_maps();
        let fresh = Arc::new(Self { btf, loader: Mutex::new(Loader { aya, set: BTreeMap::new() }) });
        *shared = Arc::downgrade(&fresh);
        Ok(fresh)
    }

    /// Loads an object: maps made or found by their pins (where it shares any), constants set where it has them, nothing attached.
    ///
    /// # Errors
    /// Where the object as a whole is refused.
    pub fn load(&self, object: &[u8], pin_root: Option<&Path>, constants: &[Constant]) -> Result<Ebpf, EbpfError> {
        // One whose load failed is as good as before: each load sets all that an earlier one did.
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        let Loader { aya, set } = &mut *loader;
        for constant in set.values_mut() {
            match constant {
                Constant::Word(_, value) => *value = 0,
                Constant::Long(_, value) => *value = 0,
            }
        }
        for constant in constants {
            let (Constant::Word(name, _) | Constant::Long(name, _)) = constant;
            set.insert(name, *constant);
        }
        for constant in set.values() {
            match *constant {
                Constant::Word(name, value) => aya.override_global(name, lasting(value), false),
                Constant::Long(name, value) => aya.override_global(name, lasting(value), false),
            };
        }
        // What shares no map looks at no directory.
        aya.default_map_pin_directory(pin_root.unwrap_or(Path::new(NO_PINS))).load(object)
    }
}

impl Deref for KernelTypes {
    type Target = Btf;

    fn deref(&self) -> &Btf {
        &self.btf
    }
}

/// A value that is never freed, for the loader borrows it as long as it lives. The same value is the same memory: switches, a namespace,
/// addresses, a file and the threads that tried it.
fn lasting<T: Lasting>(value: T) -> &'static T {
    let mut known = T::known().lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(value).or_insert_with(|| Box::leak(Box::new(value)))
}

trait Lasting: Copy + Ord + 'static {
    fn known() -> &'static Mutex<BTreeMap<Self, &'static Self>>;
}

impl Lasting for u32 {
    fn known() -> &'static Mutex<BTreeMap<Self, &'static Self>> {
        static KNOWN: Mutex<BTreeMap<u32, &'static u32>> = Mutex::new(BTreeMap::new());
        &KNOWN
    }
}

impl Lasting for u64 {
    fn known() -> &'static Mutex<BTreeMap<Self, &'static Self>> {
        static KNOWN: Mutex<BTreeMap<u64, &'static u64>> = Mutex::new(BTreeMap::new());
        &KNOWN
    }
}

/// Addresses of the kernel's own variables and functions that programs go by; `None` where it does not show them (`CONFIG_KALLSYMS_ALL`,
/// `kernel.kptr_restrict`).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Symbols {
    /// What frees files, by which scripts are found (`bpf/include/script.h`).
    pub file_release: Option<u64>,
    /// What the climb is checked by (`bpf/include/walk.h`).
    pub rename_lock: Option<u64>,
}

/// Read once in the life of the process: none of them moves, and the kernel takes long to print them all.
pub(crate) fn symbols() -> Symbols {
    static READ: OnceLock<Symbols> = OnceLock::new();
    *READ.get_or_init(read_symbols)
}

fn read_symbols() -> Symbols {
    let mut found = Symbols::default();
    let Ok(file) = File::open("/proc/kallsyms") else { return found };
    let mut lines = BufReader::with_capacity(1 << 16, file);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let mut words = line.split_ascii_whitespace();
        let (address, name) = (words.next(), words.nth(1));
        let place = match name {
            Some("____fput") => &mut found.file_release,
            Some("rename_lock") => &mut found.rename_lock,
            _ => {
                line.clear();
                continue;
            }
        };
        let shown = address.and_then(|address| u64::from_str_radix(address, 16).ok()).filter(|address| *address != 0);
        *place = place.or(shown);
        if found.file_release.is_some() && found.rename_lock.is_some() {
            break;
        }
        line.clear();
    }
    found
}

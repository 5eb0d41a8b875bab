//! The bpf(2) commands and the few other system calls that aya does not offer, each behind a safe function.
//!
//! Invariant: nothing here decides; every function is one call with its error kept. Keys and values are byte slices whose
//! length the caller knows from [`crate::layout`]; each function checks it against the map before the kernel reads it.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{
    bpf_attr, bpf_attr__bindgen_ty_1 as MapCreate, bpf_attr__bindgen_ty_2 as MapElement, bpf_cmd, bpf_link_info,
    bpf_map_info, bpf_map_type,
};

pub(crate) mod netlink;
mod program;

pub(crate) use program::{ModifyingProgram, attach_modifying, load_modifying, load_types, pin, skips};

/// Calls bpf(2) with a zeroed attribute that `fill` completes.
fn bpf(command: bpf_cmd, fill: impl FnOnce(&mut bpf_attr)) -> io::Result<i64> {
    // SAFETY: every member of the union is of integers and arrays of them, so that zero is a value of each; the kernel refuses
    // calls whose unused bytes are not zero.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    fill(&mut attr);
    // SAFETY: `attr` is initialised for the size that is passed. Each `fill` (all are in this file and in `program`) puts in addresses only of what its
    // caller borrows until `bpf` returns, and the lengths that the kernel reads or writes there are those of the map's shape,
    // which `MapFd::check` has compared with the slices, those of the slices themselves, or NUL-terminated strings.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The member of the union for commands on one element.
fn element_of(attr: &mut bpf_attr) -> &mut MapElement {
    // SAFETY: `bpf` has zeroed the whole union, and the member is of integers and a union of integers: whatever was written to the
    // others, its bytes are initialised and any value is one of it.
    unsafe { &mut attr.__bindgen_anon_2 }
}

fn owned(result: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: every caller passes what a call that makes a descriptor has just returned to it, once, and forgets the number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor that is open is never negative.
    fd.as_raw_fd().unsigned_abs()
}

/// Detaches what the link at `pin` attached, at once: to remove the pin alone detaches only when the kernel comes to it.
/// Kinds of links without this command (tracepoints) say `EOPNOTSUPP`.
pub(crate) fn detach_link(pin: &Path) -> io::Result<()> {
    detach(open_pin(pin)?.as_fd())
}

/// Opens whatever is pinned there.
pub(crate) fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    owned(bpf(bpf_cmd::BPF_OBJ_GET, |attr| attr.__bindgen_anon_4.pathname = path.as_ptr() as u64)?)
}

/// See [`detach_link`]; what is no link says `EINVAL`.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    bpf(bpf_cmd::BPF_LINK_DETACH, |attr| attr.link_detach.link_fd = number(link)).map(drop)
}

/// What the kernel calls an object of bpf(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ObjectIds {
    /// The link, map or program itself.
    pub own: u32,
    /// Of a link, its program.
    pub program: u32,
}

/// What the kernel calls a link.
pub(crate) fn link_id(link: BorrowedFd<'_>) -> io::Result<u32> {
    object_ids(link).map(|ids| ids.own)
}

/// The same of a map or a program, too: what the kernel says of each begins with its type and its id.
pub(crate) fn object_ids(object: BorrowedFd<'_>) -> io::Result<ObjectIds> {
    // SAFETY: `bpf_link_info` is of integers, arrays of them and unions of these: zero is a value. The kernel writes `info_len` bytes at most.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let length = u32::try_from(size_of::<bpf_link_info>()).map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, |attr| {
        attr.info.bpf_fd = number(object);
        attr.info.info_len = length;
        attr.info.info = (&raw mut info) as u64;
    })?;
    Ok(ObjectIds { own: info.id, program: info.prog_id })
}

/// Whether anybody has the link yet.
pub(crate) fn link_is_there(id: u32) -> io::Result<bool> {
    is_there(bpf_cmd::BPF_LINK_GET_FD_BY_ID, id)
}

/// Whether the map is there yet.
pub(crate) fn map_is_there(id: u32) -> io::Result<bool> {
    is_there(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)
}

/// Whether the program is there yet.
pub(crate) fn program_is_there(id: u32) -> io::Result<bool> {
    is_there(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)
}

/// By a command whose attribute begins with the id.
fn is_there(get: bpf_cmd, id: u32) -> io::Result<bool> {
    match bpf(get, |attr| attr.__bindgen_anon_6.__bindgen_anon_1.link_id = id) {
        Ok(number) => owned(number).map(|_| true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the kernel says of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapShape {
    pub kind: u32,
    pub key: u32,
    pub value: u32,
    pub entries: u32,
}

/// A map that this process has open.
#[derive(Debug)]
pub(crate) struct MapFd {
    fd: OwnedFd,
    shape: MapShape,
    per_cpu: usize,
}

impl AsFd for MapFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn shape_of(fd: BorrowedFd<'_>) -> io::Result<MapShape> {
    // SAFETY: `bpf_map_info` is of integers, arrays of them and padding: zero is a value. The kernel writes `info_len` bytes at most.
    let mut info: bpf_map_info = unsafe { std::mem::zeroed() };
    let length = u32::try_from(size_of::<bpf_map_info>()).map_err(io::Error::other)?;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, |attr| {
        attr.info.bpf_fd = number(fd);
        attr.info.info_len = length;
        attr.info.info = (&raw mut info) as u64;
    })?;
    Ok(MapShape { kind: info.type_, key: info.key_size, value: info.value_size, entries: info.max_entries })
}

/// Whether or not the key is there, only if it is not, only if it is.
const BPF_ANY: u64 = 0;
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

impl MapFd {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let shape = shape_of(fd.as_fd())?;
        let per_cpu = if shape.kind == bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32 { possible_cpus()? } else { 1 };
        Ok(Self { fd, shape, per_cpu })
    }

    /// Opens a pin.
    pub fn open(path: &Path) -> io::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let fd = bpf(bpf_cmd::BPF_OBJ_GET, |attr| {
            attr.__bindgen_anon_4.pathname = name.as_ptr() as u64;
        })?;
        Self::new(owned(fd)?)
    }

    /// Opens a map by its id: an inner map's id is what looking it up in the outer map gives.
    pub fn open_id(id: u32) -> io::Result<Self> {
        let fd = bpf(bpf_cmd::BPF_MAP_GET_FD_BY_ID, |attr| {
            attr.__bindgen_anon_6.__bindgen_anon_1.map_id = id;
        })?;
        Self::new(owned(fd)?)
    }

    /// Makes an array with one value of so many bytes.
    pub fn create_single(name: &str, value_bytes: u32) -> io::Result<Self> {
        Self::create(name, |create| {
            create.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY as u32;
            create.value_size = value_bytes;
        })
    }

    /// Makes a map of one entry with a key of 4 bytes, whose kind and value `fill` says.
    fn create(name: &str, fill: impl FnOnce(&mut MapCreate)) -> io::Result<Self> {
        let fd = bpf(bpf_cmd::BPF_MAP_CREATE, |attr| {
            // SAFETY: `attr` was zeroed as a whole, and every field of this member of the union is an integer or an array of
            // them: zero is a value of the member, whichever was written last.
            let create = unsafe { &mut attr.__bindgen_anon_1 };
            create.key_size = 4;
            create.max_entries = 1;
            for (to, from) in create.map_name.iter_mut().zip(name.bytes().take(15)) {
                *to = std::ffi::c_char::from_ne_bytes([from]);
            }
            fill(create);
        })?;
        Self::new(owned(fd)?)
    }

    /// What the kernel said of it when it was opened.
    pub fn shape(&self) -> MapShape {
        self.shape
    }

    /// Bytes of a value as user space sees it: a part for each CPU in per-CPU maps.
    pub fn value_bytes(&self) -> usize {
        let value = self.shape.value as usize;
        if self.per_cpu > 1 || self.shape.kind == bpf_map_type::BPF_MAP_TYPE_PERCPU_ARRAY as u32 {
            value.next_multiple_of(8) * self.per_cpu
        } else {
            value
        }
    }

    fn check(&self, key: usize, value: Option<usize>) -> io::Result<()> {
        let fits = key == self.shape.key as usize && value.is_none_or(|value| value == self.value_bytes());
        if fits { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
    }

    /// Writes a value, whether or not the key is there.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.write(key, value, BPF_ANY).map(drop)
    }

    /// Writes a value where there is none; false: there is one, which stays.
    pub fn insert_new(&self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        match self.write(key, value, BPF_NOEXIST) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            written => written.map(|_| true),
        }
    }

    /// Writes a value where there is one; false: there is none.
    pub fn replace(&self, key: &[u8], value: &[u8]) -> io::Result<bool> {
        absent_is_false(self.write(key, value, BPF_EXIST))
    }

    fn write(&self, key: &[u8], value: &[u8], flags: u64) -> io::Result<i64> {
        self.check(key.len(), Some(value.len()))?;
        bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, |attr| {
            let element = element_of(attr);
            element.map_fd = number(self.fd.as_fd());
            element.key = key.as_ptr() as u64;
            element.__bindgen_anon_1.value = value.as_ptr() as u64;
            element.flags = flags;
        })
    }

    /// Reads a value into `value`; false: the key is not there.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key.len(), Some(value.len()))?;
        let found = bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, |attr| {
            let element = element_of(attr);
            element.map_fd = number(self.fd.as_fd());
            element.key = key.as_ptr() as u64;
            element.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
        });
        absent_is_false(found)
    }

    /// Deletes a key; false: it was not there.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key.len(), None)?;
        let deleted = bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, |attr| {
            let element = element_of(attr);
            element.map_fd = number(self.fd.as_fd());
            element.key = key.as_ptr() as u64;
        });
        absent_is_false(deleted)
    }

    /// All keys, as they were met; the map may change meanwhile, and keys that do not change are among them.
    pub fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        // A key that vanishes while we walk starts the walk again; twice the entries bound that.
        let bound = (self.shape.entries as usize).saturating_mul(2);
        while keys.len() < bound {
            let mut next = vec![0; self.shape.key as usize];
            let more = bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, |attr| {
                let element = element_of(attr);
                element.map_fd = number(self.fd.as_fd());
                element.key = keys.last().map_or(0, |key| key.as_ptr() as u64);
                element.__bindgen_anon_1.next_key = next.as_mut_ptr() as u64;
            });
            if !absent_is_false(more)? {
                break;
            }
            keys.push(next);
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// Puts maps into an outer array, all in one call and so in one grace period. `first` is the first index.
    pub fn update_inner(&self, first: u32, inner: &[MapFd]) -> io::Result<()> {
        let keys: Vec<u32> = (first..).take(inner.len()).collect();
        let values: Vec<u32> = inner.iter().map(|map| number(map.as_fd())).collect();
        bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, |attr| {
            attr.batch.map_fd = number(self.fd.as_fd());
            attr.batch.keys = keys.as_ptr() as u64;
            attr.batch.values = values.as_ptr() as u64;
            attr.batch.count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        })
        .map(drop)
    }

    /// Bytes that the kernel accounts to the map.
    pub fn memory(&self) -> io::Result<u64> {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.fd.as_raw_fd()))?;
        info.lines()
            .find_map(|line| line.strip_prefix("memlock:"))
            .and_then(|bytes| bytes.trim().parse().ok())
            .ok_or_else(|| io::Error::other("fdinfo of a map has no memlock line"))
    }
}

fn absent_is_false(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many CPUs there can be: per-CPU values have one part for each.
pub(crate) fn possible_cpus() -> io::Result<usize> {
    let list = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = list.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1).ok_or_else(|| io::Error::other(format!("/sys/devices/system/cpu/possible: {list:?}")))
}

/// Waits for the programs that run in the kernel.
///
/// Decision: by putting a map into an array of maps, which returns only after a grace period (the kernel promises that to
/// whoever changes such a map, since 5.0), not by membarrier(2): its global command does nothing where one CPU is online,
/// although a program that was preempted there may still be reading, and is refused under `nohz_full`.
#[derive(Debug)]
pub(crate) struct Readers {
    outer: MapFd,
    inner: MapFd,
}

impl Readers {
    pub fn new() -> io::Result<Self> {
        let inner = MapFd::create_single("palisade_inner", 4)?;
        let outer = MapFd::create("palisade_wait", |create| {
            create.map_type = bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS as u32;
            create.value_size = 4;
            create.inner_map_fd = number(inner.as_fd());
        })?;
        Ok(Self { outer, inner })
    }

    /// Returns when every program that was running has ended: what was unpublished before is no longer read.
    pub fn wait(&self) -> io::Result<()> {
        self.outer.update(&0u32.to_ne_bytes(), &number(self.inner.as_fd()).to_ne_bytes())
    }
}

/// A shared mapping of a map that was made mappable.
#[derive(Debug)]
pub(crate) struct Mapping {
    address: *mut libc::c_void,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it; it may be unmapped by any.
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` only gives an address away. Those that read and write there are `SlotTable`, `MountTable`, `ObservationMap` and
// `Attendance`, by atomics alone.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub fn new(map: &MapFd, bytes: usize) -> io::Result<Self> {
        // SAFETY: without MAP_FIXED the kernel chooses a place where nothing is; the failure value is told from an address below.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd.as_raw_fd(),
                0,
            )
        };
        if address == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { address, bytes }) }
    }

    /// First byte; the mapping is page-aligned and lives as long as `self`.
    pub fn as_ptr(&self) -> *mut u8 {
        self.address.cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range that mmap gave, unmapped once; the references that its owner makes into it borrow the owner, so that
        // none is left.
        unsafe { libc::munmap(self.address, self.bytes) };
    }
}

/// Waits for events on the descriptors; `None` waits for ever. Returns the events of each.
pub(crate) fn poll<const N: usize>(
    fds: [(BorrowedFd<'_>, libc::c_short); N],
    timeout_ms: Option<u32>,
) -> io::Result<[libc::c_short; N]> {
    let mut raw = fds.map(|(fd, events)| libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 });
    let timeout = timeout_ms.map_or(-1, |ms| libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX));
    // SAFETY: `raw` has N entries, as the count says, is ours alone over the call, and the kernel writes only their `revents`.
    if unsafe { libc::poll(raw.as_mut_ptr(), N as libc::nfds_t, timeout) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(raw.map(|entry| entry.revents))
}

/// A descriptor that polls readable when the process has ended.
pub(crate) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers; a result that is no descriptor is told from one below.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))?;
    // SAFETY: the call has just made it, and nobody else knows the number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Since the machine was started, time asleep included: the clock of records.
pub(crate) fn boot_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which `time` is and which lives over the call; this clock is there since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    std::time::Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Mounts a pseudo file system.
pub(crate) fn mount(kind: &str, target: &Path) -> io::Result<()> {
    let source = CString::new(kind).map_err(io::Error::other)?;
    let target = CString::new(target.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: `source` and `target` end with NUL and live over the call; pseudo file systems take no data, which may be null.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), source.as_ptr(), 0, std::ptr::null()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives the calling thread its own root and working directory, which joining a mount namespace needs.
pub(crate) fn unshare_directories() -> io::Result<()> {
    // SAFETY: takes a number. It gives this thread its own root and working directory; no memory is unshared by this flag.
    if unsafe { libc::unshare(libc::CLONE_FS) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves the calling thread into a mount namespace.
pub(crate) fn join_mount_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed, so open. Only this thread's view of mounts changes, and memory does not depend on it.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) } < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Opens a place without opening its file; symbolic links at the end are not followed.
pub(crate) fn open_place(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: `path` ends with NUL and lives over the call; without O_CREAT no mode is read.
    let fd = unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { owned(i64::from(fd)) }
}

/// The CPU that the calling thread is on at this moment.
pub(crate) fn current_cpu() -> io::Result<usize> {
    // SAFETY: takes nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).map_err(|_| io::Error::last_os_error())
}

/// Keeps the calling thread on one CPU.
pub(crate) fn stay_on(cpu: usize) -> io::Result<()> {
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::Error::other(format!("CPU {cpu} is in no set")));
    }
    // SAFETY: a set of CPUs is plain bits, for which all zeroes are a value, and has this one; the pointer is to a value of this frame,
    // whose size is passed.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The calling thread's id.
pub(crate) fn thread_id() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }.unsigned_abs()
}

/// A detached copy of the mount that `place` is on, its root where `place` is: it keeps dentry and file system, not the mount.
pub(crate) fn copy_mount(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    // SAFETY: the descriptor is borrowed, so open; the path is a literal that ends with NUL; the third argument is a number.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) };
    if fd < 0 { Err(io::Error::last_os_error()) } else { owned(fd) }
}

/// Marks one file for permission events on open and gives the mark up at once.
pub(crate) fn try_permission_mark(file: &fs::File) -> io::Result<()> {
    // SAFETY: takes two numbers; a negative result is told from a descriptor below.
    let group =
        unsafe { libc::fanotify_init(libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC, libc::O_RDONLY.unsigned_abs()) };
    if group < 0 {
        return Err(io::Error::last_os_error());
    }
    let group = owned(i64::from(group))?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(io::Error::other)?;
    // SAFETY: `path` ends with NUL and lives over the call; `group` is open until the end of this function, and takes its mark along.
    let result = unsafe {
        libc::fanotify_mark(group.as_raw_fd(), libc::FAN_MARK_ADD, libc::FAN_OPEN_PERM, libc::AT_FDCWD, path.as_ptr())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps signals from this thread, and from threads that it starts meanwhile, until it is dropped; they wait, and are not lost.
///
/// The verifier gives a program up with EAGAIN when a signal waits for the thread that it runs for. aya tries once more, and then the program
/// counts as refused: a node that is told to reload while it starts would decide without it.
#[derive(Debug)]
pub(crate) struct SignalsHeld {
    before: libc::sigset_t,
    /// A mask is a thread's.
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl SignalsHeld {
    pub fn new() -> Self {
        // SAFETY: a set of signals is plain bits, for which all zeroes are a value; both pointers are to values of this frame.
        let before = unsafe {
            let (mut all, mut before) = (std::mem::zeroed::<libc::sigset_t>(), std::mem::zeroed::<libc::sigset_t>());
            libc::sigfillset(&raw mut all);
            // Fails for a wrong first argument only.
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
            before
        };
        Self { before, _of_this_thread: std::marker::PhantomData }
    }
}

/// A node that starts was told to stop (SIGTERM, SIGINT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("told to stop while it starts")]
pub struct ToldToStop;

impl SignalsHeld {
    /// Between two steps: loading goes on unless a signal that stops the node waits.
    ///
    /// # Errors
    /// One does.
    pub fn go_on(&self) -> Result<(), ToldToStop> {
        // SAFETY: a set of signals is plain bits, for which all zeroes are a value; the pointers are to values of this frame.
        let stops = unsafe {
            let mut waiting = std::mem::zeroed::<libc::sigset_t>();
            libc::sigpending(&raw mut waiting) == 0
                && [libc::SIGTERM, libc::SIGINT]
                    .iter()
                    .any(|signal| libc::sigismember(&raw const waiting, *signal) == 1)
        };
        if stops { Err(ToldToStop) } else { Ok(()) }
    }
}

impl Drop for SignalsHeld {
    fn drop(&mut self) {
        // SAFETY: the pointer is to the set that `new` was given by the kernel; the type is not `Send`, so this is the same thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
    }
}

/// A file without a name, gone with its last descriptor; programs that are executed do not have it.
pub(crate) fn nameless_file(name: &std::ffi::CStr) -> io::Result<std::fs::File> {
    // SAFETY: the name is a text with a NUL at its end, and is only read.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel gave it a moment ago, and nobody else has it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(descriptor) })
}

//! The notification group: marks, events, and the guard that answers each of them.
//!
//! Invariant: every permission event that is read gets exactly one answer. [`PendingEvent`] owns the event's descriptor, and
//! its `Drop` writes the answer, so that no early return and no panic can leave a process waiting.
//!
//! Decisions:
//! - Descriptors of events are opened with `O_NONBLOCK`: otherwise a file under a write lease would hold the responder until
//!   the lease breaks (45 s by default). Such an open is refused by the kernel itself, on the opener's side.
//! - Thread ids, not process ids (`FAN_REPORT_TID`): the steps of one exec are recognised by the thread that makes them.
//! - An unlimited queue: a bounded one would *allow* on overflow. What waits in it is bounded by the threads that wait.

use std::{
    io,
    mem::{ManuallyDrop, size_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

/// Opens and execs, of directories too.
const MASK: u64 = libc::FAN_OPEN_PERM | libc::FAN_OPEN_EXEC_PERM | libc::FAN_ONDIR;
const EVENT_BYTES: usize = size_of::<libc::fanotify_event_metadata>();

/// What a process is asked to be permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Open for anything but execution; also the second event of each open for execution.
    Open,
    /// Open for execution.
    Exec,
}

/// Permit or refuse; what `FAN_ALLOW` and `FAN_DENY` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It happens.
    Permit,
    /// The call returns `EPERM`.
    Refuse,
}

/// A notification group.
#[derive(Debug)]
pub(super) struct Group {
    fd: OwnedFd,
}

impl Group {
    /// A new group without marks.
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_UNLIMITED_MARKS
            | libc::FAN_REPORT_TID;
        let event_flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE | libc::O_NOATIME | libc::O_NONBLOCK;
        // SAFETY: takes two numbers; a negative result is told from a descriptor below.
        let fd = unsafe { libc::fanotify_init(flags, event_flags.unsigned_abs()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above made the descriptor, it is not negative, and its number goes nowhere else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Watches the whole file system that `place` (an `O_PATH` descriptor will do) is on.
    pub(super) fn mark(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        self.change(libc::FAN_MARK_ADD, place)
    }

    /// Ends what [`Group::mark`] began.
    pub(super) fn unmark(&self, place: BorrowedFd<'_>) -> io::Result<()> {
        self.change(libc::FAN_MARK_REMOVE, place)
    }

    fn change(&self, action: libc::c_uint, place: BorrowedFd<'_>) -> io::Result<()> {
        // By name, not by descriptor: fanotify_mark(2) refuses O_PATH descriptors, and a readable one would have been an open.
        let name = std::ffi::CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        let flags = action | libc::FAN_MARK_FILESYSTEM;
        // SAFETY: `name` ends with NUL and lives over the call; the group is open as long as `self`.
        let result = unsafe { libc::fanotify_mark(self.fd.as_raw_fd(), flags, MASK, libc::AT_FDCWD, name.as_ptr()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads what waits. `WouldBlock`: nothing does, or the kernel refused an event whose file could not be opened.
    pub(super) fn read(&self, events: &mut Events) -> io::Result<()> {
        events.used = 0;
        let space = &mut events.bytes.0;
        // SAFETY: `space` is borrowed mutably and as long as the length that is passed; the bytes that the kernel writes are events, and
        // any bytes are values of an array of u8.
        let result = unsafe { libc::read(self.fd.as_raw_fd(), space.as_mut_ptr().cast(), space.len()) };
        events.used = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn answer(&self, number: RawFd, answer: Answer) {
        let response = match answer {
            Answer::Permit => libc::FAN_ALLOW,
            Answer::Refuse => libc::FAN_DENY,
        };
        let message = libc::fanotify_response { fd: number, response };
        // SAFETY: `message` is of two integers without padding, so that all bytes that the kernel copies are initialised, and lives over
        // the call. The write fails only if nobody waits any more.
        unsafe { libc::write(self.fd.as_raw_fd(), (&raw const message).cast(), size_of::<libc::fanotify_response>()) };
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[derive(Debug)]
#[repr(C, align(8))]
struct EventSpace([u8; 64 * EVENT_BYTES]);

/// Room for one reading: 64 events, since each holds a descriptor and makes others wait.
#[derive(Debug)]
pub(super) struct Events {
    bytes: Box<EventSpace>,
    used: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { bytes: Box::new(EventSpace([0; 64 * EVENT_BYTES])), used: 0 }
    }
}

impl Events {
    /// Takes the events out; each must be answered, which dropping it does.
    pub(super) fn drain<'g>(&mut self, group: &'g Group) -> impl Iterator<Item = PendingEvent<'g>> {
        let used = std::mem::take(&mut self.used);
        let bytes = &self.bytes.0[..used];
        let mut at = 0;
        std::iter::from_fn(move || {
            while let Some(chunk) = bytes.get(at..at + EVENT_BYTES) {
                // SAFETY: `chunk` has as many bytes as the struct, which is of integers: any bytes are a value. `read_unaligned` wants no
                // alignment of them.
                let raw = unsafe { chunk.as_ptr().cast::<libc::fanotify_event_metadata>().read_unaligned() };
                at += (raw.event_len as usize).max(EVENT_BYTES);
                if raw.fd >= 0 {
                    // SAFETY: the kernel made the descriptor for this reading and told nobody else. It is taken out once: `used` was
                    // zeroed, so that a second `drain` finds nothing.
                    let fd = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(raw.fd) });
                    let act = if raw.mask & libc::FAN_OPEN_EXEC_PERM != 0 { Act::Exec } else { Act::Open };
                    let tid = raw.pid.unsigned_abs();
                    return Some(PendingEvent { group, fd, act, tid, answer: Answer::Permit });
                }
            }
            None
        })
    }
}

/// A process that waits. Answered when dropped, with what [`PendingEvent::set`] said last; permitted where nothing was said.
///
/// The descriptor is closed *before* the answer, so that the process never finds its file open in another one (a lease would
/// be refused, an unmount would fail). The answer names only the number, which no other event can have meanwhile: events are
/// read by the thread that answers them.
#[derive(Debug)]
pub(super) struct PendingEvent<'g> {
    group: &'g Group,
    fd: ManuallyDrop<OwnedFd>,
    act: Act,
    tid: u32,
    answer: Answer,
}

impl PendingEvent<'_> {
    /// What is asked.
    pub(super) fn act(&self) -> Act {
        self.act
    }

    /// The thread that waits; 0 where it is outside this PID namespace.
    pub(super) fn tid(&self) -> u32 {
        self.tid
    }

    /// The file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether the answer, as it stands, is a refusal.
    pub(super) fn is_refused(&self) -> bool {
        self.answer == Answer::Refuse
    }

    /// What the answer will be, unless said otherwise before the drop.
    pub(super) fn set(&mut self, answer: Answer) {
        self.answer = answer;
    }
}

impl Drop for PendingEvent<'_> {
    fn drop(&mut self) {
        let number = self.fd.as_raw_fd();
        // SAFETY: this is the only place that drops it, `drop` runs once, and what follows uses the number alone.
        unsafe { ManuallyDrop::drop(&mut self.fd) };
        self.group.answer(number, self.answer);
    }
}

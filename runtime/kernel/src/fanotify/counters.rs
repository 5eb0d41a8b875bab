//! Numbers that the responder writes and the node reads: one page that both have mapped.
//!
//! Shared memory, not messages: the account of what was produced and lost is exact even when the responder is killed in the
//! middle of a burst, and reading it waits for nobody. Each field has one writer; all only grow.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering},
};

use super::sys;

/// The page.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Page {
    /// Events read.
    pub taken: AtomicU64,
    /// Events answered.
    pub answered: AtomicU64,
    /// Answers that were refusals.
    pub refused: AtomicU64,
    /// Records that took a number.
    pub produced: AtomicU64,
    /// Of these, exec records for which the socket had no room.
    pub lost_exec: AtomicU64,
    /// Of these, open records for which the socket had no room.
    pub lost_open: AtomicU64,
    /// Decisions that panicked and were answered by the fail mode.
    pub panics: AtomicU64,
    /// Acts answered by the fail mode because the file has no known name.
    pub unnamed: AtomicU64,
    /// Events that the kernel refused itself, since the file could not be opened for the responder.
    pub unreadable: AtomicU64,
}

/// A mapping of the page.
#[derive(Debug)]
pub(super) struct Counters {
    page: NonNull<Page>,
    memory: OwnedFd,
}

// SAFETY: the mapping belongs to the process, and is unmapped by whichever thread drops the value.
unsafe impl Send for Counters {}
// SAFETY: what `&Counters` leads to are atomics (and a descriptor), which any number of threads and the other process may use.
unsafe impl Sync for Counters {}

impl Counters {
    /// A new page of zeros.
    pub(super) fn new() -> io::Result<Self> {
        Self::map(sys::memfd(c"palisade-responder-counters", &[0; size_of::<Page>()])?)
    }

    /// The page behind a descriptor that [`Counters::memory`] gave.
    pub(super) fn map(memory: OwnedFd) -> io::Result<Self> {
        if sys::status_of(memory.as_fd())?.size < size_of::<Page>() as u64 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without MAP_FIXED the kernel chooses a place where nothing is. The file is as long as the page (checked above) and
        // nobody of the two processes that have it makes it shorter, so that touching it does not fault.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), size_of::<Page>(), protection, libc::MAP_SHARED, memory.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(address.cast::<Page>()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { page, memory })
    }

    /// The descriptor for the other side.
    pub(super) fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// The page.
    pub(super) fn page(&self) -> &Page {
        // SAFETY: mapped with the size of `Page` until the drop of `self`, which the reference borrows; aligned to a page of memory;
        // atomics of any bits are values, and both processes change them by atomic instructions only.
        unsafe { self.page.as_ref() }
    }
}

impl Drop for Counters {
    fn drop(&mut self) {
        // SAFETY: the range that `map` made, unmapped once; `page()` borrows `self`, so that no reference into it is left.
        unsafe { libc::munmap(self.page.as_ptr().cast(), size_of::<Page>()) };
    }
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The count so far.
pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_two_mappings_show_one_page() {
        let here = Counters::new().expect("memfd");
        let there = Counters::map(here.memory().try_clone_to_owned().expect("a descriptor")).expect("mmap");
        count(&there.page().taken);
        count(&there.page().taken);
        assert_eq!((read(&here.page().taken), read(&here.page().answered)), (2, 0));
        let short = sys::memfd(c"short", b"x").expect("memfd");
        assert!(Counters::map(short).is_err(), "a short file would fault when touched");
    }
}

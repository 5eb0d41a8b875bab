//! System calls by their numbers, by both entries of x86-64.

use std::{ffi::CStr, ptr};

/// A call by the 64-bit entry; returns what the kernel does: a negative errno where it failed.
pub fn call(number: i64, arguments: [i64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result: i64;
    // SAFETY: the entry takes its numbers in these registers and clobbers rcx and r11. The callers pass numbers, and addresses of
    // things that live over the call and are as large as the call wants them; none of the calls changes what Rust relies on.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// A call by the 32-bit entry, where its number is of i386; addresses must lie below 4 GiB ([`low`]).
pub fn call_32(number: u32, arguments: [u32; 5]) -> i32 {
    let [a, b, c, d, e] = arguments;
    let result: i32;
    // SAFETY: the entry takes its numbers in the low halves of eax, ebx, ecx, edx, esi and edi and clears r8 to r11, which are
    // declared. rbx, which the compiler keeps for itself, is lent by exchange and given back. What addresses name is the caller's.
    unsafe {
        std::arch::asm!(
            "xchg {a:r}, rbx",
            "int 0x80",
            "xchg {a:r}, rbx",
            a = inout(reg) u64::from(a) => _,
            inlateout("eax") number => result,
            in("ecx") b, in("edx") c, in("esi") d, in("edi") e,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

/// The address of a copy below 4 GiB, which stays for the life of the process.
pub fn low(bytes: &[u8]) -> u32 {
    assert!(bytes.len() <= 4096, "one page is made for it");
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
    // SAFETY: a new mapping at a place of the kernel's choice, below 4 GiB.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    // SAFETY: the page was just mapped writable, nothing else refers to it, and the bytes fit (checked above).
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), page.cast(), bytes.len()) };
    u32::try_from(page.addr()).expect("it was asked for below 4 GiB")
}

/// Words below 4 GiB that forks of this process share with it, for the life of the process.
pub fn shared_low(words: &[u32]) -> u32 {
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
    // SAFETY: a new mapping at a place of the kernel's choice, below 4 GiB.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    let at = u32::try_from(page.addr()).expect("it was asked for below 4 GiB");
    (0_u32..).zip(words).for_each(|(index, word)| write_low(at + 4 * index, *word));
    at
}

/// Writes a word of [`shared_low`].
pub fn write_low(at: u32, word: u32) {
    let place = ptr::with_exposed_provenance_mut::<u32>(at as usize);
    // SAFETY: the callers name a word of a page that `shared_low` mapped for good; it is aligned, and who else writes it is another
    // process or the kernel, which the volatile access is for.
    unsafe { place.write_volatile(word) }
}

/// A string's address as a call takes it.
pub fn text(string: &CStr) -> i64 {
    string.as_ptr().addr().cast_signed() as i64
}

/// The address of bytes as a call takes it.
pub fn bytes(bytes: &[u8]) -> i64 {
    bytes.as_ptr().addr().cast_signed() as i64
}

/// A ring of io_uring with room for a few requests, mapped as the kernel lays it out.
pub struct Ring {
    descriptor: i64,
    queue: *mut u8,
    entries: *mut u8,
    parameters: [u32; 30],
}

impl Ring {
    /// `Err`: the kernel's errno, negative.
    pub fn set_up() -> Result<Self, i64> {
        let mut parameters = [0_u32; 30]; // struct io_uring_params: 120 bytes
        let descriptor = call(425, [4, parameters.as_mut_ptr().addr().cast_signed() as i64, 0, 0, 0, 0]);
        if descriptor < 0 {
            return Err(descriptor);
        }
        let map = |bytes: usize, offset: i64| {
            let file = i32::try_from(descriptor).expect("a descriptor");
            // SAFETY: the kernel shows the ring's own memory at a place of its choice; it is unmapped with the process.
            let at = unsafe {
                libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file, offset)
            };
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>()
        };
        Ok(Self { descriptor, queue: map(4096, 0), entries: map(4096, 0x1000_0000), parameters })
    }

    /// Submits one request of 64 bytes and waits for it; returns what the kernel says of the submission.
    pub fn submit(&mut self, request: &[u8; 64]) -> i64 {
        // io_uring_params.sq_off: head, tail, ring_mask, ring_entries, flags, dropped, array
        let (tail, array) = (self.parameters[11] as usize, self.parameters[16] as usize);
        // SAFETY: the offsets are the kernel's own, within the mapping of a page that this ring of 4 entries fits into; nobody else
        // writes there between the calls.
        unsafe {
            ptr::copy_nonoverlapping(request.as_ptr(), self.entries, 64);
            self.queue.add(array).cast::<u32>().write(0);
            let tail = self.queue.add(tail).cast::<u32>();
            tail.write(tail.read().wrapping_add(1));
        }
        call(426, [self.descriptor, 1, 1, 1, 0, 0])
    }
}

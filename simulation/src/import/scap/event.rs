//! One event of a capture.
//!
//! | bytes | event |
//! |---|---|
//! | 0..8 | wall clock, nanoseconds since 1970 |
//! | 8..16 | thread, in the first PID namespace |
//! | 16..20 | length, with this head |
//! | 20..22 | type; even where a call is entered, odd where it returns |
//! | 22..26 | how many parameters |
//! | 26.. | their lengths, two bytes each (four in the blocks of large events), then the parameters |
//!
//! A type's parameters only ever get more at the end; where one would have changed, the type has a new number. So what is read here by its place is
//! right whichever version wrote it.
//!
//! Invariant: every parameter's bounds were checked before it is given out.

const HEAD: usize = 26;
/// More than any type has: 32.
const MAX_PARAMETERS: u32 = 64;

/// Type numbers of `ppm_events_public.h`; of calls, where they are entered is one less than where they return.
pub mod kind {
    pub const OPEN: u16 = 3;
    pub const SOCKET: u16 = 19;
    pub const BIND: u16 = 21;
    pub const CONNECT: u16 = 23;
    pub const CREAT: u16 = 59;
    pub const CLOSE: u16 = 5;
    pub const CHDIR: u16 = 95;
    pub const FCHDIR: u16 = 97;
    pub const DUP: u16 = 125;
    pub const OPENAT_OLD: u16 = 103;
    pub const DROP_BEGIN: u16 = 148;
    pub const DROP_END: u16 = 149;
    pub const PTRACE: u16 = 169;
    pub const RENAME: u16 = 175;
    pub const RENAMEAT: u16 = 177;
    pub const PROCESS_EXIT: u16 = 186;
    pub const SETRESUID: u16 = 193;
    pub const SETUID: u16 = 199;
    pub const CLONE: u16 = 223;
    pub const FORK: u16 = 225;
    pub const VFORK: u16 = 227;
    pub const CONTAINER_JSON: u16 = 272;
    pub const MKDIR: u16 = 277;
    pub const RMDIR: u16 = 279;
    pub const EXECVE_17: u16 = 283;
    pub const EXECVE_18: u16 = 289;
    pub const EXECVE: u16 = 293;
    pub const UNLINK: u16 = 301;
    pub const UNLINKAT: u16 = 303;
    pub const MKDIRAT: u16 = 305;
    pub const OPENAT: u16 = 307;
    pub const LINK: u16 = 309;
    pub const LINKAT: u16 = 311;
    pub const FCHMODAT: u16 = 313;
    pub const CHMOD: u16 = 315;
    pub const RENAMEAT2: u16 = 319;
    pub const CONTAINER_JSON_LARGE: u16 = 324;
    pub const OPENAT2: u16 = 327;
    pub const EXECVEAT: u16 = 331;
    pub const CLONE3: u16 = 335;
}

/// What each two types are called, for those that become no record.
const NAMES: &str = "syscall open close read write brk execve clone procexit socket bind connect listen accept send sendto recv recvfrom shutdown \
    getsockname getpeername socketpair setsockopt getsockopt sendmsg sendmmsg recvmsg recvmmsg accept creat pipe eventfd futex stat lstat fstat stat64 \
    lstat64 fstat64 epoll_wait poll select select lseek llseek ioctl getcwd chdir fchdir mkdir rmdir openat link linkat unlink unlinkat pread pwrite \
    readv writev preadv pwritev dup signalfd kill tkill tgkill nanosleep timerfd_create inotify_init getrlimit setrlimit prlimit switch drop fcntl \
    switch execve clone brk mmap mmap2 munmap splice ptrace ioctl execve rename renameat symlink symlinkat fork vfork procexit sendfile quotactl \
    setresuid setresgid sysdigevent setuid setgid getuid geteuid getgid getegid getresuid getresgid execve clone fork vfork clone fork vfork container \
    execve signaldeliver procinfo getdents getdents64 setns flock cpu_hotplug accept accept semop semctl ppoll mount umount k8s semget access chroot \
    tracer mesos container setsid mkdir rmdir notification execve unshare infra execve page_fault execve setpgid bpf seccomp unlink unlinkat mkdirat \
    openat link linkat fchmodat chmod fchmod renameat2 userfaultfd pluginevent container openat2 mprotect execveat copy_file_range clone3";

/// What a type is called.
#[must_use]
pub fn name(kind: u16) -> String {
    let name = NAMES.split_whitespace().nth(usize::from(kind / 2));
    match (kind / 2, name) {
        // One type for all calls that have none of their own.
        (0, _) => "calls without a type".to_owned(),
        (_, Some(name)) => name.to_owned(),
        (_, None) => format!("type {kind}"),
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub unix_ns: u64,
    /// `u64::MAX` where the capturing program tells it itself.
    pub tid: u64,
    pub kind: u16,
    lengths: &'a [u8],
    /// Bytes of one length.
    width: usize,
    data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Of a block's content behind the CPU's number and, in blocks that have them, flags; none where it is damaged.
    #[must_use]
    pub fn read(bytes: &'a [u8], is_large: bool) -> Option<Self> {
        let head: &[u8; HEAD] = bytes.first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*head[16..].first_chunk()?)).ok()?;
        let count = u32::from_le_bytes(*head[22..].first_chunk()?);
        if count > MAX_PARAMETERS {
            return None;
        }
        let width = if is_large { 4 } else { 2 };
        let (lengths, data) = bytes.get(HEAD..length)?.split_at_checked(width * usize::try_from(count).ok()?)?;
        let event = Self {
            unix_ns: u64::from_le_bytes(*head.first_chunk()?),
            tid: u64::from_le_bytes(*head[8..].first_chunk()?),
            kind: u16::from_le_bytes(*head[20..].first_chunk()?),
            lengths,
            width,
            data,
        };
        let end = event.begin_of(event.count())?;
        (end <= data.len()).then_some(event)
    }

    /// How many parameters it has.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.lengths.len() / self.width
    }

    fn length_of(&self, index: usize) -> Option<usize> {
        let bytes = self.lengths.get(index * self.width..(index + 1) * self.width)?;
        bytes.iter().rev().try_fold(0_usize, |length, byte| Some(length.checked_mul(256)? + usize::from(*byte)))
    }

    fn begin_of(&self, index: usize) -> Option<usize> {
        (0..index).try_fold(0_usize, |begin, before| begin.checked_add(self.length_of(before)?))
    }

    /// A parameter's bytes.
    #[must_use]
    pub fn bytes(&self, index: usize) -> Option<&'a [u8]> {
        let begin = self.begin_of(index)?;
        self.data.get(begin..begin + self.length_of(index)?)
    }

    /// A text without the NUL at its end; none where it could not be read from the process.
    #[must_use]
    pub fn text(&self, index: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes(index)?;
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
        (bytes != b"<NA>").then_some(bytes)
    }

    /// A number of eight bytes.
    #[must_use]
    pub fn signed(&self, index: usize) -> Option<i64> {
        self.bytes(index)?.try_into().ok().map(i64::from_le_bytes)
    }

    /// A number of eight bytes that is a process or a thread.
    #[must_use]
    pub fn pid(&self, index: usize) -> Option<u32> {
        u32::try_from(self.signed(index)?).ok()
    }

    /// What a call returned, or a descriptor: eight bytes of which four are used.
    #[must_use]
    pub fn result(&self, index: usize) -> Option<i32> {
        i32::try_from(self.signed(index)?).ok()
    }

    /// A number of four bytes.
    #[must_use]
    pub fn u32(&self, index: usize) -> Option<u32> {
        self.bytes(index)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A number of two bytes.
    #[must_use]
    pub fn u16(&self, index: usize) -> Option<u16> {
        self.bytes(index)?.try_into().ok().map(u16::from_le_bytes)
    }
}

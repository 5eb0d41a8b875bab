//! Flags of calls on files and mounts.
//!
//! Flags that differ between machines (`O_*`) are x86-64's and arm64's.

use super::bits;

/// `asm-generic/fcntl.h`, and arm64's and x86's `asm/fcntl.h` where they differ: `O_*`. O_SYNC holds O_DSYNC, O_TMPFILE holds O_DIRECTORY.
#[must_use]
pub fn open_flags(flags: u32) -> String {
    const ARM: bool = cfg!(target_arch = "aarch64");
    const DIRECT: u64 = if ARM { 0o200_000 } else { 0o40_000 };
    const LARGEFILE: u64 = if ARM { 0o400_000 } else { 0o100_000 };
    const DIRECTORY: u64 = if ARM { 0o40_000 } else { 0o200_000 };
    const NOFOLLOW: u64 = if ARM { 0o100_000 } else { 0o400_000 };
    const NAMES: [(u64, &str); 16] = [
        (0o100, "O_CREAT"),
        (0o200, "O_EXCL"),
        (0o400, "O_NOCTTY"),
        (0o1000, "O_TRUNC"),
        (0o2000, "O_APPEND"),
        (0o4000, "O_NONBLOCK"),
        (0o4_010_000, "O_SYNC"),
        (0o10_000, "O_DSYNC"),
        (0o20_000, "O_ASYNC"),
        (DIRECT, "O_DIRECT"),
        (LARGEFILE, "O_LARGEFILE"),
        (0o20_000_000 | DIRECTORY, "O_TMPFILE"),
        (DIRECTORY, "O_DIRECTORY"),
        (NOFOLLOW, "O_NOFOLLOW"),
        (0o1_000_000, "O_NOATIME"),
        (0o2_000_000, "O_CLOEXEC"),
    ];
    let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(flags & 3) as usize];
    let rest = u64::from(flags & !3);
    if rest & 0o10_000_000 != 0 {
        // O_PATH ignores the access mode.
        return format!("O_PATH|{}", bits(rest & !0o10_000_000, &NAMES)).trim_end_matches("|0").to_owned();
    }
    if rest == 0 { access.to_owned() } else { format!("{access}|{}", bits(rest, &NAMES)) }
}

/// `linux/mount.h`, `MS_*` and of umount2 `MNT_*`.
#[must_use]
pub fn mount_flags(flags: u64, umount: bool) -> String {
    const UMOUNT: [(u64, &str); 4] = [(1, "MNT_FORCE"), (2, "MNT_DETACH"), (4, "MNT_EXPIRE"), (8, "UMOUNT_NOFOLLOW")];
    const MOUNT: [(u64, &str); 21] = [
        (1, "MS_RDONLY"),
        (2, "MS_NOSUID"),
        (4, "MS_NODEV"),
        (8, "MS_NOEXEC"),
        (16, "MS_SYNCHRONOUS"),
        (32, "MS_REMOUNT"),
        (64, "MS_MANDLOCK"),
        (128, "MS_DIRSYNC"),
        (256, "MS_NOSYMFOLLOW"),
        (1024, "MS_NOATIME"),
        (2048, "MS_NODIRATIME"),
        (4096, "MS_BIND"),
        (8192, "MS_MOVE"),
        (16384, "MS_REC"),
        (32768, "MS_SILENT"),
        (1 << 16, "MS_POSIXACL"),
        (1 << 17, "MS_UNBINDABLE"),
        (1 << 18, "MS_PRIVATE"),
        (1 << 19, "MS_SLAVE"),
        (1 << 20, "MS_SHARED"),
        (1 << 21, "MS_RELATIME"),
    ];
    bits(flags, if umount { &UMOUNT } else { &MOUNT })
}

/// `linux/memfd.h`, `MFD_*`.
#[must_use]
pub fn memfd_flags(flags: u32) -> String {
    const NAMES: [(u64, &str); 5] =
        [(1, "MFD_CLOEXEC"), (2, "MFD_ALLOW_SEALING"), (4, "MFD_HUGETLB"), (8, "MFD_NOEXEC_SEAL"), (16, "MFD_EXEC")];
    bits(u64::from(flags), &NAMES)
}

/// `linux/fcntl.h`, `AT_*` of the calls that change names and modes.
#[must_use]
pub fn at_flags(flags: u32) -> String {
    const NAMES: [(u64, &str); 4] = [
        (0x100, "AT_SYMLINK_NOFOLLOW"),
        (0x200, "AT_REMOVEDIR"),
        (0x400, "AT_SYMLINK_FOLLOW"),
        (0x1000, "AT_EMPTY_PATH"),
    ];
    bits(u64::from(flags), &NAMES)
}

/// `linux/fs.h`, `RENAME_*`.
#[must_use]
pub fn rename_flags(flags: u32) -> String {
    const NAMES: [(u64, &str); 3] = [(1, "RENAME_NOREPLACE"), (2, "RENAME_EXCHANGE"), (4, "RENAME_WHITEOUT")];
    bits(u64::from(flags), &NAMES)
}

//! The kinds of act, and their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the kinds with the names that lines and filters know them by.
macro_rules! operations {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)+) => {
        /// The kinds of act.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Operation {
            $($(#[$meta])* #[serde(rename = $name)] $variant,)+
        }

        impl Operation {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As lines and filters name it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

operations! {
    /// A file was executed.
    Exec = "exec",
    /// A file was opened.
    Open = "open",
    /// An open made a file.
    Create = "create",
    /// A name was taken away.
    Unlink = "unlink",
    /// A directory was taken away.
    Rmdir = "rmdir",
    /// A name became another.
    Rename = "rename",
    /// A file got one more name.
    Link = "link",
    /// A symbolic link was made.
    Symlink = "symlink",
    /// A directory was made.
    Mkdir = "mkdir",
    /// A device, FIFO or socket was made.
    Mknod = "mknod",
    /// A mode was changed.
    Chmod = "chmod",
    /// An owner was changed.
    Chown = "chown",
    /// A file was cut or grown.
    Truncate = "truncate",
    /// An extended attribute was set.
    SetXattr = "setxattr",
    /// An extended attribute was taken away.
    RemoveXattr = "removexattr",
    /// A file was written through a descriptor that no open was judged for.
    Write = "write",
    /// A file was mapped shared and writable.
    MapWrite = "map-write",
    /// A socket was created.
    Socket = "socket",
    /// A destination was asked for.
    Connect = "connect",
    /// A socket got an address of its own.
    Bind = "bind",
    /// A socket listens.
    Listen = "listen",
    /// A connection was accepted.
    Accept = "accept",
    /// A datagram was sent to an address of its own.
    Send = "send",
    /// A name was asked for.
    DnsQuestion = "dns-question",
    /// A name was answered.
    DnsAnswer = "dns-answer",
    /// A process was traced.
    Ptrace = "ptrace",
    /// A file system was mounted, or a mount changed.
    Mount = "mount",
    /// A file system was unmounted.
    Umount = "umount",
    /// The root mount was exchanged.
    PivotRoot = "pivot-root",
    /// A mount was moved.
    MoveMount = "move-mount",
    /// A mount was taken as a descriptor.
    OpenTree = "open-tree",
    /// A file system was about to be made.
    Fsopen = "fsopen",
    /// A file system to come was configured.
    Fsconfig = "fsconfig",
    /// A mount was made of a file system.
    Fsmount = "fsmount",
    /// A file system was about to be changed.
    Fspick = "fspick",
    /// A mount's properties were changed.
    MountSetattr = "mount-setattr",
    /// A root directory was changed.
    Chroot = "chroot",
    /// The user was changed.
    Setuid = "setuid",
    /// The group was changed.
    Setgid = "setgid",
    /// The groups were changed.
    Setgroups = "setgroups",
    /// Capabilities were set.
    Capset = "capset",
    /// A signal was sent.
    Kill = "kill",
    /// A kernel module was loaded.
    ModuleLoad = "module-load",
    /// A kernel module was taken away.
    ModuleUnload = "module-unload",
    /// A kernel was loaded to be started.
    Kexec = "kexec",
    /// bpf(2) was called.
    Bpf = "bpf",
    /// New namespaces were made.
    Unshare = "unshare",
    /// A namespace was entered.
    Setns = "setns",
    /// A file without a name was made.
    Memfd = "memfd",
    /// A ring was set up.
    IoUringSetup = "io-uring-setup",
    /// Something was registered with a ring.
    IoUringRegister = "io-uring-register",
    /// A request was submitted to a ring.
    IoUringSubmit = "io-uring-submit",
    /// Another process' memory was read.
    ProcessRead = "process-read",
    /// Another process' memory was written.
    ProcessWrite = "process-write",
    /// A capability was asked for.
    Capable = "capable",
    /// A USB device came.
    UsbDevice = "usb-device",
    /// Any other system call.
    Syscall = "syscall",
    /// So many acts equal to one that was told were not.
    Repeated = "repeated",
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

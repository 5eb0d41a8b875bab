//! Bodies of the acts that are not in a process's life, an open, a connection or a trace: see `bpf/include/record.h` for each
//! field's source, kernel object or user memory.

use std::{
    mem::{offset_of, size_of},
    net::IpAddr,
};

use super::{
    Kind, Text,
    codec::{Act, Field, coded_fields, fields, flags},
    coded,
    decode::{BodyBytes, RecordError, endpoint},
    layout::{
        BPF_USER, CREDENTIALS_BEFORE, DNS_INCOMPLETE, DNS_NO_TASK, DNS_TRUNCATED, RawBpf, RawCapability,
        RawCredentialSet, RawCredentials, RawDns, RawFileChange, RawFolded, RawIoUring, RawMemfd, RawModule, RawMount,
        RawNamespace, RawProcessAccess, RawSignal, RawSyscall, SYSCALL_COMPAT, SYSCALL_X32,
    },
    writer::{RecordWriter, RecordWriterError},
};

coded! {
    /// `enum pal_file_operation`.
    #[derive(Default)]
    FileOperation: u8 {
        /// An open made the file.
        #[default]
        Create = 0,
        /// `unlink(2)`.
        Unlink = 1,
        /// `rmdir(2)`.
        Rmdir = 2,
        /// `rename(2)`.
        Rename = 3,
        /// `link(2)`.
        Link = 4,
        /// `symlink(2)`.
        Symlink = 5,
        /// `mkdir(2)`.
        Mkdir = 6,
        /// `mknod(2)`.
        Mknod = 7,
        /// `chmod(2)`.
        Chmod = 8,
        /// `chown(2)`.
        Chown = 9,
        /// `truncate(2)`.
        Truncate = 10,
        /// `setxattr(2)`; this and the next three are told with a decision alone.
        SetXattr = 11,
        /// `removexattr(2)`.
        RemoveXattr = 12,
        /// A write through a descriptor that was opened before, or by somebody else.
        Write = 13,
        /// A mapping that is shared and writable.
        MapWrite = 14,
    }
}
coded! {
    /// `enum pal_mount_operation`.
    #[derive(Default)]
    MountOperation: u8 {
        /// `mount(2)`.
        #[default]
        Mount = 0,
        /// `umount(2)`.
        Umount = 1,
        /// `pivot_root(2)`.
        PivotRoot = 2,
        /// `move_mount(2)`.
        MoveMount = 3,
        /// `open_tree(2)`.
        OpenTree = 4,
        /// `fsopen(2)`.
        Fsopen = 5,
        /// `fsconfig(2)`.
        Fsconfig = 6,
        /// `fsmount(2)`.
        Fsmount = 7,
        /// `fspick(2)`.
        Fspick = 8,
        /// `mount_setattr(2)`.
        Setattr = 9,
        /// `chroot(2)`.
        Chroot = 10,
    }
}
coded! {
    /// `enum pal_credentials_operation`: the call of that name.
    #[derive(Default)]
    CredentialsOperation: u8 {
        /// `setuid(2)`.
        #[default]
        Setuid = 0,
        /// `setreuid(2)`.
        Setreuid = 1,
        /// `setresuid(2)`.
        Setresuid = 2,
        /// `setfsuid(2)`.
        Setfsuid = 3,
        /// `setgid(2)`.
        Setgid = 4,
        /// `setregid(2)`.
        Setregid = 5,
        /// `setresgid(2)`.
        Setresgid = 6,
        /// `setfsgid(2)`.
        Setfsgid = 7,
        /// `setgroups(2)`.
        Setgroups = 8,
        /// `capset(2)`.
        Capset = 9,
    }
}
coded! {
    /// `enum pal_module_operation`.
    #[derive(Default)]
    ModuleOperation: u8 {
        /// `init_module(2)`.
        #[default]
        Init = 0,
        /// `finit_module(2)`.
        Finit = 1,
        /// `delete_module(2)`.
        Delete = 2,
        /// The kernel has taken a module; its code is about to run.
        Loaded = 3,
        /// `kexec_load(2)`, `kexec_file_load(2)`.
        Kexec = 4,
    }
}
coded! {
    /// `enum pal_namespace_operation`.
    #[derive(Default)]
    NamespaceOperation: u8 {
        /// `unshare(2)`.
        #[default]
        Unshare = 0,
        /// `setns(2)`.
        Setns = 1,
    }
}
coded! {
    /// `enum pal_io_uring_operation`.
    #[derive(Default)]
    IoUringOperation: u8 {
        /// `io_uring_setup(2)`.
        #[default]
        Setup = 0,
        /// `io_uring_register(2)`.
        Register = 1,
        /// One request of a ring.
        Submit = 2,
    }
}
coded! {
    /// `enum pal_process_access_operation`.
    #[derive(Default)]
    ProcessAccessOperation: u8 {
        /// `process_vm_readv(2)`.
        #[default]
        Read = 0,
        /// `process_vm_writev(2)`.
        Write = 1,
    }
}
coded! {
    /// `enum pal_dns_operation`.
    #[derive(Default)]
    DnsOperation: u8 {
        /// A question left.
        #[default]
        Question = 0,
        /// An answer came.
        Answer = 1,
    }
}
coded_fields!(
    FileOperation: u8,
    MountOperation: u8,
    CredentialsOperation: u8,
    ModuleOperation: u8,
    NamespaceOperation: u8,
    IoUringOperation: u8,
    ProcessAccessOperation: u8,
    DnsOperation: u8,
    Kind: u16,
);

/// `struct pal_record_file_change`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileChange<'a> {
    /// Which change.
    pub operation: FileOperation,
    /// What is changed: as the call named it ([`Text::user`]), or the kernel object.
    pub path: Text<'a>,
    /// Where a relative `path` starts; empty where it is whole.
    pub base: Text<'a>,
    /// The new name of a rename, link or symlink.
    pub new_path: Text<'a>,
    /// Where a relative `new_path` starts.
    pub new_base: Text<'a>,
    /// Length that is asked for, bytes; device number of a mknod.
    pub size: u64,
    /// Mode that is asked for; of a create, and of a rename that was judged, the file's own.
    pub mode: u32,
    /// Owner that is asked for, `u32::MAX` leaves it.
    pub uid: u32,
    /// Group that is asked for, `u32::MAX` leaves it.
    pub gid: u32,
    /// `AT_*` or `RENAME_*`; `O_*` of a create.
    pub flags: u32,
    /// Negative errno; a descriptor for a create.
    pub result: i32,
}
fields!(
    FileChange<'a>,
    RawFileChange,
    [operation, path, base, new_path, new_base, size, mode, uid, gid, flags, result]
);

/// `struct pal_record_mount`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mount<'a> {
    /// Which call.
    pub operation: MountOperation,
    /// Device, directory or new root.
    pub source: Text<'a>,
    /// Where.
    pub target: Text<'a>,
    /// Type of the file system.
    pub filesystem: Text<'a>,
    /// Where a relative target starts.
    pub base: Text<'a>,
    /// As the call took them.
    pub flags: u64,
    /// Descriptor or 0, or negative errno.
    pub result: i32,
}
fields!(Mount<'a>, RawMount, [operation, source, target, filesystem, base, flags, result]);

/// `struct pal_credentials`: all ids are of the initial user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CredentialSet {
    /// Real user.
    pub uid: u32,
    /// Effective user.
    pub euid: u32,
    /// Saved user.
    pub suid: u32,
    /// File-system user.
    pub fsuid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective group.
    pub egid: u32,
    /// Saved group.
    pub sgid: u32,
    /// File-system group.
    pub fsgid: u32,
    /// Bit n: capability n, like the next two.
    pub effective: u64,
    /// What may become effective.
    pub permitted: u64,
    /// What is kept over an exec of a file that has it too.
    pub inheritable: u64,
}
fields!(
    CredentialSet,
    RawCredentialSet,
    [uid, euid, suid, fsuid, gid, egid, sgid, fsgid, effective, permitted, inheritable]
);

/// `struct pal_record_credentials`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credentials {
    /// Which call.
    pub operation: CredentialsOperation,
    /// What the thread had when it was last looked at; absent where it was not.
    pub before: Option<CredentialSet>,
    /// What it has now.
    pub after: CredentialSet,
    /// Negative errno; of setfsuid and setfsgid the id that was.
    pub result: i32,
}

impl<'a> Act<'a> for Credentials {
    const SIZE: usize = size_of::<RawCredentials>();
    fn read(b: BodyBytes<'a>) -> Result<Self, RecordError> {
        let known = u64::from(CREDENTIALS_BEFORE);
        let set = flags("flags", u64::from(b.fields.u8(offset_of!(RawCredentials, flags))), known)?;
        let before = CredentialSet::read(b.at(offset_of!(RawCredentials, before)))?;
        Ok(Self {
            operation: Field::read(b, offset_of!(RawCredentials, operation), "operation")?,
            before: (set != 0).then_some(before),
            after: CredentialSet::read(b.at(offset_of!(RawCredentials, after)))?,
            result: b.fields.i32(offset_of!(RawCredentials, result)),
        })
    }
    fn write(&self, w: &mut RecordWriter, start: usize, body: usize) -> Result<(), RecordWriterError> {
        w.put(body + offset_of!(RawCredentials, operation), [self.operation.code()]);
        w.put(body + offset_of!(RawCredentials, result), self.result.to_ne_bytes());
        if let Some(before) = self.before {
            w.put(body + offset_of!(RawCredentials, flags), [CREDENTIALS_BEFORE]);
            before.write(w, start, body + offset_of!(RawCredentials, before))?;
        }
        self.after.write(w, start, body + offset_of!(RawCredentials, after))
    }
}

/// `struct pal_record_signal`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signal {
    /// Its number.
    pub signal: u32,
    /// 0: it was generated; otherwise the call failed.
    pub result: i32,
    /// The target as the caller named it.
    pub asked: i32,
    /// Target process; 0: not found.
    pub target_tgid: u32,
    /// Target thread.
    pub target_tid: u32,
    /// The target's workload.
    pub target_slot: u32,
    /// Start of the target process, boot-time nanoseconds.
    pub target_start_ns: u64,
}
fields!(Signal, RawSignal, [signal, result, asked, target_tgid, target_tid, target_slot, target_start_ns]);

/// `struct pal_record_module`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Module<'a> {
    /// Which act.
    pub operation: ModuleOperation,
    /// The module's name, where it is known.
    pub name: Text<'a>,
    /// The file that it came from, where it came by a descriptor.
    pub path: Text<'a>,
    /// As the call took them.
    pub flags: u32,
    /// Negative errno.
    pub result: i32,
}
fields!(Module<'a>, RawModule, [operation, name, path, flags, result]);

/// `struct pal_record_bpf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bpf<'a> {
    /// `BPF_*`.
    pub command: u32,
    /// Name of the new program or map.
    pub name: Text<'a>,
    /// Type of the program or map.
    pub object_type: u32,
    /// `object_type` was copied from user memory.
    pub user: bool,
    /// Id of the new program or map; 0: none.
    pub object_id: u32,
    /// Descriptor or number, or negative errno.
    pub result: i32,
}

impl<'a> Act<'a> for Bpf<'a> {
    const SIZE: usize = size_of::<RawBpf>();
    fn read(b: BodyBytes<'a>) -> Result<Self, RecordError> {
        let set = flags("flags", u64::from(b.fields.u32(offset_of!(RawBpf, flags))), u64::from(BPF_USER))?;
        Ok(Self {
            command: b.fields.u32(offset_of!(RawBpf, command)),
            name: b.text("name", offset_of!(RawBpf, name))?,
            object_type: b.fields.u32(offset_of!(RawBpf, object_type)),
            user: set != 0,
            object_id: b.fields.u32(offset_of!(RawBpf, object_id)),
            result: b.fields.i32(offset_of!(RawBpf, result)),
        })
    }
    fn write(&self, w: &mut RecordWriter, start: usize, body: usize) -> Result<(), RecordWriterError> {
        w.put(body + offset_of!(RawBpf, command), self.command.to_ne_bytes());
        w.put(body + offset_of!(RawBpf, object_type), self.object_type.to_ne_bytes());
        w.put(body + offset_of!(RawBpf, object_id), self.object_id.to_ne_bytes());
        w.put(body + offset_of!(RawBpf, flags), if self.user { BPF_USER } else { 0 }.to_ne_bytes());
        w.put(body + offset_of!(RawBpf, result), self.result.to_ne_bytes());
        w.text(start, body + offset_of!(RawBpf, name), "name", &self.name)
    }
}

/// `struct pal_record_namespace`: inode numbers of the namespaces that the task is in after the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Which call.
    pub operation: NamespaceOperation,
    /// `CLONE_NEW*`.
    pub flags: u64,
    /// Negative errno.
    pub result: i32,
    /// Mounts.
    pub mnt: u32,
    /// Process ids, of children to come.
    pub pid_for_children: u32,
    /// Network.
    pub net: u32,
    /// Users.
    pub user: u32,
    /// Host name.
    pub uts: u32,
    /// System V and POSIX message queues.
    pub ipc: u32,
    /// Cgroups.
    pub cgroup: u32,
    /// Clocks.
    pub time: u32,
}
fields!(Namespace, RawNamespace, [operation, flags, result, mnt, pid_for_children, net, user, uts, ipc, cgroup, time]);

/// `struct pal_record_memfd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memfd<'a> {
    /// The file's name.
    pub name: Text<'a>,
    /// `MFD_*`.
    pub flags: u32,
    /// Descriptor, or negative errno.
    pub result: i32,
}
fields!(Memfd<'a>, RawMemfd, [name, flags, result]);

/// `struct pal_record_io_uring`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoUring<'a> {
    /// Which act.
    pub operation: IoUringOperation,
    /// `IORING_OP_*` of a request.
    pub opcode: u8,
    /// The name that a request carries.
    pub path: Text<'a>,
    /// The file that a request is about.
    pub file: Text<'a>,
    /// See the header.
    pub flags: u32,
    /// Descriptor or 0, or negative errno.
    pub result: i32,
    /// Of the request.
    pub descriptor: i32,
}
fields!(IoUring<'a>, RawIoUring, [operation, opcode, path, file, flags, result, descriptor]);

/// `struct pal_record_process_access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessAccess<'a> {
    /// Reading or writing.
    pub operation: ProcessAccessOperation,
    /// The target's executable.
    pub target_exe: Text<'a>,
    /// Bytes, or negative errno.
    pub result: i64,
    /// Start of the target process, boot-time nanoseconds.
    pub target_start_ns: u64,
    /// Target process; 0: not found.
    pub target_tgid: u32,
    /// Target thread.
    pub target_tid: u32,
    /// The target's workload.
    pub target_slot: u32,
}
fields!(
    ProcessAccess<'a>,
    RawProcessAccess,
    [operation, target_exe, result, target_start_ns, target_tgid, target_tid, target_slot]
);

/// `struct pal_record_dns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dns<'a> {
    /// Question or answer.
    pub operation: DnsOperation,
    /// The first question's name, dotted.
    pub name: Text<'a>,
    /// 16 bytes each; see [`Dns::addresses`].
    pub address_bytes: Text<'a>,
    /// `IPPROTO_UDP` or `IPPROTO_TCP`.
    pub transport: u8,
    /// Of an answer.
    pub rcode: u8,
    /// The first question's type.
    pub query_type: u16,
    /// Of the message.
    pub id: u16,
    /// How many records the message says that it answers with.
    pub answers: u16,
    /// The message says that it was cut.
    pub truncated: bool,
    /// There is more in the answer than was read.
    pub incomplete: bool,
    /// Nobody knows which task it is of: the header names the workload only.
    pub no_task: bool,
    /// Address and port of the server.
    pub server: Option<(IpAddr, u16)>,
}

impl<'a> Dns<'a> {
    /// The addresses of an answer; IPv4 as such.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let (whole, _) = self.address_bytes.bytes.as_chunks::<16>();
        whole.iter().map(|bytes| IpAddr::from(*bytes).to_canonical())
    }
}

impl<'a> Act<'a> for Dns<'a> {
    const SIZE: usize = size_of::<RawDns>();
    fn read(b: BodyBytes<'a>) -> Result<Self, RecordError> {
        let known = u64::from(DNS_TRUNCATED | DNS_INCOMPLETE | DNS_NO_TASK);
        let set = flags("flags", u64::from(b.fields.u8(offset_of!(RawDns, flags))), known)?;
        let address_bytes = b.text("addresses", offset_of!(RawDns, addresses))?;
        if address_bytes.bytes.len() % 16 != 0 {
            return Err(RecordError::Field { field: "addresses", value: address_bytes.bytes.len() as u64 });
        }
        Ok(Self {
            operation: Field::read(b, offset_of!(RawDns, operation), "operation")?,
            name: b.text("name", offset_of!(RawDns, name))?,
            address_bytes,
            transport: b.fields.u8(offset_of!(RawDns, transport)),
            rcode: b.fields.u8(offset_of!(RawDns, rcode)),
            query_type: b.fields.u16(offset_of!(RawDns, query_type)),
            id: b.fields.u16(offset_of!(RawDns, id)),
            answers: b.fields.u16(offset_of!(RawDns, answers)),
            truncated: set & u64::from(DNS_TRUNCATED) != 0,
            incomplete: set & u64::from(DNS_INCOMPLETE) != 0,
            no_task: set & u64::from(DNS_NO_TASK) != 0,
            server: endpoint(b, offset_of!(RawDns, endpoint), b.fields.u8(offset_of!(RawDns, endpoint_len)))?,
        })
    }
    fn write(&self, w: &mut RecordWriter, start: usize, body: usize) -> Result<(), RecordWriterError> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let set = flag(self.truncated, DNS_TRUNCATED)
            | flag(self.incomplete, DNS_INCOMPLETE)
            | flag(self.no_task, DNS_NO_TASK);
        w.put(body + offset_of!(RawDns, operation), [self.operation.code()]);
        w.put(body + offset_of!(RawDns, transport), [self.transport]);
        w.put(body + offset_of!(RawDns, rcode), [self.rcode]);
        w.put(body + offset_of!(RawDns, query_type), self.query_type.to_ne_bytes());
        w.put(body + offset_of!(RawDns, id), self.id.to_ne_bytes());
        w.put(body + offset_of!(RawDns, answers), self.answers.to_ne_bytes());
        w.put(body + offset_of!(RawDns, flags), [set]);
        let len = w.endpoint(body + offset_of!(RawDns, endpoint), self.server);
        w.put(body + offset_of!(RawDns, endpoint_len), [len]);
        w.text(start, body + offset_of!(RawDns, name), "name", &self.name)?;
        w.text(start, body + offset_of!(RawDns, addresses), "addresses", &self.address_bytes)
    }
}

/// `struct pal_record_capability`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capability {
    /// `CAP_*`.
    pub capability: u32,
    /// 0 or negative errno.
    pub result: i32,
}
fields!(Capability, RawCapability, [capability, result]);

/// `struct pal_record_syscall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Syscall {
    /// Its number, of the table that `compat` says.
    pub number: u32,
    /// By the 32-bit entry: the number is of i386.
    pub compat: bool,
    /// With the mark of x32, which `number` has no more.
    pub x32: bool,
    /// What it returned.
    pub result: i64,
    /// As the registers held them.
    pub arguments: [u64; 6],
}

impl<'a> Act<'a> for Syscall {
    const SIZE: usize = size_of::<RawSyscall>();
    fn read(b: BodyBytes<'a>) -> Result<Self, RecordError> {
        let known = u64::from(SYSCALL_COMPAT | SYSCALL_X32);
        let set = flags("flags", u64::from(b.fields.u32(offset_of!(RawSyscall, flags))), known)?;
        Ok(Self {
            number: b.fields.u32(offset_of!(RawSyscall, number)),
            compat: set & u64::from(SYSCALL_COMPAT) != 0,
            x32: set & u64::from(SYSCALL_X32) != 0,
            result: Field::read(b, offset_of!(RawSyscall, result), "result")?,
            arguments: Field::read(b, offset_of!(RawSyscall, arguments), "arguments")?,
        })
    }
    fn write(&self, w: &mut RecordWriter, start: usize, body: usize) -> Result<(), RecordWriterError> {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let set = flag(self.compat, SYSCALL_COMPAT) | flag(self.x32, SYSCALL_X32);
        w.put(body + offset_of!(RawSyscall, number), self.number.to_ne_bytes());
        w.put(body + offset_of!(RawSyscall, flags), set.to_ne_bytes());
        w.put(body + offset_of!(RawSyscall, result), self.result.to_ne_bytes());
        self.arguments.write(w, start, body + offset_of!(RawSyscall, arguments), "arguments")
    }
}

/// `struct pal_record_folded`: of the records that equal one that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folded {
    /// Kind of that one.
    pub of_kind: Kind,
    /// Its `boot_ns`.
    pub of_boot_ns: u64,
    /// Boot time of the last that was not sent.
    pub last_ns: u64,
    /// How many were not sent.
    pub repeats: u32,
}
fields!(Folded, RawFolded, [of_kind, of_boot_ns, last_ns, repeats]);

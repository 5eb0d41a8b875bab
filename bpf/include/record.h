/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Records: what the kernel programs and the fanotify responder say happened.
 *
 * This header is the truth for the layout; messages/kernel-abi/src/record is its twin and a BTF test holds them equal.
 * A record is one fixed head, one fixed body that `kind` chooses, and then the strings that the body's spans point to:
 *
 *	struct pal_record_head | struct pal_record_<kind> | string bytes | zero bytes up to a multiple of 8
 *
 * Variable-size records, not the fixed 4 KiB event of most sensors, because a ring's cost is its bytes: an open of a
 * 30-byte path is 176 bytes. Native byte order; the ring never leaves the machine. The decision is always part of the head
 * (16 bytes that make the head two cache lines), not an optional tail, so that every offset before the strings is constant.
 *
 * Where a field comes from: everything is read from kernel objects, except
 * - spans that carry PAL_SPAN_USER, which were copied from the task's own memory and may lie if another thread changed them
 *   between the kernel's reading of them and ours;
 * - numbers that are marked "register" below: the arguments as the task's registers held them at the call. Nobody can change
 *   them afterwards, but a descriptor among them may have come to name something else meanwhile;
 * - numbers that are marked "user": copied from the task's memory like a PAL_SPAN_USER string.
 * `result` is always the kernel's own: what the system call returned.
 */
#ifndef PALISADE_RECORD_H
#define PALISADE_RECORD_H

/*
 * What is written. Traces keep records for years, so that those of before are read on: version 1 has no `script` and `scripts`
 * in an exec's body, and is the same in all else.
 */
#define PAL_RECORD_VERSION 2u
#define PAL_RECORD_ALIGN 8u
/*
 * No record is longer. Three strings of at most PAL_STRING_MAX bytes, head and body fit. Of the kinds with four, a string for
 * which no PAL_STRING_MAX bytes are left has len 0 and PAL_SPAN_CUT.
 */
#define PAL_RECORD_MAX 16384u
#define PAL_STRING_MAX 4096u
#define PAL_COMM_SIZE 16

/* Numbers are for ever: a new kind takes a new number. */
enum pal_record_kind {
	PAL_RECORD_EXEC = 1,
	PAL_RECORD_FORK = 2,
	PAL_RECORD_EXIT = 3,
	PAL_RECORD_OPEN = 4,
	PAL_RECORD_SOCKET = 5,
	PAL_RECORD_CONNECT = 6,
	PAL_RECORD_PTRACE = 7,
	PAL_RECORD_FILE_CHANGE = 8,
	PAL_RECORD_BIND = 9,            /* bind and listen */
	PAL_RECORD_ACCEPT = 10,
	PAL_RECORD_SEND = 11,           /* datagrams with an address of their own, observed; decisions about them are CONNECT */
	PAL_RECORD_MOUNT = 12,
	PAL_RECORD_CREDENTIALS = 13,
	PAL_RECORD_SIGNAL = 14,
	PAL_RECORD_MODULE = 15,
	PAL_RECORD_BPF = 16,
	PAL_RECORD_NAMESPACE = 17,
	PAL_RECORD_MEMFD = 18,
	PAL_RECORD_IO_URING = 19,
	PAL_RECORD_PROCESS_ACCESS = 20,
	PAL_RECORD_DNS = 21,
	PAL_RECORD_CAPABILITY = 22,
	PAL_RECORD_SYSCALL = 23,
	PAL_RECORD_FOLDED = 24,         /* how many equal records were not sent */
	PAL_RECORD_KINDS = 25,          /* one more than the last; 0 is never used; at most 64, for visibility is a bit each */
};

/*
 * Why a numbered record did not arrive. Index of `losses`: kind * PAL_LOSS_REASONS + reason. The last two are no losses but
 * intended; they are counted here because the sum is over all of them: produced = delivered + lost + suppressed + folded.
 */
enum pal_loss_reason {
	PAL_LOSS_RING_FULL = 0,
	PAL_LOSS_NO_SCRATCH = 1,
	PAL_LOSS_SOCKET_FULL = 2, /* the responder's socket; never counted in the kernel */
	PAL_LOSS_SUPPRESSED = 3,  /* the workload's token bucket was empty; never a decision */
	PAL_LOSS_FOLDED = 4,      /* an equal one was sent within the window; never a decision */
	PAL_LOSS_REASONS = 5,
};

/* Twin of palisade_domain::Tier: by what means the act was held. */
enum pal_tier {
	PAL_TIER_BPF_LSM = 0,
	PAL_TIER_CGROUP_BPF = 1,
	PAL_TIER_FANOTIFY = 2,
	PAL_TIER_KILL = 3,
	PAL_TIER_AUDIT = 4,
	PAL_TIER_APPARMOR = 5, /* written by the node, from the kernel's audit records */
	PAL_TIER_FMOD_RET = 6,
	PAL_TIER_SELINUX = 7, /* written by the node, too */
	PAL_TIERS = 8,
};

/* Twin of palisade_domain::Verdict: what became of the act. */
enum pal_outcome {
	PAL_OUTCOME_DENIED = 0,
	PAL_OUTCOME_KILLED = 1,
	PAL_OUTCOME_OBSERVED = 2,
	PAL_OUTCOME_UNENFORCEABLE = 3,
	PAL_OUTCOMES = 4,
};

/* Why the decision was made without the full name of what was matched (the fail mode decided), or by no policy. */
enum pal_fail_reason {
	PAL_FAIL_NONE = 0,
	PAL_FAIL_UNKNOWN_MOUNT = 1, /* a mount crossing that the workload's mount table does not hold */
	PAL_FAIL_PATH_TOO_LONG = 2, /* more bytes than the walk's buffer */
	PAL_FAIL_TOO_DEEP = 3,      /* more components than the walk climbs */
	PAL_FAIL_NO_SCRATCH = 4,    /* every guarded scratch slot was in use */
	PAL_FAIL_UNREADABLE = 5,    /* a DNS question, or arguments, longer than is read or of a form that cannot be */
	PAL_FAIL_SELF_PROTECTION = 6, /* no policy decided: the act was against Palisade itself (guard.h) */
	PAL_FAIL_REASONS = 7,
};

/* Where a workload's task is in its life (identity.h decides it). */
enum pal_record_phase {
	PAL_RECORD_PHASE_NONE = 0,     /* not in a container's cgroup */
	PAL_RECORD_PHASE_RUNTIME = 1,  /* the container runtime's own code, inside the container's cgroup */
	PAL_RECORD_PHASE_WORKLOAD = 2, /* the container's own code */
	PAL_RECORD_PHASES = 3,
};

/* A system call in a record's head: one more than its number, and by which table. x32's are told by the plain numbers. */
#define PAL_RECORD_CALL(number, compat) ((number) + 1 | ((compat) ? PAL_RECORD_CALL_COMPAT : 0))
#define PAL_RECORD_CALL_COMPAT 0x8000u

#define PAL_HAS_DECISION 1u /* pal_record_head.parts: `decision` is meaningful */

/* CPUs number themselves from 0; producers in user space start here, so that one producer is one sequence. */
#define PAL_PRODUCER_USER 0x80000000u

struct pal_record_decision {
	__u32 policy;      /* number of the blob that decided, as the slot held it */
	__u32 generation;  /* policy set in force, as the slot held it */
	__u32 word;        /* decision word, see blob.h */
	__u8 tier;         /* enum pal_tier */
	__u8 outcome;      /* enum pal_outcome */
	__u8 fail_reason;  /* enum pal_fail_reason */
	__u8 family;       /* enum pal_family, see blob.h */
};

struct pal_record_head {
	__u16 kind;             /* enum pal_record_kind */
	__u16 version;          /* PAL_RECORD_VERSION */
	__u32 len;              /* of the whole record, a multiple of PAL_RECORD_ALIGN, at most PAL_RECORD_MAX */
	__u64 sequence;         /* of the producer, from 0; lost records take numbers too */
	__u32 producer;         /* CPU, or PAL_PRODUCER_USER and up */
	__u32 slot;             /* workload; 0 is the host */
	__u64 boot_ns;          /* CLOCK_BOOTTIME at the probe */
	__u64 cgroup_id;        /* of the unified hierarchy: task->cgroups->dfl_cgrp->kn->id */
	__u64 task_start_ns;    /* task->group_leader->start_boottime: with tgid it names the process for ever */
	__u64 parent_start_ns;  /* task->real_parent->group_leader->start_boottime */
	__u32 tgid;             /* host PID namespace */
	__u32 tid;              /* host PID namespace */
	__u32 parent_tgid;      /* task->real_parent->tgid, host PID namespace */
	__u32 uid;              /* task->cred->uid, initial user namespace, like the next three */
	__u32 euid;
	__u32 fsuid;
	__u32 gid;
	__u32 mnt_ns;           /* inode number of task->nsproxy->mnt_ns; 0 while the task exits */
	__u32 pid_ns;           /* inode number of the namespace that the task's pid is of */
	__u8 phase;             /* enum pal_record_phase */
	__u8 parts;             /* PAL_HAS_DECISION */
	__u16 call;             /* of observed opens, file changes, mounts and modules: the system call (PAL_RECORD_CALL); else 0 */
	__u8 comm[PAL_COMM_SIZE]; /* task->comm, NUL padded */
	struct pal_record_decision decision;
};

#define PAL_SPAN_CUT 1u        /* not all of it: a path keeps its end, everything else its beginning */
#define PAL_SPAN_USER 2u       /* copied from user memory; of `script` the caller's words, as the kernel copied them */
#define PAL_SPAN_UNREADABLE 4u /* it was there, and could not be read; len is 0 */

struct pal_span {
	__u32 offset; /* from the record's first byte; at least head + body where len is not 0 */
	__u16 len;    /* bytes, no terminating NUL */
	__u16 flags;  /* PAL_SPAN_* */
};

/*
 * An execution of a script is one of its interpreter: that is `path`. The script, or whatever else a handler of the kernel gave
 * to an interpreter, is `script`: the file itself, climbed, where a hook saw it before the kernel let it go (script.h), otherwise
 * bprm->filename with PAL_SPAN_USER: what the caller asked for, perhaps relative, perhaps by a link. Empty: there was none.
 * PAL_SPAN_UNREADABLE: whether there was one is not told.
 */
struct pal_record_exec {
	struct pal_span path;      /* bprm->file, climbed: what is executed, or was to be where it was denied */
	struct pal_span cwd;       /* task->fs->pwd, climbed */
	struct pal_span arguments; /* mm->arg_start..arg_end as the kernel laid them out, each ended by NUL; PAL_SPAN_USER */
	__u32 argument_count;      /* bprm->argc: of all arguments, also those that are cut */
	__u32 tty;                 /* task->signal->tty as st_rdev encodes it: major << 8 | minor; 0: none */
	struct pal_span script;    /* the first file of the execution, where `path` is its interpreter */
	__u32 scripts;             /* how many files led to `path`, one interpreted by the next; 0: none, or not counted */
	__u32 reserved;
};

struct pal_record_fork {
	__u32 child_tgid;
	__u32 child_tid;
	__u64 child_start_ns; /* child->start_boottime */
	__u32 child_own_tgid; /* its number in its own PID namespace, where it never changes; 0: not known */
	__u32 child_pid_ns;   /* inode number of that namespace */
};

struct pal_record_exit {
	__s32 status;   /* as wait(2) gives it: signal number, 0x80 for a core, exit code << 8 */
	__u32 reserved;
};

struct pal_record_open {
	struct pal_span path; /* of the file behind the new descriptor; of a failed open the argument, with PAL_SPAN_USER */
	__u32 flags;          /* O_* as asked for; of openat2 copied from user memory */
	__s32 result;         /* descriptor, or negative errno */
};

enum pal_network_operation {
	PAL_NETWORK_SOCKET = 0,
	PAL_NETWORK_CONNECT = 1,
	PAL_NETWORK_SEND = 2, /* a datagram with an address of its own */
	PAL_NETWORK_BIND = 3,
	PAL_NETWORK_LISTEN = 4,
	PAL_NETWORK_ACCEPT = 5,
	PAL_NETWORK_OPERATIONS = 6,
};

#define PAL_ENDPOINT_SIZE 24
#define PAL_NETWORK_USER 1u /* the address was copied from user memory: the call failed or the socket keeps none */

/*
 * The endpoint is the peer's for connect, send and accept, and the socket's own for bind and listen. From the socket (kernel
 * object) but where PAL_NETWORK_USER is set: a connect or bind that failed, and every send, whose address no object keeps.
 */
struct pal_record_network { /* SOCKET, CONNECT, BIND, ACCEPT and SEND */
	__u8 operation;    /* enum pal_network_operation */
	__u8 endpoint_len; /* 3: no destination; 9: IPv4; 21: IPv6 */
	__u8 flags;        /* PAL_NETWORK_USER */
	__u8 reserved;
	__s32 result;      /* of the system call; negative errno; 0 where the program denied or ran before the act */
	__u8 endpoint[PAL_ENDPOINT_SIZE]; /* domain, type, protocol, port (network order), address: the bytes of blob.h's symbols,
	                                   * v4-mapped as v4, the unspecified address as it was asked for */
};

struct pal_record_ptrace {
	struct pal_span target_exe; /* target->mm->exe_file, climbed */
	__u32 request;              /* PTRACE_*; 0 is PTRACE_TRACEME: then the target is the acting process and the tracer its parent */
	__u32 target_tgid;
	__u32 target_tid;
	__u32 target_slot;
	__u64 target_start_ns;      /* target->group_leader->start_boottime */
};

/*
 * A name in a directory, or what an inode says about itself, changed (or failed to).
 *
 * Names are what the call was given, for the dentry of an unlink is gone after the call and no tracepoint tells it before:
 * `path` is then PAL_SPAN_USER and `base` (kernel object) the directory that a path without a leading slash starts from. Where
 * a descriptor names the object (fchmod, fchown, ftruncate) and for CREATE, which is seen by the mark that the kernel leaves on the
 * file that it made, `path` is climbed from the kernel object and `base` is empty. So it is with AT_EMPTY_PATH and an empty name;
 * that the name was empty is the caller's word, and `path` PAL_SPAN_USER all the same.
 * Told with a decision, names are the kernel's own (no PAL_SPAN_USER), whole, and were judged before the act: `base` and `new_base` are empty.
 * Mounts likewise.
 */
enum pal_file_operation {
	PAL_FILE_CREATE = 0,   /* by an open with O_CREAT that made the file */
	PAL_FILE_UNLINK = 1,
	PAL_FILE_RMDIR = 2,
	PAL_FILE_RENAME = 3,
	PAL_FILE_LINK = 4,
	PAL_FILE_SYMLINK = 5,  /* `path` is the text of the link, `new_path` its name */
	PAL_FILE_MKDIR = 6,
	PAL_FILE_MKNOD = 7,
	PAL_FILE_CHMOD = 8,
	PAL_FILE_CHOWN = 9,
	PAL_FILE_TRUNCATE = 10,
	PAL_FILE_SETXATTR = 11,    /* this and the next three are told with a decision alone */
	PAL_FILE_REMOVEXATTR = 12,
	PAL_FILE_WRITE = 13,       /* through a descriptor that was opened before, or by somebody else */
	PAL_FILE_MAP_WRITE = 14,   /* a mapping that is shared and writable */
	PAL_FILE_OPERATIONS = 15,
};

struct pal_record_file_change {
	struct pal_span path;
	struct pal_span base;     /* kernel object: directory descriptor or working directory; empty where `path` is whole */
	struct pal_span new_path; /* rename, link, symlink: the new name; PAL_SPAN_USER */
	struct pal_span new_base; /* kernel object, of new_path */
	__u64 size;               /* register: truncate's length; mknod's device number */
	__u32 mode;               /* register: mkdir, mknod, chmod; of CREATE, and of a judged rename, the inode's own */
	__u32 uid;                /* register: chown, as asked for in the task's user namespace; ~0 leaves it */
	__u32 gid;                /* register: the same */
	__u32 flags;              /* register: AT_*, RENAME_*; of CREATE O_* */
	__s32 result;
	__u8 operation;           /* enum pal_file_operation */
	__u8 reserved[3];
};

enum pal_mount_operation {
	PAL_MOUNT_MOUNT = 0,
	PAL_MOUNT_UMOUNT = 1,
	PAL_MOUNT_PIVOT_ROOT = 2,  /* source: the new root; target: where the old one goes */
	PAL_MOUNT_MOVE_MOUNT = 3,
	PAL_MOUNT_OPEN_TREE = 4,
	PAL_MOUNT_FSOPEN = 5,
	PAL_MOUNT_FSCONFIG = 6,    /* flags: the command; source: the key */
	PAL_MOUNT_FSMOUNT = 7,
	PAL_MOUNT_FSPICK = 8,
	PAL_MOUNT_SETATTR = 9,
	PAL_MOUNT_CHROOT = 10,
	PAL_MOUNT_OPERATIONS = 11,
};

struct pal_record_mount {
	struct pal_span source;     /* PAL_SPAN_USER */
	struct pal_span target;     /* PAL_SPAN_USER; of a chroot that succeeded the kernel's own */
	struct pal_span filesystem; /* PAL_SPAN_USER: mount's and fsopen's type */
	struct pal_span base;       /* kernel object: what a relative target starts from */
	__u64 flags;                /* register */
	__s32 result;
	__u8 operation;             /* enum pal_mount_operation */
	__u8 reserved[3];
};

enum pal_credentials_operation {
	PAL_CREDENTIALS_SETUID = 0,
	PAL_CREDENTIALS_SETREUID = 1,
	PAL_CREDENTIALS_SETRESUID = 2,
	PAL_CREDENTIALS_SETFSUID = 3,
	PAL_CREDENTIALS_SETGID = 4,
	PAL_CREDENTIALS_SETREGID = 5,
	PAL_CREDENTIALS_SETRESGID = 6,
	PAL_CREDENTIALS_SETFSGID = 7,
	PAL_CREDENTIALS_SETGROUPS = 8,
	PAL_CREDENTIALS_CAPSET = 9,
	PAL_CREDENTIALS_OPERATIONS = 10,
};

#define PAL_CREDENTIALS_BEFORE 1u /* `before` is meaningful */

/* Of the initial user namespace; task->cred throughout. */
struct pal_credentials {
	__u32 uid;
	__u32 euid;
	__u32 suid;
	__u32 fsuid;
	__u32 gid;
	__u32 egid;
	__u32 sgid;
	__u32 fsgid;
	__u64 effective;
	__u64 permitted;
	__u64 inheritable;
};

/*
 * `before` is what the thread had when it was last looked at: at its exec or fork, or after its last call of these, unshare or
 * setns. A change in between by other means (prctl, keyctl) is not seen until then. Nothing is hooked at the call's entry for
 * it, for every system call of the machine would pay.
 */
struct pal_record_credentials {
	struct pal_credentials before;
	struct pal_credentials after;
	__s32 result;   /* setfsuid and setfsgid return the id that was */
	__u8 operation; /* enum pal_credentials_operation */
	__u8 flags;     /* PAL_CREDENTIALS_BEFORE */
	__u16 reserved;
};

/* A signal that a task sent by a call; those of the kernel's own (SIGCHLD, SIGPIPE, timers) are not recorded. */
struct pal_record_signal {
	__u32 signal;
	__s32 result;          /* 0: it was generated; otherwise the call failed, and the target is what was asked for */
	__s32 asked;           /* register: process, negated group or thread as the caller names it; a descriptor for pidfd_send_signal */
	__u32 target_tgid;     /* 0: not found */
	__u32 target_tid;
	__u32 target_slot;
	__u64 target_start_ns; /* target->group_leader->start_boottime */
};

enum pal_module_operation {
	PAL_MODULE_INIT = 0,   /* init_module: from memory, its name only in LOADED */
	PAL_MODULE_FINIT = 1,  /* finit_module */
	PAL_MODULE_DELETE = 2, /* delete_module */
	PAL_MODULE_LOADED = 3, /* the kernel has taken a module, before its code runs; whoever asked for it */
	PAL_MODULE_KEXEC = 4,  /* kexec_load and kexec_file_load: a whole kernel */
	PAL_MODULE_OPERATIONS = 5,
};

struct pal_record_module {
	struct pal_span name; /* LOADED: kernel object; DELETE: PAL_SPAN_USER; otherwise empty */
	struct pal_span path; /* FINIT, kexec_file_load: kernel object, the file behind the descriptor */
	__u32 flags;          /* register */
	__s32 result;         /* 0 for LOADED */
	__u8 operation;       /* enum pal_module_operation */
	__u8 reserved[7];
};

#define PAL_BPF_USER 1u /* object_type was copied from user memory */

struct pal_record_bpf {
	struct pal_span name; /* of the new program or map: kernel object */
	__u32 command;        /* register: BPF_* */
	__u32 object_type;    /* BPF_PROG_TYPE_* for BPF_PROG_LOAD, BPF_MAP_TYPE_* for BPF_MAP_CREATE */
	__u32 object_id;      /* of the new program or map: kernel object; 0: none */
	__u32 flags;          /* PAL_BPF_USER */
	__s32 result;
	__u32 reserved;
};

enum pal_namespace_operation {
	PAL_NAMESPACE_UNSHARE = 0,
	PAL_NAMESPACE_SETNS = 1,
	PAL_NAMESPACE_OPERATIONS = 2,
};

/* Inode numbers of the namespaces that the task is in after the call. */
struct pal_record_namespace {
	__u64 flags;          /* register: CLONE_NEW* */
	__s32 result;
	__u8 operation;       /* enum pal_namespace_operation */
	__u8 reserved[3];
	__u32 mnt;
	__u32 pid_for_children;
	__u32 net;
	__u32 user;
	__u32 uts;
	__u32 ipc;
	__u32 cgroup;
	__u32 time;           /* 0 before 5.6 */
};

struct pal_record_memfd {
	struct pal_span name; /* of the new file, "memfd:" and all: kernel object; of a call that failed PAL_SPAN_USER */
	__u32 flags;          /* register: MFD_* */
	__s32 result;         /* descriptor, or negative errno */
};

enum pal_io_uring_operation {
	PAL_IO_URING_SETUP = 0,
	PAL_IO_URING_REGISTER = 1,
	PAL_IO_URING_SUBMIT = 2, /* one request, as the kernel has taken it in; what comes of it is not told */
	PAL_IO_URING_OPERATIONS = 3,
};

struct pal_record_io_uring {
	struct pal_span path;  /* SUBMIT of an operation with a name: the kernel's own copy of it; relative to `descriptor` */
	struct pal_span file;  /* SUBMIT: the file behind `descriptor`, kernel object; empty for a registered file */
	__u32 flags;           /* SETUP: IORING_SETUP_* (user); REGISTER: its opcode (register); SUBMIT: IOSQE_* and REQ_F_* */
	__s32 result;          /* 0 for SUBMIT */
	__s32 descriptor;      /* SUBMIT: of the request (kernel's copy); otherwise -1 or the ring */
	__u8 operation;        /* enum pal_io_uring_operation */
	__u8 opcode;           /* SUBMIT: IORING_OP_* */
	__u16 reserved;
};

enum pal_process_access_operation {
	PAL_PROCESS_ACCESS_READ = 0,  /* process_vm_readv */
	PAL_PROCESS_ACCESS_WRITE = 1, /* process_vm_writev */
	PAL_PROCESS_ACCESS_OPERATIONS = 2,
};

/* Opening of /proc/PID/mem is an OPEN of that path. */
struct pal_record_process_access {
	struct pal_span target_exe; /* target->mm->exe_file, climbed */
	__s64 result;               /* bytes, or negative errno */
	__u64 target_start_ns;
	__u32 target_tgid;          /* by the number that was asked for, after the call; 0: not found */
	__u32 target_tid;
	__u32 target_slot;
	__u8 operation;             /* enum pal_process_access_operation */
	__u8 reserved[3];
};

enum pal_dns_operation {
	PAL_DNS_QUESTION = 0,
	PAL_DNS_ANSWER = 1,
	PAL_DNS_OPERATIONS = 2,
};

#define PAL_DNS_TRUNCATED 1u   /* the message itself says so (TC) */
#define PAL_DNS_INCOMPLETE 2u  /* more records are in the answer, or more of it in later segments, than were read */
#define PAL_DNS_NO_TASK 4u     /* nobody knows which task: the head's process is 0, its workload is that of the socket's cgroup */

/* Read from the packet on its way, behind the socket: not what a buffer holds but what is sent. */
struct pal_record_dns {
	struct pal_span name;      /* of the first question, dotted, without a last dot; case as sent */
	struct pal_span addresses; /* ANSWER: of its A and AAAA records, 16 bytes each, v4-mapped */
	__u8 operation;            /* enum pal_dns_operation */
	__u8 transport;            /* IPPROTO_UDP or IPPROTO_TCP */
	__u8 rcode;                /* ANSWER */
	__u8 endpoint_len;         /* as in pal_record_network */
	__u16 query_type;          /* of the first question: 1 A, 28 AAAA, ... */
	__u16 id;                  /* of the message */
	__u16 answers;             /* how many the message says it has */
	__u8 flags;                /* PAL_DNS_* */
	__u8 reserved[5];
	__u8 endpoint[PAL_ENDPOINT_SIZE]; /* the server's */
};

struct pal_record_capability {
	__u32 capability; /* CAP_* */
	__s32 result;     /* 0: the task has it, or the program ran before the check; -EPERM: it has not, or was denied */
};

#define PAL_SYSCALL_COMPAT 1u /* the 32-bit table: `number` is of i386 */
#define PAL_SYSCALL_X32 2u    /* bit 30 was set; it is cleared in `number` */

struct pal_record_syscall {
	__s64 result;
	__u64 arguments[6]; /* register */
	__u32 number;
	__u32 flags;        /* PAL_SYSCALL_* */
};

/*
 * So many records equal to one that was sent (same process, kind, object and result; the same but for descriptor numbers) were
 * not. The record meant is that of the head's process (tgid, task_start_ns, slot, cgroup_id; the head's other fields are 0)
 * whose kind and boot_ns are these; it may itself have been lost.
 */
struct pal_record_folded {
	__u64 of_boot_ns;
	__u64 last_ns;   /* boot time of the last one that was not sent */
	__u32 repeats;
	__u16 of_kind;   /* enum pal_record_kind */
	__u16 reserved;
};

#endif

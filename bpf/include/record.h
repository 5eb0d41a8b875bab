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
 * Where a field comes from: everything is read from kernel objects of the acting task, except spans that carry
 * PAL_SPAN_USER, which were copied from the task's own memory and may lie if another thread changed them in between.
 */
#ifndef PALISADE_RECORD_H
#define PALISADE_RECORD_H

#define PAL_RECORD_VERSION 1u
#define PAL_RECORD_ALIGN 8u
/* No record is longer. Three strings of at most PAL_STRING_MAX bytes, head and body fit. */
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
	PAL_RECORD_KINDS = 8, /* one more than the last; 0 is never used */
};

/* Why a numbered record did not arrive. Index of pal_losses: kind * PAL_LOSS_REASONS + reason. */
enum pal_loss_reason {
	PAL_LOSS_RING_FULL = 0,
	PAL_LOSS_NO_SCRATCH = 1,
	PAL_LOSS_SOCKET_FULL = 2, /* the responder's socket; never counted in the kernel */
	PAL_LOSS_REASONS = 3,
};

/* Twin of palisade_domain::Tier: by what means the act was held. */
enum pal_tier {
	PAL_TIER_BPF_LSM = 0,
	PAL_TIER_CGROUP_BPF = 1,
	PAL_TIER_FANOTIFY = 2,
	PAL_TIER_KILL = 3,
	PAL_TIER_AUDIT = 4,
	PAL_TIERS = 5,
};

/* Twin of palisade_domain::Verdict: what became of the act. */
enum pal_outcome {
	PAL_OUTCOME_DENIED = 0,
	PAL_OUTCOME_KILLED = 1,
	PAL_OUTCOME_OBSERVED = 2,
	PAL_OUTCOME_UNENFORCEABLE = 3,
	PAL_OUTCOMES = 4,
};

/* Why the decision was made without the full name of what was matched (the fail mode decided). */
enum pal_fail_reason {
	PAL_FAIL_NONE = 0,
	PAL_FAIL_UNKNOWN_MOUNT = 1, /* a mount crossing that the workload's mount table does not hold */
	PAL_FAIL_PATH_TOO_LONG = 2, /* more bytes than the walk's buffer */
	PAL_FAIL_TOO_DEEP = 3,      /* more components than the walk climbs */
	PAL_FAIL_NO_SCRATCH = 4,    /* every guarded scratch slot was in use */
	PAL_FAIL_REASONS = 5,
};

/* Where a workload's task is in its life (identity.h decides it). */
enum pal_record_phase {
	PAL_RECORD_PHASE_NONE = 0,     /* not in a container's cgroup */
	PAL_RECORD_PHASE_RUNTIME = 1,  /* the container runtime's own code, inside the container's cgroup */
	PAL_RECORD_PHASE_WORKLOAD = 2, /* the container's own code */
	PAL_RECORD_PHASES = 3,
};

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
	__u16 reserved;
	__u8 comm[PAL_COMM_SIZE]; /* task->comm, NUL padded */
	struct pal_record_decision decision;
};

#define PAL_SPAN_CUT 1u        /* not all of it: a path keeps its end, everything else its beginning */
#define PAL_SPAN_USER 2u       /* copied from user memory */
#define PAL_SPAN_UNREADABLE 4u /* it was there, and could not be read; len is 0 */

struct pal_span {
	__u32 offset; /* from the record's first byte; at least head + body where len is not 0 */
	__u16 len;    /* bytes, no terminating NUL */
	__u16 flags;  /* PAL_SPAN_* */
};

struct pal_record_exec {
	struct pal_span path;      /* bprm->file, climbed; the interpreter's script is bprm->file after the kernel followed `#!` */
	struct pal_span cwd;       /* task->fs->pwd, climbed */
	struct pal_span arguments; /* mm->arg_start..arg_end as the kernel laid them out, each ended by NUL; PAL_SPAN_USER */
	__u32 argument_count;      /* bprm->argc: of all arguments, also those that are cut */
	__u32 tty;                 /* task->signal->tty as st_rdev encodes it: major << 8 | minor; 0: none */
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
	PAL_NETWORK_OPERATIONS = 3,
};

#define PAL_ENDPOINT_SIZE 24
#define PAL_NETWORK_USER 1u /* the destination was copied from user memory: the call failed and the socket has none */

struct pal_record_network { /* SOCKET and CONNECT */
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

#endif

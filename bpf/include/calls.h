/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Which system calls are looked at, and how their arguments stand: one table for each of the two entries.
 *
 * Each architecture has its own two (registers.h says how an entry is told from the other).
 *
 * A table and not a switch: BPF has no jump tables, so that a switch over 120 numbers is seven compares and mispredicts, and
 * this is what each system call of the machine pays. One load says the group, which is the program that the call is handed
 * to, and the variant, which says where the arguments stand.
 */
#ifndef PALISADE_CALLS_H
#define PALISADE_CALLS_H

#include "registers.h"

/* Each is a program of its own (probes.bpf.c hands calls on by tail call, so that each may be refused alone). */
enum pal_call_group {
	PAL_CALL_OTHER = 0,
	PAL_CALL_OPEN,
	PAL_CALL_SOCKET,
	PAL_CALL_CONNECT,
	PAL_CALL_PTRACE,
	PAL_CALL_FILE_CHANGE,
	PAL_CALL_MEMFD,
	PAL_CALL_BIND,
	PAL_CALL_ACCEPT,
	PAL_CALL_SEND,
	PAL_CALL_PROCESS_ACCESS,
	PAL_CALL_SIGNAL,
	PAL_CALL_CREDENTIALS,
	PAL_CALL_NAMESPACE,
	PAL_CALL_MOUNT,
	PAL_CALL_MODULE,
	PAL_CALL_BPF,
	PAL_CALL_IO_URING,
	PAL_CALL_EVERY, /* not of the tables: where every system call is wanted */
	PAL_CALL_GROUPS,
};

enum pal_call_variant {
	PAL_VARIANT_PLAIN = 0,  /* arguments as the manual gives them */
	PAL_VARIANT_SOCKETCALL, /* 32 bit: number, pointer to 32-bit arguments */
	/* opens */
	PAL_VARIANT_OPEN,    /* path, flags, mode */
	PAL_VARIANT_CREAT,   /* path, mode */
	PAL_VARIANT_OPENAT,  /* directory, path, flags, mode */
	PAL_VARIANT_OPENAT2, /* directory, path, how, size */
	PAL_VARIANT_HANDLE,  /* mount descriptor, handle, flags */
	/* others with more than one form in their group */
	PAL_VARIANT_LISTEN,
	PAL_VARIANT_SENDMSG,
	PAL_VARIANT_SENDMMSG,
	PAL_VARIANT_READ,
	PAL_VARIANT_WRITE,
	PAL_VARIANT_KILL,    /* process, signal */
	PAL_VARIANT_THREAD,  /* process, thread, signal */
	PAL_VARIANT_PIDFD,   /* descriptor, signal */
	PAL_VARIANT_SETUP,
	PAL_VARIANT_REGISTER,
	PAL_VARIANT_SECRET,  /* memfd_secret: flags */
};

/* How the arguments of a file change stand; index of pal_file_shapes (probes_file.bpf.c). */
enum pal_file_shape {
	PAL_SHAPE_UNLINK = 0,
	PAL_SHAPE_UNLINKAT,
	PAL_SHAPE_RMDIR,
	PAL_SHAPE_RENAME,
	PAL_SHAPE_RENAMEAT,
	PAL_SHAPE_RENAMEAT2,
	PAL_SHAPE_LINK,
	PAL_SHAPE_LINKAT,
	PAL_SHAPE_SYMLINK,
	PAL_SHAPE_SYMLINKAT,
	PAL_SHAPE_MKDIR,
	PAL_SHAPE_MKDIRAT,
	PAL_SHAPE_MKNOD,
	PAL_SHAPE_MKNODAT,
	PAL_SHAPE_CHMOD,
	PAL_SHAPE_FCHMOD,
	PAL_SHAPE_FCHMODAT,
	PAL_SHAPE_FCHMODAT2,
	PAL_SHAPE_CHOWN,
	PAL_SHAPE_FCHOWN,
	PAL_SHAPE_FCHOWNAT,
	PAL_SHAPE_CHOWN16,
	PAL_SHAPE_FCHOWN16,
	PAL_SHAPE_TRUNCATE,
	PAL_SHAPE_FTRUNCATE,
	PAL_SHAPE_TRUNCATE64,  /* 32 bit: path, low, high */
	PAL_SHAPE_FTRUNCATE64,
	PAL_SHAPE_TRUNCATE64_EVEN, /* 32 bit: path, nothing, low, high: a pair of registers begins with an even one */
	PAL_SHAPE_FTRUNCATE64_EVEN,
	PAL_SHAPES = 32,       /* power of two */
};

#define PAL_CALLS 576u /* numbers of the tables; x32's own end at 547 */
#define PAL_SOCKETCALLS 32u
#define PAL_CALL(group, variant) (PAL_CALL_##group << 8 | (variant))
#define PAL_CALL_PLAIN_OF(group) PAL_CALL(group, PAL_VARIANT_PLAIN)
#define PAL_CALL_FILE(shape) PAL_CALL(FILE_CHANGE, PAL_SHAPE_##shape)
/* Operations of record.h are the variants of these groups. */
#define PAL_CALL_IDS(operation) PAL_CALL(CREDENTIALS, PAL_CREDENTIALS_##operation)
#define PAL_CALL_MOUNTS(operation) PAL_CALL(MOUNT, PAL_MOUNT_##operation)
#define PAL_CALL_MODULES(operation) PAL_CALL(MODULE, PAL_MODULE_##operation)
#define PAL_CALL_NAMESPACES(operation) PAL_CALL(NAMESPACE, PAL_NAMESPACE_##operation)

/* The numbers that both tables share: they are the same since 424. */
#define PAL_CALLS_SHARED                                                                                                      \
	[424] = PAL_CALL(SIGNAL, PAL_VARIANT_PIDFD), [425] = PAL_CALL(IO_URING, PAL_VARIANT_SETUP),                           \
	[427] = PAL_CALL(IO_URING, PAL_VARIANT_REGISTER), [428] = PAL_CALL_MOUNTS(OPEN_TREE),                                 \
	[429] = PAL_CALL_MOUNTS(MOVE_MOUNT), [430] = PAL_CALL_MOUNTS(FSOPEN), [431] = PAL_CALL_MOUNTS(FSCONFIG),              \
	[432] = PAL_CALL_MOUNTS(FSMOUNT), [433] = PAL_CALL_MOUNTS(FSPICK), [437] = PAL_CALL(OPEN, PAL_VARIANT_OPENAT2),       \
	[442] = PAL_CALL_MOUNTS(SETATTR), [467] = PAL_CALL_MOUNTS(OPEN_TREE) /* open_tree_attr */, [447] = PAL_CALL(MEMFD, PAL_VARIANT_SECRET), [452] = PAL_CALL_FILE(FCHMODAT2)

#if defined(__TARGET_ARCH_x86)
#include "calls_x86.h"
#else
#include "calls_arm64.h"
#endif

struct pal_call {
	__u64 arguments[PAL_CALL_ARGUMENTS];
	__s64 result;
	__u32 variant;
	__u32 compat;
};

static __always_inline __u32 pal_call_code_32(__u64 number, __u64 first)
{
	if (number == PAL_SOCKETCALL_NUMBER)
		return (__u32)first < PAL_SOCKETCALLS ? pal_socketcalls[(__u32)first] : 0;
	return number < PAL_CALLS ? pal_calls_32[number] : 0;
}

/* Group and variant of the current call. `regs` is a typed pointer. The way of every uninteresting call of every task. */
static __always_inline __u32 pal_call_code(struct pt_regs *regs)
{
	bool compat = pal_in_compat();
	__u64 number = pal_call_number(regs, compat);

	if (compat)
		return pal_call_code_32(number, pal_first_argument(regs, compat));
	return number < PAL_CALLS ? pal_calls_64[number] : 0;
}

static __always_inline __u32 pal_call_of(struct pt_regs *regs)
{
	return pal_call_code(regs) >> 8;
}

/*
 * The arguments of socketcall are 32-bit words in user memory, and what it was asked for says which form they have. They may
 * have been changed since: what is made of them is marked as the user's, but for the descriptor.
 */
static __always_inline void pal_call_unpack(struct pal_call *call)
{
	__u32 asked = call->arguments[0];
	__u32 words[6] = {};

	bpf_probe_read_user(words, sizeof(words), (const void *)call->arguments[1]);
	for (int i = 0; i < 6; i++)
		call->arguments[i] = words[i];
	call->variant = pal_veiled(PAL_VARIANT_PLAIN);
	if (asked == 4)
		call->variant = pal_veiled(PAL_VARIANT_LISTEN);
	else if (asked == 16)
		call->variant = pal_veiled(PAL_VARIANT_SENDMSG);
	else if (asked == 20)
		call->variant = pal_veiled(PAL_VARIANT_SENDMMSG);
}

static __always_inline void pal_call_read(struct pal_call *call, struct pt_regs *regs, long result)
{
	bool compat = pal_in_compat();

	call->compat = compat;
	call->result = result;
	call->variant = pal_call_code(regs) & 0xff;
	pal_read_arguments(call->arguments, regs, compat);
	if (compat && call->variant == PAL_VARIANT_SOCKETCALL)
		pal_call_unpack(call);
}

/* An argument by its place; `otherwise` where the call has none there. */
static __always_inline __u64 pal_argument(const struct pal_call *call, __u32 index, __u64 otherwise)
{
	switch (index) {
	case 0:
		return call->arguments[0];
	case 1:
		return call->arguments[1];
	case 2:
		return call->arguments[2];
	case 3:
		return call->arguments[3];
	case 4:
		return call->arguments[4];
	default:
		return otherwise;
	}
}

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Which system calls are looked at, and how their arguments stand: one table for each of the two entries.
 *
 * x86-64 with its 32-bit entry (int 0x80 and 32-bit tasks): a 64-bit task can make a 32-bit call at any time, so that the
 * number alone says nothing; thread_info.status says which table it is of. x32 numbers are the 64-bit ones with bit 30, and
 * 512 and up for what has pointers in it.
 *
 * A table and not a switch: BPF has no jump tables, so that a switch over 120 numbers is seven compares and mispredicts, and
 * this is what each system call of the machine pays. One load says the group, which is the program that the call is handed
 * to, and the variant, which says where the arguments stand.
 *
 * Arguments are read at the exit of the call: the kernel keeps all but the result's register.
 */
#ifndef PALISADE_CALLS_H
#define PALISADE_CALLS_H

#include "core.h"

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
	[442] = PAL_CALL_MOUNTS(SETATTR), [447] = PAL_CALL(MEMFD, PAL_VARIANT_SECRET), [452] = PAL_CALL_FILE(FCHMODAT2)

static const __u16 pal_calls_64[PAL_CALLS] = {
	PAL_CALLS_SHARED,
	[2] = PAL_CALL(OPEN, PAL_VARIANT_OPEN),
	[41] = PAL_CALL_PLAIN_OF(SOCKET),
	[42] = PAL_CALL_PLAIN_OF(CONNECT),
	[43] = PAL_CALL_PLAIN_OF(ACCEPT),
	[44] = PAL_CALL_PLAIN_OF(SEND),
	[46] = PAL_CALL(SEND, PAL_VARIANT_SENDMSG),
	[49] = PAL_CALL_PLAIN_OF(BIND),
	[50] = PAL_CALL(BIND, PAL_VARIANT_LISTEN),
	[62] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL),
	[76] = PAL_CALL_FILE(TRUNCATE),
	[77] = PAL_CALL_FILE(FTRUNCATE),
	[82] = PAL_CALL_FILE(RENAME),
	[83] = PAL_CALL_FILE(MKDIR),
	[84] = PAL_CALL_FILE(RMDIR),
	[85] = PAL_CALL(OPEN, PAL_VARIANT_CREAT),
	[86] = PAL_CALL_FILE(LINK),
	[87] = PAL_CALL_FILE(UNLINK),
	[88] = PAL_CALL_FILE(SYMLINK),
	[90] = PAL_CALL_FILE(CHMOD),
	[91] = PAL_CALL_FILE(FCHMOD),
	[92] = PAL_CALL_FILE(CHOWN),
	[93] = PAL_CALL_FILE(FCHOWN),
	[94] = PAL_CALL_FILE(CHOWN), /* lchown */
	[101] = PAL_CALL_PLAIN_OF(PTRACE),
	[105] = PAL_CALL_IDS(SETUID),
	[106] = PAL_CALL_IDS(SETGID),
	[113] = PAL_CALL_IDS(SETREUID),
	[114] = PAL_CALL_IDS(SETREGID),
	[116] = PAL_CALL_IDS(SETGROUPS),
	[117] = PAL_CALL_IDS(SETRESUID),
	[119] = PAL_CALL_IDS(SETRESGID),
	[122] = PAL_CALL_IDS(SETFSUID),
	[123] = PAL_CALL_IDS(SETFSGID),
	[126] = PAL_CALL_IDS(CAPSET),
	[129] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL), /* rt_sigqueueinfo */
	[133] = PAL_CALL_FILE(MKNOD),
	[155] = PAL_CALL_MOUNTS(PIVOT_ROOT),
	[161] = PAL_CALL_MOUNTS(CHROOT),
	[165] = PAL_CALL_MOUNTS(MOUNT),
	[166] = PAL_CALL_MOUNTS(UMOUNT),
	[175] = PAL_CALL_MODULES(INIT),
	[176] = PAL_CALL_MODULES(DELETE),
	[200] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL), /* tkill */
	[234] = PAL_CALL(SIGNAL, PAL_VARIANT_THREAD),
	[246] = PAL_CALL_MODULES(KEXEC),
	[257] = PAL_CALL(OPEN, PAL_VARIANT_OPENAT),
	[258] = PAL_CALL_FILE(MKDIRAT),
	[259] = PAL_CALL_FILE(MKNODAT),
	[260] = PAL_CALL_FILE(FCHOWNAT),
	[263] = PAL_CALL_FILE(UNLINKAT),
	[264] = PAL_CALL_FILE(RENAMEAT),
	[265] = PAL_CALL_FILE(LINKAT),
	[266] = PAL_CALL_FILE(SYMLINKAT),
	[268] = PAL_CALL_FILE(FCHMODAT),
	[272] = PAL_CALL_NAMESPACES(UNSHARE),
	[288] = PAL_CALL_PLAIN_OF(ACCEPT), /* accept4 */
	[297] = PAL_CALL(SIGNAL, PAL_VARIANT_THREAD), /* rt_tgsigqueueinfo */
	[304] = PAL_CALL(OPEN, PAL_VARIANT_HANDLE),
	[307] = PAL_CALL(SEND, PAL_VARIANT_SENDMMSG),
	[308] = PAL_CALL_NAMESPACES(SETNS),
	[310] = PAL_CALL(PROCESS_ACCESS, PAL_VARIANT_READ),
	[311] = PAL_CALL(PROCESS_ACCESS, PAL_VARIANT_WRITE),
	[313] = PAL_CALL_MODULES(FINIT),
	[316] = PAL_CALL_FILE(RENAMEAT2),
	[319] = PAL_CALL_PLAIN_OF(MEMFD),
	[320] = PAL_CALL_MODULES(KEXEC), /* kexec_file_load */
	[321] = PAL_CALL_PLAIN_OF(BPF),
	/* x32's own */
	[518] = PAL_CALL(SEND, PAL_VARIANT_SENDMSG),
	[521] = PAL_CALL_PLAIN_OF(PTRACE),
	[524] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL),
	[528] = PAL_CALL_MODULES(KEXEC),
	[536] = PAL_CALL(SIGNAL, PAL_VARIANT_THREAD),
	[538] = PAL_CALL(SEND, PAL_VARIANT_SENDMMSG),
	[539] = PAL_CALL(PROCESS_ACCESS, PAL_VARIANT_READ),
	[540] = PAL_CALL(PROCESS_ACCESS, PAL_VARIANT_WRITE),
};

static const __u16 pal_calls_32[PAL_CALLS] = {
	PAL_CALLS_SHARED,
	[5] = PAL_CALL(OPEN, PAL_VARIANT_OPEN),
	[8] = PAL_CALL(OPEN, PAL_VARIANT_CREAT),
	[9] = PAL_CALL_FILE(LINK),
	[10] = PAL_CALL_FILE(UNLINK),
	[14] = PAL_CALL_FILE(MKNOD),
	[15] = PAL_CALL_FILE(CHMOD),
	[16] = PAL_CALL_FILE(CHOWN16), /* lchown */
	[21] = PAL_CALL_MOUNTS(MOUNT),
	[22] = PAL_CALL_MOUNTS(UMOUNT), /* without flags */
	[23] = PAL_CALL_IDS(SETUID),
	[26] = PAL_CALL_PLAIN_OF(PTRACE),
	[37] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL),
	[38] = PAL_CALL_FILE(RENAME),
	[39] = PAL_CALL_FILE(MKDIR),
	[40] = PAL_CALL_FILE(RMDIR),
	[46] = PAL_CALL_IDS(SETGID),
	[52] = PAL_CALL_MOUNTS(UMOUNT),
	[61] = PAL_CALL_MOUNTS(CHROOT),
	[70] = PAL_CALL_IDS(SETREUID),
	[71] = PAL_CALL_IDS(SETREGID),
	[81] = PAL_CALL_IDS(SETGROUPS),
	[83] = PAL_CALL_FILE(SYMLINK),
	[92] = PAL_CALL_FILE(TRUNCATE),
	[93] = PAL_CALL_FILE(FTRUNCATE),
	[94] = PAL_CALL_FILE(FCHMOD),
	[95] = PAL_CALL_FILE(FCHOWN16),
	[128] = PAL_CALL_MODULES(INIT),
	[129] = PAL_CALL_MODULES(DELETE),
	[138] = PAL_CALL_IDS(SETFSUID),
	[139] = PAL_CALL_IDS(SETFSGID),
	[164] = PAL_CALL_IDS(SETRESUID),
	[170] = PAL_CALL_IDS(SETRESGID),
	[178] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL),
	[182] = PAL_CALL_FILE(CHOWN16),
	[185] = PAL_CALL_IDS(CAPSET),
	[193] = PAL_CALL_FILE(TRUNCATE64),
	[194] = PAL_CALL_FILE(FTRUNCATE64),
	[198] = PAL_CALL_FILE(CHOWN), /* lchown32 */
	[203] = PAL_CALL_IDS(SETREUID),
	[204] = PAL_CALL_IDS(SETREGID),
	[206] = PAL_CALL_IDS(SETGROUPS),
	[207] = PAL_CALL_FILE(FCHOWN),
	[208] = PAL_CALL_IDS(SETRESUID),
	[210] = PAL_CALL_IDS(SETRESGID),
	[212] = PAL_CALL_FILE(CHOWN),
	[213] = PAL_CALL_IDS(SETUID),
	[214] = PAL_CALL_IDS(SETGID),
	[215] = PAL_CALL_IDS(SETFSUID),
	[216] = PAL_CALL_IDS(SETFSGID),
	[217] = PAL_CALL_MOUNTS(PIVOT_ROOT),
	[238] = PAL_CALL(SIGNAL, PAL_VARIANT_KILL),
	[270] = PAL_CALL(SIGNAL, PAL_VARIANT_THREAD),
	[283] = PAL_CALL_MODULES(KEXEC),
	[295] = PAL_CALL(OPEN, PAL_VARIANT_OPENAT),
	[296] = PAL_CALL_FILE(MKDIRAT),
	[297] = PAL_CALL_FILE(MKNODAT),
	[298] = PAL_CALL_FILE(FCHOWNAT),
	[301] = PAL_CALL_FILE(UNLINKAT),
	[302] = PAL_CALL_FILE(RENAMEAT),
	[303] = PAL_CALL_FILE(LINKAT),
	[304] = PAL_CALL_FILE(SYMLINKAT),
	[306] = PAL_CALL_FILE(FCHMODAT),
	[310] = PAL_CALL_NAMESPACES(UNSHARE),
	[335] = PAL_CALL(SIGNAL, PAL_VARIANT_THREAD),
	[342] = PAL_CALL(OPEN, PAL_VARIANT_HANDLE),
	[345] = PAL_CALL(SEND, PAL_VARIANT_SENDMMSG),
	[346] = PAL_CALL_NAMESPACES(SETNS),
	[347] = PAL_CALL(PROCESS_ACCESS, PAL_VARIANT_READ),
	[348] = PAL_CALL(PROCESS_ACCESS, PAL_VARIANT_WRITE),
	[350] = PAL_CALL_MODULES(FINIT),
	[353] = PAL_CALL_FILE(RENAMEAT2),
	[356] = PAL_CALL_PLAIN_OF(MEMFD),
	[357] = PAL_CALL_PLAIN_OF(BPF),
	[359] = PAL_CALL_PLAIN_OF(SOCKET),
	[361] = PAL_CALL_PLAIN_OF(BIND),
	[362] = PAL_CALL_PLAIN_OF(CONNECT),
	[363] = PAL_CALL(BIND, PAL_VARIANT_LISTEN),
	[364] = PAL_CALL_PLAIN_OF(ACCEPT),
	[369] = PAL_CALL_PLAIN_OF(SEND),
	[370] = PAL_CALL(SEND, PAL_VARIANT_SENDMSG),
};

/* What socketcall (102 of the 32-bit table) is asked for. The forms of one group are told apart by this number again. */
static const __u16 pal_socketcalls[PAL_SOCKETCALLS] = {
	[1] = PAL_CALL(SOCKET, PAL_VARIANT_SOCKETCALL),
	[2] = PAL_CALL(BIND, PAL_VARIANT_SOCKETCALL),
	[3] = PAL_CALL(CONNECT, PAL_VARIANT_SOCKETCALL),
	[4] = PAL_CALL(BIND, PAL_VARIANT_SOCKETCALL),
	[5] = PAL_CALL(ACCEPT, PAL_VARIANT_SOCKETCALL),
	[11] = PAL_CALL(SEND, PAL_VARIANT_SOCKETCALL),
	[16] = PAL_CALL(SEND, PAL_VARIANT_SOCKETCALL),
	[18] = PAL_CALL(ACCEPT, PAL_VARIANT_SOCKETCALL),
	[20] = PAL_CALL(SEND, PAL_VARIANT_SOCKETCALL),
};
#define PAL_SOCKETCALL_NUMBER 102

struct pal_call {
	__u64 arguments[6];
	__s64 result;
	__u32 variant;
	__u32 compat;
};

static __always_inline bool pal_in_compat(void)
{
	return bpf_get_current_task_btf()->thread_info.status & PAL_TS_COMPAT;
}

static __always_inline __u32 pal_call_code_32(__u64 number, __u64 first)
{
	if (number == PAL_SOCKETCALL_NUMBER)
		return (__u32)first < PAL_SOCKETCALLS ? pal_socketcalls[(__u32)first] : 0;
	return number < PAL_CALLS ? pal_calls_32[number] : 0;
}

/* Group and variant of the current call. `regs` is a typed pointer. The way of every uninteresting call of every task. */
static __always_inline __u32 pal_call_code(struct pt_regs *regs)
{
	__u64 number = regs->orig_ax;

	if (pal_in_compat())
		return pal_call_code_32(number, regs->bx);
	number &= ~PAL_X32_BIT;
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
	if (!compat) {
		call->arguments[0] = regs->di;
		call->arguments[1] = regs->si;
		call->arguments[2] = regs->dx;
		call->arguments[3] = regs->r10;
		call->arguments[4] = regs->r8;
		call->arguments[5] = regs->r9;
		return;
	}
	call->arguments[0] = (__u32)regs->bx;
	call->arguments[1] = (__u32)regs->cx;
	call->arguments[2] = (__u32)regs->dx;
	call->arguments[3] = (__u32)regs->si;
	call->arguments[4] = (__u32)regs->di;
	call->arguments[5] = (__u32)regs->bp;
	if (call->variant == PAL_VARIANT_SOCKETCALL)
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

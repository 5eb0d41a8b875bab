/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What the probes read of tasks, files and sockets, and of a system call's registers.
 *
 * How a call's arguments stand is in calls.h.
 */
#ifndef PALISADE_OBSERVE_H
#define PALISADE_OBSERVE_H

#include "calls.h"
#include "emit.h"
#include "endpoint.h"
#include "walk.h"

#define PAL_AT_FDCWD (-100)
#define PAL_EINPROGRESS 115
#define PAL_ENOSYS 38

#define PAL_O_WRONLY 01

#define PAL_PTRACE_TRACEME 0
#define PAL_PTRACE_ATTACH 16
#define PAL_PTRACE_SEIZE 0x4206

#define PAL_PID_LEVELS_MAX 32 /* MAX_PID_NS_LEVEL */

/* ---- opens ---- */

static __always_inline __u32 pal_open_flags_of(const struct pal_call *call)
{
	__u64 flags = 0;

	switch (call->variant) {
	case PAL_VARIANT_OPEN:
		return call->arguments[1];
	case PAL_VARIANT_CREAT:
		return PAL_O_CREAT | PAL_O_WRONLY | PAL_O_TRUNC;
	case PAL_VARIANT_OPENAT2: /* struct open_how starts with 64-bit flags */
		bpf_probe_read_user(&flags, sizeof(flags), (const void *)call->arguments[2]);
		return flags;
	default:
		return call->arguments[2];
	}
}

/* Where the asked-for path is in user memory; a handle has none. */
static __always_inline __u64 pal_open_name_of(const struct pal_call *call)
{
	if (call->variant == PAL_VARIANT_HANDLE)
		return 0;
	if (call->variant == PAL_VARIANT_OPENAT || call->variant == PAL_VARIANT_OPENAT2)
		return call->arguments[1];
	return call->arguments[0];
}

/* Address of the struct file; 0 when the descriptor is closed again. */
static __always_inline __u64 pal_file_of_descriptor(struct task_struct *task, __u64 descriptor)
{
	struct fdtable *table = task->files->fdt;
	__u64 file = 0;

	if (!table || (__u32)descriptor >= table->max_fds)
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), (void *)table->fd + (__u32)descriptor * sizeof(file));
	return file;
}

/* ---- paths, unchecked: records say where a file is, decisions ask the workload's mount table too ---- */

/*
 * A file without a place below a root (a memfd, a pipe) ends the climb before its first name; then the name alone stands,
 * with a slash before it, as /proc shows it.
 */
static __always_inline void pal_name_detached(struct pal_climb *climb, __u64 dentry)
{
	struct dentry *named = (struct dentry *)dentry;

	if (climb->start == PAL_PATH_SIZE && climb->end != PAL_NAMED)
		pal_put_name(climb, BPF_CORE_READ(named, d_name.name), BPF_CORE_READ(named, d_name.len));
}

static __always_inline __u32 pal_span_flags_of(const struct pal_climb *climb)
{
	return climb->end == PAL_NAME_TOO_LONG || climb->end == PAL_NAME_TOO_DEEP ? PAL_SPAN_CUT : 0;
}

/* Where the path of the place that was put starts in scratch->path, and its flags above. Global, like pal_name_place. */
pal_global __u64 pal_locate(struct pal_scratch *scratch)
{
	struct pal_climb climb;
	__u64 vfsmount, dentry;

	if (!scratch)
		return PAL_PATH_SIZE;
	vfsmount = scratch->mount.parent;
	dentry = scratch->mount.mountpoint;
	pal_climb_addresses(&climb, vfsmount, dentry, scratch, 0, 0);
	pal_name_detached(&climb, dentry);
	return PAL_NAMING_OF(climb.start, pal_span_flags_of(&climb));
}

static __noinline void pal_append_path(struct pal_record_buffer *buffer, struct pal_span *span, __u64 vfsmount, __u64 dentry)
{
	struct pal_scratch *scratch = vfsmount && dentry ? pal_scratch_take() : NULL;
	__u64 located;
	__u32 start;

	if (!scratch) {
		pal_span_set(span, 0, 0, PAL_SPAN_UNREADABLE);
		return;
	}
	pal_put_place(scratch, vfsmount, dentry);
	located = pal_locate(scratch);
	start = (__u32)located < PAL_PATH_SIZE ? (__u32)located : PAL_PATH_SIZE;
	pal_append_kernel(buffer, span, scratch->path + start, PAL_PATH_SIZE - start, located >> 32);
	pal_scratch_put(scratch);
}

static __always_inline void pal_append_file(struct pal_record_buffer *buffer, struct pal_span *span, __u64 address)
{
	struct file *file = (struct file *)address;

	pal_append_path(buffer, span, (__u64)BPF_CORE_READ(file, f_path.mnt), (__u64)BPF_CORE_READ(file, f_path.dentry));
}

/*
 * What a relative name starts from: the directory behind the descriptor, or the working directory. Nothing for a name that
 * begins at the root.
 */
static __noinline void pal_append_base(struct pal_record_buffer *buffer, struct pal_span *span, const struct pal_span *name,
				       __u64 descriptor)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 file;

	if (name->len && buffer->bytes[name->offset & (PAL_RECORD_MAX - 1)] == '/') {
		pal_span_set(span, 0, 0, 0);
		return;
	}
	if (buffer->at > PAL_RECORD_MAX - PAL_STRING_MAX - PAL_RECORD_ALIGN) {
		pal_span_set(span, 0, 0, PAL_SPAN_CUT);
		return;
	}
	if ((__s32)descriptor == PAL_AT_FDCWD) {
		pal_append_path(buffer, span, (__u64)task->fs->pwd.mnt, (__u64)task->fs->pwd.dentry);
		return;
	}
	file = pal_file_of_descriptor(task, descriptor);
	if (file)
		pal_append_file(buffer, span, file);
	else
		pal_span_set(span, 0, 0, PAL_SPAN_UNREADABLE);
}

/* A user's string where the call may have none (a null pointer): then the span is empty. */
static __always_inline void pal_append_name(struct pal_record_buffer *buffer, struct pal_span *span, __u64 name)
{
	if (!name)
		pal_span_set(span, 0, 0, 0);
	else if (buffer->at > PAL_RECORD_MAX - PAL_STRING_MAX - PAL_RECORD_ALIGN)
		pal_span_set(span, 0, 0, PAL_SPAN_CUT | PAL_SPAN_USER);
	else
		pal_append_user_string(buffer, span, (const void *)name);
}

static __always_inline void pal_append_executable(struct pal_record_buffer *buffer, struct pal_span *span, __u64 address)
{
	struct task_struct *task = (struct task_struct *)address;
	__u64 file = (__u64)BPF_CORE_READ(task, mm, exe_file);

	if (file)
		pal_append_file(buffer, span, file);
	else
		pal_span_set(span, 0, 0, PAL_SPAN_UNREADABLE); /* a kernel thread, or one that is exiting */
}

/* ---- tasks ---- */

static __always_inline void pal_append_arguments(struct pal_record_buffer *buffer, struct pal_span *span,
						 struct task_struct *task)
{
	__u64 from = task->mm->arg_start;
	__u64 to = task->mm->arg_end;

	pal_append_user(buffer, span, (const void *)from, to > from ? to - from : 0);
}

/* As st_rdev encodes it: minors above 255 continue in bits 20 and up. */
static __always_inline __u32 pal_tty_of(struct task_struct *task)
{
	struct tty_struct *tty = task->signal->tty;
	__u32 major, minor;

	if (!tty)
		return 0;
	major = tty->driver->major;
	minor = tty->driver->minor_start + tty->index;
	return (minor & 0xff) | (major << 8) | ((minor & ~0xffu) << 12);
}

/* What the parent's wait(2) will see. */
static __always_inline __s32 pal_wait_status_of(struct task_struct *task)
{
	if (task->signal->flags & PAL_SIGNAL_GROUP_EXIT)
		return task->signal->group_exit_code;
	return task->group_leader->exit_code;
}

/* ---- sockets ---- */

/* Address of the struct socket; 0 where the descriptor is none. A struct socket points back at its file. */
static __always_inline __u64 pal_socket_of_descriptor(struct task_struct *task, __u64 descriptor)
{
	__u64 address = pal_file_of_descriptor(task, descriptor);
	struct file *file = (struct file *)address;
	struct socket *socket;

	if (!address || (BPF_CORE_READ(file, f_inode, i_mode) & PAL_S_IFMT) != PAL_S_IFSOCK)
		return 0;
	socket = BPF_CORE_READ(file, private_data);
	if (!socket || BPF_CORE_READ(socket, file) != file)
		return 0;
	return (__u64)socket;
}

static __always_inline void pal_endpoint_of_socket(struct pal_endpoint *endpoint, __u64 address)
{
	struct sock *sock = BPF_CORE_READ((struct socket *)address, sk);

	pal_endpoint_socket(endpoint, BPF_CORE_READ(sock, __sk_common.skc_family),
			    BPF_CORE_READ((struct socket *)address, type), BPF_CORE_READ(sock, sk_protocol));
}

/* Of a socket call that failed: as asked for, the type without SOCK_NONBLOCK and SOCK_CLOEXEC. */
static __always_inline void pal_endpoint_of_arguments(struct pal_endpoint *endpoint, const struct pal_call *call)
{
	pal_endpoint_socket(endpoint, call->arguments[0], call->arguments[1] & 0xf, call->arguments[2]);
}

/* The destination that the kernel holds. */
static __always_inline void pal_endpoint_peer(struct pal_endpoint *endpoint, __u64 address)
{
	struct sock *sock = BPF_CORE_READ((struct socket *)address, sk);
	__be16 port = BPF_CORE_READ(sock, __sk_common.skc_dport);
	__be32 words[4] = {};

	if (endpoint->bytes[0] == PAL_AF_INET) {
		pal_endpoint_ipv4(endpoint, port, BPF_CORE_READ(sock, __sk_common.skc_daddr));
	} else if (endpoint->bytes[0] == PAL_AF_INET6) {
		BPF_CORE_READ_INTO(&words, sock, __sk_common.skc_v6_daddr);
		pal_endpoint_ipv6(endpoint, port, words);
	}
}

/* The address that the socket itself has. */
static __always_inline void pal_endpoint_own(struct pal_endpoint *endpoint, __u64 address)
{
	struct sock *sock = BPF_CORE_READ((struct socket *)address, sk);
	__be16 port = bpf_htons(BPF_CORE_READ(sock, __sk_common.skc_num));
	__be32 words[4] = {};

	if (endpoint->bytes[0] == PAL_AF_INET) {
		pal_endpoint_ipv4(endpoint, port, BPF_CORE_READ(sock, __sk_common.skc_rcv_saddr));
	} else if (endpoint->bytes[0] == PAL_AF_INET6) {
		BPF_CORE_READ_INTO(&words, sock, __sk_common.skc_v6_rcv_saddr);
		pal_endpoint_ipv6(endpoint, port, words);
	}
}

/* The destination that was asked for. */
static __always_inline void pal_endpoint_user(struct pal_endpoint *endpoint, const void *from, __u64 size)
{
	struct pal_sockaddr_in6 address = {};
	const struct pal_sockaddr_in *v4 = (const void *)&address;

	if ((__u32)size >= sizeof(address))
		bpf_probe_read_user(&address, sizeof(address), from);
	else if ((__u32)size >= sizeof(*v4))
		bpf_probe_read_user(&address, sizeof(*v4), from);
	if (address.family == PAL_AF_INET)
		pal_endpoint_ipv4(endpoint, v4->port, v4->address);
	else if (address.family == PAL_AF_INET6 && (__u32)size >= PAL_SIN6_LEN_RFC2133)
		pal_endpoint_ipv6(endpoint, address.port, address.address);
}

/* ---- tracing ---- */

static __always_inline bool pal_ptrace_begins(__u64 request)
{
	return (__u32)request == PAL_PTRACE_TRACEME || (__u32)request == PAL_PTRACE_ATTACH ||
	       (__u32)request == PAL_PTRACE_SEIZE;
}

/* The namespace that the task itself sees pids in: that of its own pid, not that of its children. */
static __always_inline __u64 pal_pid_ns_address(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	__u64 ns = 0;
	__u32 at;

	if (!pid)
		return 0;
	at = bpf_core_field_offset(struct pid, numbers) + pid->level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&ns, sizeof(ns), (void *)pid + at + bpf_core_field_offset(struct upid, ns));
	return ns;
}

/*
 * Address of the struct pid that `number` is in the namespace; 0 if there is none. Climbs down the namespace's IDR, a radix
 * tree with 6 bits a level: 32 bits take at most 6 levels. Inner nodes carry 2 in their lowest bits.
 */
static __always_inline __u64 pal_pid_in(__u64 ns, __u32 number)
{
	__u64 entry = (__u64)BPF_CORE_READ((struct pid_namespace *)ns, idr.idr_rt.xa_head);

	for (__u32 level = 0; level < 6; level++) {
		struct xa_node *node = (struct xa_node *)(entry - 2);
		__u32 shift, slot;

		if ((entry & 3) != 2)
			break;
		shift = BPF_CORE_READ(node, shift);
		if (shift > 30 || (level == 0 && (__u64)number >> shift > 63))
			return 0;
		slot = (number >> shift) & 63;
		if (bpf_probe_read_kernel(&entry, sizeof(entry),
					  (void *)node + bpf_core_field_offset(struct xa_node, slots) + slot * sizeof(entry)))
			return 0;
	}
	return entry & 3 ? 0 : entry;
}

/* Address of the thread whose number in the acting task's own PID namespace is `number`; 0 if there is none. */
static __always_inline __u64 pal_task_by_number(struct task_struct *acting, __u32 number)
{
	__u64 ns = pal_pid_ns_address(acting);
	__u64 pid = ns ? pal_pid_in(ns, number) : 0;
	__u64 link = 0;

	if (!pid)
		return 0;
	bpf_probe_read_kernel(&link, sizeof(link), (void *)pid + bpf_core_field_offset(struct pid, tasks));
	return link ? link - bpf_core_field_offset(struct task_struct, pid_links) : 0;
}

static __always_inline __u64 pal_ptrace_target(const struct pal_call *call)
{
	struct task_struct *acting = bpf_get_current_task_btf();

	if ((__u32)call->arguments[0] == PAL_PTRACE_TRACEME)
		return (__u64)acting;
	return pal_task_by_number(acting, call->arguments[1]);
}

/* The target's slot is that of its cgroup: what a task keeps cannot be asked for a plain address. */
static __always_inline void pal_describe_target(struct pal_record_ptrace *body, __u64 address, const struct pal_call *call)
{
	struct task_struct *target = (struct task_struct *)address;

	body->request = call->arguments[0];
	body->target_tgid = 0;
	body->target_tid = 0;
	body->target_slot = 0;
	body->target_start_ns = 0;
	if (!address)
		return;
	body->target_tgid = BPF_CORE_READ(target, tgid);
	body->target_tid = BPF_CORE_READ(target, pid);
	body->target_slot = pal_slot_of_cgroup(BPF_CORE_READ(target, cgroups, dfl_cgrp, kn, id));
	body->target_start_ns = BPF_CORE_READ(target, group_leader, start_boottime);
}

#endif

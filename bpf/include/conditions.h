/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What rules ask of an act beside names: a terminal, and what the protections by name (presets) are about.
 *
 * Everything is read from kernel objects, never from path strings: whose process a file of /proc is about says its inode, in
 * whatever PID namespace and under whatever mount it is opened; a file without a file system says its superblock. By plain
 * addresses, so that programs without typed pointers ask the same questions; they are asked only where a policy has presets.
 */
#ifndef PALISADE_CONDITIONS_H
#define PALISADE_CONDITIONS_H

#include "identity.h"

/* A global function: everything that follows is verified once, not for a task with and a task without a terminal. */
pal_global __u32 pal_terminal_modifier(void)
{
	return bpf_get_current_task_btf()->signal->tty ? PAL_MODIFIER_TTY : 0;
}

static __always_inline bool pal_text_is(const char *text, const char *wanted, __u32 size)
{
	char copy[16] = {};

	/* One byte more than `wanted` has tells a longer text. */
	if (bpf_probe_read_kernel_str(copy, sizeof(copy), text) < 0)
		return false;
	for (__u32 i = 0; i < size; i++)
		if (copy[i] != wanted[i])
			return false;
	return true;
}

#define PAL_STACKED_MOUNTS 4

/*
 * A tmpfs that is shared memory by its place or its name: container runtimes mount /dev/shm from a device of the name "shm", which
 * its bind mounts keep, and hosts mount it on a directory "shm".
 */
static __noinline bool pal_is_shared_memory(__u64 address)
{
	struct file *file = (struct file *)address;
	__u64 vfsmount = (__u64)BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = (struct mount *)(vfsmount - bpf_core_field_offset(struct mount, mnt));

	if (BPF_CORE_READ(file, f_inode, i_sb, s_magic) != PAL_TMPFS_MAGIC)
		return false;
	if (pal_text_is(BPF_CORE_READ(mount, mnt_devname), "shm", 4))
		return true;
	/* A mount may be on the root of another one, in the same place. */
	for (__u32 i = 0; i < PAL_STACKED_MOUNTS; i++) {
		struct dentry *place = BPF_CORE_READ(mount, mnt_mountpoint);

		if (place != BPF_CORE_READ(place, d_parent))
			return pal_text_is((const char *)BPF_CORE_READ(place, d_name.name), "shm", 4);
		mount = BPF_CORE_READ(mount, mnt_parent);
	}
	return false;
}

/* A memfd and System V shared memory are files of a mount that is in no namespace. */
static __always_inline bool pal_is_memory_file(__u64 address)
{
	return BPF_CORE_READ((struct file *)address, f_inode, i_sb, s_flags) & PAL_SB_KERNMOUNT;
}

/* O_TMPFILE, and what was unlinked before it was executed: no name leads to it. */
static __always_inline bool pal_is_unlinked(__u64 address)
{
	struct file *file = (struct file *)address;

	return !BPF_CORE_READ(file, f_inode, i_nlink) && !BPF_CORE_READ(file, f_path.dentry, d_hash.pprev);
}

static __always_inline bool pal_is_fileless(__u64 address)
{
	return pal_is_memory_file(address) || pal_is_unlinked(address) || pal_is_shared_memory(address);
}

/* Mappings of it hold nothing that is in a file. */
static __always_inline bool pal_maps_memory(__u64 address)
{
	return address && (pal_is_memory_file(address) ||
			   BPF_CORE_READ((struct file *)address, f_inode, i_rdev) == PAL_DEV_ZERO);
}

/* Address of the struct pid that a file of /proc is about; 0: it is about no process (/proc/meminfo), or is not of /proc. */
static __always_inline __u64 pal_proc_subject(__u64 address)
{
	__u64 inode = (__u64)BPF_CORE_READ((struct file *)address, f_inode);
	struct proc_inode *proc = (struct proc_inode *)(inode - bpf_core_field_offset(struct proc_inode, vfs_inode));

	if (BPF_CORE_READ((struct inode *)inode, i_sb, s_magic) != PAL_PROC_MAGIC)
		return 0;
	return (__u64)BPF_CORE_READ(proc, pid);
}

/* Is the thread that `pid` names of another process than the acting one? One that is gone is. */
static __always_inline bool pal_is_other_process(__u64 pid)
{
	__u64 link = 0, signal;

	bpf_probe_read_kernel(&link, sizeof(link), (void *)pid + bpf_core_field_offset(struct pid, tasks));
	if (!link)
		return true;
	link -= bpf_core_field_offset(struct task_struct, pid_links);
	signal = (__u64)BPF_CORE_READ((struct task_struct *)link, signal);
	return signal != (__u64)bpf_get_current_task_btf()->signal;
}

/* Names in /proc are the kernel's. */
static __always_inline bool pal_is_environment(__u64 address)
{
	return pal_text_is((const char *)BPF_CORE_READ((struct file *)address, f_path.dentry, d_name.name), "environ", 8);
}

/* Process 1 of the PID namespace that the task itself is in. */
static __always_inline bool pal_is_first_process(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	__u32 number = 0, at;

	if (!pid)
		return false;
	at = bpf_core_field_offset(struct pid, numbers) + pid->level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&number, sizeof(number), (void *)pid + at + bpf_core_field_offset(struct upid, nr));
	return number == 1;
}

/*
 * Is the task of a session that came into the running container, and has it a terminal (`kubectl exec -it`)? Its first program is
 * the first one that the container runtime's code executes inside, and not the container's first process; then come those that
 * it starts, as long as they have a terminal. A container without a PID namespace of its own has no first process: of one that has
 * a terminal the whole counts as such a session.
 */
static __always_inline bool pal_enters_by_terminal(const struct pal_subject *subject)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!task->signal->tty)
		return false;
	if (subject->phase == PAL_PHASE_RUNTIME)
		return !pal_is_first_process(task);
	return subject->kept && subject->kept->entered;
}

/* Presets that an execution of the file falls under. */
struct pal_presets {
	__u32 one; /* enum pal_preset; 0: none */
	__u32 other;
};

static __always_inline struct pal_presets pal_presets_of_exec(const struct pal_subject *subject, __u64 file)
{
	struct pal_presets presets = {
		.one = pal_veiled(pal_is_fileless(file) ? PAL_PRESET_FILELESS_EXEC : 0),
		.other = pal_veiled(pal_enters_by_terminal(subject) ? PAL_PRESET_EXEC : 0),
	};

	return presets;
}

/* Presets that an open of the file falls under. */
static __always_inline struct pal_presets pal_presets_of_open(__u64 file)
{
	struct pal_presets presets = {};
	__u64 pid = pal_proc_subject(file);

	if (!pid || !pal_is_other_process(pid))
		return presets;
	presets.one = pal_veiled(PAL_PRESET_PROTECT_PROC);
	presets.other = pal_veiled(pal_is_environment(file) ? PAL_PRESET_PROTECT_ENV : 0);
	return presets;
}

#endif

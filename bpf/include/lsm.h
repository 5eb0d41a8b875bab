/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The decisions as BPF LSM programs, the strongest tier: what the objects lsm_*.bpf.c share.
 *
 * One object for each family of rules, not one for all: what a kernel refuses of one takes nothing from the others.
 *
 * They need Linux 5.17, CONFIG_BPF_LSM and `bpf` among the active LSMs: elsewhere these programs attach and never run, which is
 * why a test denial is tried first (selftest.bpf.c). There the same functions are loaded to run before security_* (fmod_ret),
 * which needs a kernel that does not preempt its own code: one that was interrupted is skipped for others on its CPU. They come
 * before the other LSMs then, and before the kernel's own check of capabilities. Without either, files and executables fall to
 * fanotify, networks to the cgroup programs, and tracing can only be killed for.
 *
 * In the RUNTIME phase only executables are judged, and of these only what is executed inside the container: the container
 * runtime's work inside the cgroup is not the workload's.
 */
#ifndef PALISADE_LSM_H
#define PALISADE_LSM_H

#include "report.h"
#include "conditions.h"
#include "report_acts.h"

/*
 * Is anything decided about the family for whoever acts? Everybody's acts come by here: what is not must end soon, and programs
 * ask pal_is_idle before anything else.
 */
static __always_inline bool pal_is_decided(struct pal_subject *subject, __u32 family)
{
	pal_identify(subject);
	return pal_decides(subject, family);
}

static __always_inline bool pal_is_judged(struct pal_subject *subject, __u32 family)
{
	return pal_is_decided(subject, family) && subject->phase != PAL_PHASE_RUNTIME;
}

static __always_inline __u32 pal_owner_modifier(struct inode *inode)
{
	return inode->i_uid.val == bpf_get_current_task_btf()->cred->fsuid.val ? PAL_MODIFIER_OWNER : 0;
}

/*
 * Is the program's first argument there? Verifiers that take it for granted drop a comparison, so that the question is asked of the
 * argument's memory, too; newer ones, which know that it may be absent, want the comparison.
 */
static __always_inline bool pal_has_first_argument(unsigned long long *ctx)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), ctx);
	return address;
}

/*
 * What a mapping will have: to a task of that personality, what may be read may be executed, but of a file on a noexec mount.
 * security_mmap_file() works it out for its hooks; a program before the function gets what was asked for, and the flags after it.
 * It has a name and a section of its own, and is attached as fmod_ret, for which the loader has no word.
 */
static __always_inline unsigned long pal_mapped_protection(__u64 address, unsigned long asked)
{
	struct file *file = (struct file *)address;
	struct vfsmount *mount;

	if ((asked & (PAL_PROT_READ | PAL_PROT_EXEC)) != PAL_PROT_READ ||
	    !(bpf_get_current_task_btf()->personality & PAL_READ_IMPLIES_EXEC))
		return asked;
	if (address) {
		mount = BPF_CORE_READ(file, f_path.mnt);
		if (BPF_CORE_READ(mount, mnt_flags) & PAL_MNT_NOEXEC ||
		    BPF_CORE_READ(mount, mnt_sb, s_iflags) & PAL_SB_I_NOEXEC)
			return asked;
	}
	return asked | PAL_PROT_EXEC;
}

#ifdef PAL_OBJECT_BY_ADDRESS
typedef __u64 pal_mount_reference;
typedef __u64 pal_dentry_reference;
#define PAL_OBJECT_MOUNT vfsmount
#else
typedef struct vfsmount *pal_mount_reference;
typedef struct dentry *pal_dentry_reference;
#define PAL_OBJECT_MOUNT mount
#endif

/*
 * The path by which the workload knows a mapping's file. Of a stacked file system's file a mapping holds the layer's, which until 6.7
 * has the path that was asked for, too. Where it is kept beside the file: two bits have meant that, and another thing of files that
 * the kernel does not open for itself.
 */
static __always_inline void pal_place_of_mapped(struct file *file, struct pal_place *place)
{
	__u64 address = (__u64)file;

	place->vfsmount = (__u64)file->f_path.mnt;
	place->dentry = (__u64)file->f_path.dentry;
	if (!(file->f_mode & PAL_FMODE_NOACCOUNT) || !(file->f_mode & PAL_FMODE_BACKING) ||
	    !bpf_core_field_exists(struct backing_file, user_path))
		return;
	place->vfsmount = (__u64)BPF_CORE_READ((struct backing_file *)address, user_path.mnt);
	place->dentry = (__u64)BPF_CORE_READ((struct backing_file *)address, user_path.dentry);
}

static __always_inline void pal_act_on(struct pal_act *act, struct file *file)
{
	act->object.PAL_OBJECT_MOUNT = (pal_mount_reference)file->f_path.mnt;
	act->object.dentry = (pal_dentry_reference)file->f_path.dentry;
}

/*
 * Opens on behalf of execve are the process family's matter, and a stacked file system's second open was judged when the
 * upper file was opened.
 */
static __always_inline bool pal_is_inner_open(struct file *file)
{
	return file->f_mode & PAL_FMODE_NOACCOUNT || file->f_flags & PAL_FMODE_EXEC;
}

/* Judges protections whose conditions are met; the verdict is in `verdict`. */
static __noinline int pal_protect(struct pal_subject *subject, struct pal_presets presets, struct pal_verdict *verdict)
{
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_PRESET);
	pal_judge_presets(&act, presets.one, presets.other);
	pal_lsm_verdict(&act, verdict);
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

static __always_inline bool pal_is_told(const struct pal_verdict *verdict)
{
	return (verdict->word & PAL_DECISION_EFFECT_MASK) != PAL_EFFECT_PERMIT;
}

#endif

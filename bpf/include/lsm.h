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

static __always_inline void pal_act_on(struct pal_act *act, struct file *file)
{
	act->object.mount = file->f_path.mnt;
	act->object.dentry = file->f_path.dentry;
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

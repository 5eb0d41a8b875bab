// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Tracing, and the use of capabilities, on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * Capabilities are judged where the kernel has found them held, so that what a task tries without having is no act; a question in
 * passing (CAP_OPT_NOAUDIT) is denied without a record.
 */
#include "lsm.h"
#include "emit_calls.h"

char LICENSE[] SEC("license") = "GPL";

#define PAL_PTRACE_MODE_ATTACH 2
#define PAL_PTRACE_TRACEME_REQUEST 0
#define PAL_PTRACE_ATTACH_REQUEST 16

/* ---- tracing ---- */

/* `target` is traced by `tracer`; one of the two is the current task, whose workload is held. */
static __noinline int pal_judge_tracing(struct task_struct *target, struct task_struct *tracer, struct pal_subject *subject,
					__u32 request)
{
	struct pal_verdict verdict;
	struct pal_target about;
	struct pal_text path;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_PTRACE);
	act.object.mount = target->mm->exe_file->f_path.mnt;
	act.object.dentry = target->mm->exe_file->f_path.dentry;
	act.actor = tracer;
	act.foreign_actor = pal_veiled(request == PAL_PTRACE_TRACEME_REQUEST);
	pal_judge_file(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT) {
		about.request = request;
		about.tgid = target->tgid;
		about.tid = target->pid;
		about.slot = pal_slot_of_cgroup(pal_cgroup_of_task(target));
		about.start_ns = target->group_leader->start_boottime;
		pal_lsm_verdict(&act, &verdict);
		pal_judged_path(&act, &path);
		pal_emit_ptrace(subject, &path, &about, &verdict);
	}
	result = pal_errno(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

/* Reading /proc/<pid> of others asks for READ and is no tracing; attaching, process_vm_* and /proc/<pid>/mem ask for ATTACH. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(judge_trace, struct task_struct *target, unsigned int mode, int earlier)
{
	struct pal_subject subject;

	if (earlier || !(mode & PAL_PTRACE_MODE_ATTACH) || pal_is_idle(PAL_FAMILY_PTRACE) ||
	    !pal_is_judged(&subject, PAL_FAMILY_PTRACE))
		return earlier;
	return pal_judge_tracing(target, bpf_get_current_task_btf(), &subject, PAL_PTRACE_ATTACH_REQUEST);
}

/* The current task asks `tracer` to trace it: the tracer is the actor, the current task's workload is the one that is held. */
SEC("lsm/ptrace_traceme")
int BPF_PROG(judge_traceme, struct task_struct *tracer, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_PTRACE) || !pal_is_judged(&subject, PAL_FAMILY_PTRACE))
		return earlier;
	return pal_judge_tracing(bpf_get_current_task_btf(), tracer, &subject, PAL_PTRACE_TRACEME_REQUEST);
}

/* ---- capabilities ---- */

#define PAL_CAP_OPT_NOAUDIT 2u /* the kernel asks in passing whether it would be so, and nobody is to hear of it */

/*
 * Whether the task uses what it has. Not where the kernel works with other credentials for a moment (overlayfs writes as who
 * mounted it, access(2) asks for the real user): that use is not the task's. But io_uring lends a task credentials that it had
 * itself before, so that one which has a ring is always meant, and so is a thread that the ring works with, which has none. A question
 * in passing about foreign credentials is about another task (the OOM killer asks so).
 */
static __always_inline bool pal_may_be_lent(struct task_struct *task)
{
	return task->flags & PAL_PF_IO_WORKER || (bpf_core_field_exists(task->io_uring) && task->io_uring);
}

static __always_inline bool pal_is_own_question(const struct cred *credentials, unsigned int options)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 subjective = (__u64)task->cred, objective = (__u64)task->real_cred;

	if (subjective != objective && !pal_may_be_lent(task))
		return false;
	return (__u64)credentials == subjective || !(options & PAL_CAP_OPT_NOAUDIT);
}

static __noinline int pal_judge_capability(struct pal_subject *subject, __u32 capability, __u32 options)
{
	struct pal_verdict verdict;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_CAPABILITY);
	pal_judge_number(&act, capability < PAL_CAPABILITY_ACCEPTS - 1 ? capability + 1 : 0);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT && !(options & PAL_CAP_OPT_NOAUDIT)) {
		pal_lsm_verdict(&act, &verdict);
		pal_emit_capability(subject, capability, pal_is_denied(&act) ? -PAL_EPERM : 0, &verdict);
	}
	result = pal_errno(&act, PAL_EPERM);
	pal_act_end(&act);
	return result;
}

#define PAL_USER_NAMESPACES_MAX 34 /* the first, and as many as may nest */

/* As the kernel's cap_capable() finds it: by the credentials and the namespace alone. Who made a namespace has every capability in it. */
static __always_inline bool pal_has_capability(const struct cred *credentials, __u64 space, __u32 capability)
{
	__u64 own = (__u64)BPF_CORE_READ(credentials, user_ns);
	int level = BPF_CORE_READ((struct user_namespace *)own, level);
	__u64 effective = 0, parent;

	for (__u32 above = 0; above < PAL_USER_NAMESPACES_MAX; above++) {
		struct user_namespace *at = (struct user_namespace *)space;

		if (space == own) {
			bpf_probe_read_kernel(&effective, sizeof(effective),
					      (void *)credentials + bpf_core_field_offset(struct cred, cap_effective));
			return effective >> (capability & 63) & 1;
		}
		if (BPF_CORE_READ(at, level) <= level)
			return false;
		parent = (__u64)BPF_CORE_READ(at, parent);
		if (parent == own && BPF_CORE_READ(at, owner.val) == BPF_CORE_READ(credentials, euid.val))
			return true;
		space = parent;
	}
	return false;
}

/*
 * Asked only where the task has the capability: on the LSM hook the kernel's own check comes first, and its refusal is the end.
 * Before the function it has not been asked yet, so that it is asked here.
 */
SEC("lsm/capable")
int BPF_PROG(judge_capability, const struct cred *credentials, struct user_namespace *space, int capability,
	     unsigned int options, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_CAPABILITY) || !pal_is_judged(&subject, PAL_FAMILY_CAPABILITY) ||
	    !pal_is_own_question(credentials, options))
		return earlier;
	if (pal_hook_tier == PAL_TIER_FMOD_RET && !pal_has_capability(credentials, (__u64)space, capability))
		return 0;
	return pal_judge_capability(&subject, capability, options);
}

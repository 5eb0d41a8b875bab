// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Executions by their arguments, on every kernel: who is given others than a rule allows is killed before its first instruction.
 *
 * The arguments are read where the program itself will read them: from the new image's memory, once the kernel has laid them
 * out and before anything of it runs. The caller's memory, which its other threads may write, plays no part. A program that is
 * killed so has done nothing; what had happened is that the old image is gone.
 *
 * Whose rule it is, is decided while the old image lives: by lsm_process.bpf.c where that is in force, otherwise here, at
 * sched_prepare_exec (Linux 6.10). On older kernels without BPF LSM it is decided together with the arguments; then a rule's
 * source is what the task was last known by, or nobody.
 *
 * At most 64 arguments of 510 bytes each are read; what is longer takes the fail mode. Gaps: without BPF LSM a script's own rule
 * is not asked for, only its interpreter's; arguments that somebody who may trace the process writes into it afterwards.
 *
 * Minimum kernel 6.1 (tested). Without these programs a rule that names arguments takes the fail mode.
 */
#define PAL_OBJECT_BY_ADDRESS
#include "arguments.h"
#include "conditions.h"
#include "decide.h"
#include "observe.h"
#include "report.h"
#include "report_acts.h"

char _license[] SEC("license") = "GPL";

/* Nobody has decided before the new image is there. Set before loading. */
const volatile __u32 pal_decides_late = 0;
/* Set before loading, like in lsm_process.bpf.c. */
const volatile __u32 pal_host_mnt_ns = 0;

#define PAL_SIGKILL 9
#define PAL_ARGUMENT_WINDOW 512u
#define PAL_ARGUMENTS_MAX 64

static __always_inline bool pal_is_owner(struct file *file)
{
	return file->f_inode->i_uid.val == bpf_get_current_task_btf()->cred->fsuid.val;
}

/* Judges what is executed, by its file. The caller ends the act. */
static __always_inline void pal_judge_execution(struct pal_act *act, struct pal_subject *subject, struct linux_binprm *bprm)
{
	struct file *file = bprm->file;

	pal_act_begin(act, subject, PAL_FAMILY_PROCESS);
	act->object.vfsmount = (__u64)file->f_path.mnt;
	act->object.dentry = (__u64)file->f_path.dentry;
	act->modifiers = pal_terminal_modifier() | pal_veiled(pal_is_owner(file) ? PAL_MODIFIER_OWNER : 0);
	pal_judge_file(act);
}

/* Without BPF LSM only containers are held: the host's executions are nobody's business here. */
static __always_inline bool pal_is_judged(struct pal_subject *subject)
{
	pal_identify(subject);
	return subject->slot && pal_decides(subject, PAL_FAMILY_PROCESS) &&
	       (subject->phase != PAL_PHASE_RUNTIME ||
		pal_executes_inside(bpf_get_current_task_btf(), subject->kept, pal_host_mnt_ns));
}

static __noinline int pal_ask(struct linux_binprm *bprm, struct pal_subject *subject)
{
	struct pal_act act;

	pal_judge_execution(&act, subject, bprm);
	/* What could not be noted is found missing, and counted, where the storage is full (identity.h). */
	if (!pal_note_execution(bprm, &act, false))
		pal_count(PAL_COUNTER_TASK_STORAGE_FULL);
	pal_act_end(&act);
	return 0;
}

/* Attached where BPF LSM is not. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(ask_arguments, struct task_struct *task, struct linux_binprm *bprm)
{
	struct pal_subject subject;

	if (pal_is_idle(PAL_FAMILY_PROCESS) || !pal_is_judged(&subject))
		return 0;
	return pal_ask(bprm, &subject);
}

/* The arguments of the new image, one after the other. */
struct pal_reading {
	struct pal_act *act;
	__u64 at;
	__u64 end;
	__u32 skip;         /* arguments that do not count */
	__u32 alternatives; /* of the set, that all arguments so far hold */
	__u32 unread;       /* one cannot be read, or is too long */
	__u32 reserved;
};

static long pal_read_argument(__u32 index, void *context)
{
	struct pal_reading *reading = context;
	struct pal_act *act = reading->act;
	__u8 *window;
	long length;
	bool cut;

	if (reading->at >= reading->end)
		return 1;
	if (!act->scratch)
		return 1;
	window = act->scratch->path + PAL_PATH_SIZE - PAL_ARGUMENT_WINDOW;
	__builtin_memset(window, 0, PAL_ARGUMENT_WINDOW);
	length = bpf_probe_read_user_str(window, PAL_ARGUMENT_WINDOW, (const void *)reading->at);
	if (length < 0) {
		reading->unread = 1;
		return 1;
	}
	/* Before Linux 6.13 an empty string gives 0, its NUL uncounted. */
	length += !length;
	/* Its last byte may be a NUL that was written, not read. */
	cut = length == PAL_ARGUMENT_WINDOW;
	reading->at += length - cut;
	if (reading->skip) {
		reading->skip -= !cut;
		return 0;
	}
	if (cut) {
		reading->unread = 1;
		return 1;
	}
	reading->alternatives &= pal_match_argument(act, PAL_PATH_SIZE - PAL_ARGUMENT_WINDOW);
	return !reading->alternatives;
}

/*
 * `argc`: how many the caller gave when the word was decided. A script's own come last: what the kernel put before them are the
 * interpreter, its option and the script, for the caller's argv[0].
 */
static __noinline void pal_judge_arguments_of(struct pal_act *act, struct linux_binprm *bprm, __u32 argc)
{
	struct mm_struct *mm = bpf_get_current_task_btf()->mm;
	struct pal_reading reading = {
		.act = act,
		.at = mm->arg_start,
		.end = mm->arg_end,
		.skip = bprm->argc - argc + 1,
		.alternatives = pal_veiled(~0u),
		.unread = pal_veiled(0),
	};

	/* Without an argument there is none of the listed ones. */
	if (argc <= 1)
		reading.alternatives = 0;
	else
		bpf_loop(PAL_ARGUMENTS_MAX, pal_read_argument, &reading, 0);
	if (reading.alternatives && (reading.unread || reading.at < reading.end))
		pal_fail(act, PAL_UNREADABLE);
	else
		pal_settle_arguments(act, reading.alternatives);
}

static __always_inline void pal_report_arguments(struct pal_act *act, struct linux_binprm *bprm)
{
	struct pal_verdict verdict = {
		.word = act->word,
		.family = PAL_FAMILY_PROCESS,
		.fail_reason = pal_fail_reason(act),
		.tier = PAL_TIER_AUDIT,
		.outcome = PAL_OUTCOME_OBSERVED,
	};

	if (pal_is_denied(act)) {
		verdict.tier = PAL_TIER_KILL;
		verdict.outcome = bpf_send_signal(PAL_SIGKILL) ? PAL_OUTCOME_UNENFORCEABLE : PAL_OUTCOME_KILLED;
	}
	pal_emit_executed(act->subject, bprm, &verdict);
}

/* One word that waits. */
static __noinline int pal_hold_arguments(struct pal_subject *subject, struct linux_binprm *bprm, __u32 word, __u32 argc)
{
	struct pal_act act;

	pal_act_begin(&act, subject, PAL_FAMILY_PROCESS);
	act.word = word;
	act.naming = pal_veiled(act.scratch ? PAL_NAMED : PAL_NO_SCRATCH);
	if (!act.scratch || !word)
		pal_fail(&act, act.scratch ? PAL_UNREADABLE : PAL_NO_SCRATCH);
	else
		pal_judge_arguments_of(&act, bprm, argc);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_arguments(&act, bprm);
	pal_act_end(&act);
	return 0;
}

/* More words than are kept, or the policy changed between the two looks: its sets are not those that the words name. */
#define PAL_WORD_LOST 0u

struct pal_holding {
	struct pal_subject *subject;
	struct pal_asked *asked;
	struct linux_binprm *bprm;
	__u32 lost;
	__u32 reserved;
};

static long pal_hold_next(__u32 index, void *context)
{
	struct pal_holding *holding = context;
	__u32 at = index & (PAL_ASKED_MAX - 1);

	pal_hold_arguments(holding->subject, holding->bprm, holding->lost ? PAL_WORD_LOST : holding->asked->words[at],
			   holding->asked->argc[at]);
	return holding->lost & 1;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(judge_arguments, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct pal_holding holding;
	struct pal_subject subject;
	struct pal_asked *asked;
	__u32 count;

	if (pal_decides_late && !pal_is_idle(PAL_FAMILY_PROCESS) && pal_is_judged(&subject))
		pal_ask(bprm, &subject);
	if (!pal_has_asked())
		return 0;
	asked = bpf_task_storage_get(&asked_executions, task, NULL, 0);
	if (!asked || asked->execution != (__u64)bprm || !asked->count)
		return 0;
	count = asked->count;
	asked->count = 0;
	pal_identify(&subject);
	/* Asked under a policy that is gone, perhaps by an execution that failed and whose bprm lay where this one's does. */
	if (!pal_decides(&subject, PAL_FAMILY_PROCESS))
		return 0;
	holding.subject = &subject;
	holding.asked = asked;
	holding.bprm = bprm;
	holding.lost = pal_veiled(count > PAL_ASKED_MAX || subject.policy != asked->policy);
	bpf_loop(count > PAL_ASKED_MAX ? 1 : count, pal_hold_next, &holding, 0);
	return 0;
}

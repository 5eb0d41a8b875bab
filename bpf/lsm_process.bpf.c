// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Executables on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * Arguments lie in pages that nobody can read at bprm_check_security: a word that depends on them is noted there and held by
 * arguments.bpf.c, by a kill before the first instruction.
 *
 * Gaps (matrix/families.rs says the same): a file that was hard-linked before the policy has another name. An owner is the inode's raw user, on idmapped mounts too.
 */
#include "arguments.h"
#include "lsm.h"

char LICENSE[] SEC("license") = "GPL";

/* Inode number of the host's mount namespace. Set before loading. */
const volatile __u32 pal_host_mnt_ns = 0;
/* arguments.bpf.c is attached: what waits for its arguments is held there. Set before loading. */
const volatile __u32 pal_arguments_judged = 0;

/*
 * A word that waits for arguments is no verdict yet: they lie in pages that nobody can read here. Where nobody will look at them
 * later, they cannot be judged.
 */
static __always_inline void pal_wait_for_arguments(struct pal_act *act, struct linux_binprm *bprm)
{
	bool noted = pal_note_execution(bprm, act, bprm->interp != bprm->filename);

	if (!pal_awaits_arguments(act))
		return;
	if (pal_arguments_judged && noted)
		act->word = pal_veiled(PAL_EFFECT_PERMIT);
	else
		pal_fail(act, PAL_UNREADABLE);
}

static __noinline int pal_judge_exec(struct linux_binprm *bprm, struct pal_subject *subject)
{
	struct file *file = bprm->file;
	struct pal_verdict verdict;
	struct pal_text path;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_PROCESS);
	pal_act_on(&act, file);
	act.modifiers = pal_owner_modifier(file->f_inode) | pal_terminal_modifier();
	pal_judge_file(&act);
	pal_wait_for_arguments(&act, bprm);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT) {
		pal_lsm_verdict(&act, &verdict);
		pal_judged_path(&act, &path);
		pal_emit_exec(subject, &path, bprm, &verdict, false);
	}
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

SEC("lsm/bprm_check_security")
int BPF_PROG(judge_exec, struct linux_binprm *bprm, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_PROCESS) || !pal_is_decided(&subject, PAL_FAMILY_PROCESS))
		return earlier;
	if (subject.phase == PAL_PHASE_RUNTIME &&
	    !pal_executes_inside(bpf_get_current_task_btf(), subject.kept, pal_host_mnt_ns))
		return 0;
	return pal_judge_exec(bprm, &subject);
}

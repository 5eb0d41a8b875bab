// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Executables on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * Arguments lie in pages that nobody can read at bprm_check_security: a word that depends on them is noted there and held by
 * arguments.bpf.c, by a kill before the first instruction.
 *
 * Code that is mapped from a file is executed by whoever maps it (ld.so /path/program, an ELF interpreter, dlopen(3)): Block rules hold
 * for it too. Postures, audits and rules with allowedArgs do not: an allow-list of executables would have to name every library, each
 * execution would be told twice, and a mapping has no arguments.
 *
 * Gaps (matrix/families.rs says the same): code that is mapped by a name that cannot be told; a file that was hard-linked before the
 * policy has another name. An owner is the inode's raw user, on idmapped mounts too.
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

/* ---- code that is mapped from files ---- */

static __noinline __u32 pal_judge_code(struct file *file, struct pal_subject *subject)
{
	struct pal_act act;
	__u32 word;

	pal_act_begin(&act, subject, PAL_FAMILY_PROCESS);
	pal_act_on(&act, file);
	act.modifiers = pal_owner_modifier(file->f_inode) | pal_terminal_modifier();
	pal_judge_file(&act);
	word = act.naming == PAL_NAMED ? act.word : pal_veiled(PAL_EFFECT_PERMIT);
	pal_act_end(&act);
	return word;
}

static __always_inline bool pal_is_blocked_by_rule(__u32 word)
{
	return (word & PAL_DECISION_EFFECT_MASK) == PAL_EFFECT_BLOCK && !(word & PAL_DECISION_BY_POSTURE) && !PAL_DECISION_ARGUMENTS(word);
}

static __noinline int pal_tell_code(struct pal_subject *subject, struct file *file, __u32 word, __u32 number)
{
	struct pal_verdict verdict = {
		.word = word,
		.tier = PAL_TIER_BPF_LSM,
		.outcome = PAL_OUTCOME_DENIED,
		.fail_reason = PAL_FAIL_NONE,
		.family = PAL_FAMILY_PROCESS,
	};

	pal_emit_code(subject, (__u64)file, number, &verdict);
	return 0;
}

static __always_inline int pal_map_code(struct pal_subject *subject, struct file *file, __u32 number)
{
	__u32 word = pal_judge_code(file, subject);

	if (!pal_is_blocked_by_rule(word))
		return 0;
	pal_tell_code(subject, file, word, number);
	pal_count(PAL_COUNTER_DENIED);
	return -PAL_EACCES;
}

/* `file` may be NULL (MMAP_PAGE_ZERO makes such a mapping without MAP_ANONYMOUS). */
SEC("lsm/mmap_file")
int BPF_PROG(judge_map, struct file *file, unsigned long asked, unsigned long protection, unsigned long flags, int earlier)
{
	struct pal_subject subject;

	if (earlier || !(protection & PAL_PROT_EXEC) || flags & PAL_MAP_ANONYMOUS || pal_is_idle(PAL_FAMILY_PROCESS) ||
	    !pal_has_first_argument(ctx) || !pal_is_judged(&subject, PAL_FAMILY_PROCESS))
		return earlier;
	return pal_map_code(&subject, file, PAL_CALL_MMAP);
}

/* A file's pages that were mapped to be read, and are to be executed from now on. */
SEC("lsm/file_mprotect")
int BPF_PROG(judge_protection, struct vm_area_struct *area, unsigned long asked, unsigned long protection, int earlier)
{
	struct file *file = area->vm_file;
	struct pal_subject subject;

	if (earlier || !file || !(protection & PAL_PROT_EXEC) || area->vm_flags & PAL_VM_EXEC || pal_is_idle(PAL_FAMILY_PROCESS) ||
	    !pal_is_judged(&subject, PAL_FAMILY_PROCESS))
		return earlier;
	return pal_map_code(&subject, file, PAL_CALL_MPROTECT);
}

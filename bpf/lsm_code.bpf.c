// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Code that is mapped from files, on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * It is executed by whoever maps it (ld.so /path/program, an ELF interpreter, dlopen(3)): Block rules hold
 * for it too. Postures, audits and rules with allowedArgs do not: an allow-list of executables would have to name every library, each
 * execution would be told twice, and a mapping has no arguments.
 *
 * Gap (matrix/families.rs says the same): code whose file cannot be named.
 */
#define PAL_OBJECT_BY_ADDRESS
#include "lsm.h"

char LICENSE[] SEC("license") = "GPL";

static __noinline __u32 pal_judge_code(struct file *file, struct pal_subject *subject)
{
	struct pal_act act;
	__u32 word;

	pal_act_begin(&act, subject, PAL_FAMILY_PROCESS);
	pal_place_of_mapped(file, &act.object);
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
	struct pal_place place;
	struct pal_verdict verdict = {
		.word = word,
		.tier = pal_hook_tier,
		.outcome = PAL_OUTCOME_DENIED,
		.fail_reason = PAL_FAIL_NONE,
		.family = PAL_FAMILY_PROCESS,
	};

	pal_place_of_mapped(file, &place);
	pal_emit_code(subject, &place, number, &verdict);
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

/*
 * The executable itself, which execve(2) maps and was judged for. Only while that lasts: later a task can have another file for its
 * executable (prctl(PR_SET_MM_EXE_FILE)).
 */
static __always_inline bool pal_is_executed(struct file *file)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct mm_struct *mm = task->mm;

	if (!bpf_core_field_exists(task->in_execve) || !BPF_CORE_READ_BITFIELD(task, in_execve))
		return false;
	return mm && (__u64)mm->exe_file == (__u64)file;
}

/*
 * `file` may be NULL (MMAP_PAGE_ZERO makes such a mapping without MAP_ANONYMOUS). The executed file's address is only compared, and
 * that is asked first: it is asked at each execution.
 */
static __always_inline int pal_judge_map(unsigned long long *ctx, struct file *file, unsigned long protection, unsigned long flags)
{
	struct pal_subject subject;

	if (!(protection & PAL_PROT_EXEC) || flags & PAL_MAP_ANONYMOUS || pal_is_idle(PAL_FAMILY_PROCESS) ||
	    !file || pal_is_executed(file) || !pal_has_first_argument(ctx) || !pal_is_judged(&subject, PAL_FAMILY_PROCESS))
		return 0;
	return pal_map_code(&subject, file, PAL_CALL_MMAP);
}

SEC("lsm/mmap_file")
int BPF_PROG(judge_map, struct file *file, unsigned long asked, unsigned long protection, unsigned long flags, int earlier)
{
	return earlier ? earlier : pal_judge_map(ctx, file, protection, flags);
}

/* Before security_mmap_file(): see pal_mapped_protection. */
SEC("fentry/security_mmap_file")
int BPF_PROG(judge_map_asked, struct file *file, unsigned long asked, unsigned long flags, int earlier)
{
	return earlier ? earlier : pal_judge_map(ctx, file, pal_mapped_protection((__u64)file, asked), flags);
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

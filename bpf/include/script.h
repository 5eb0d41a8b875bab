/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Which script an execution is of: the file itself, not the name that the caller gave.
 *
 * When the kernel follows `#!` it lets the script go and goes on with the interpreter; once the new image is there, nothing of
 * the bprm leads to the script any more. But a task that lets a file go does not free it: the file waits among the task's works
 * until the task returns to user space, which is after sched_process_exec. So the file is found there by a hook that runs before
 * the old image is taken apart, when the only files among the works that were opened to be executed are this execution's
 * scripts: they were let go in this very system call, and afterwards so may the old image's own files be. The first that was let
 * go lies deepest: the works are a stack.
 *
 * Decision: found once it is known that there is an interpreter, not noted of each execution, because almost none has one and
 * each would pay for it. By the work's function, whose address user space reads from the kernel's symbols: a work is a file only
 * by that.
 */
#ifndef PALISADE_SCRIPT_H
#define PALISADE_SCRIPT_H

#include "observe.h"

/* Before the old image is gone a task has few: a script of a script has two, and the scheduler may add one. */
#define PAL_WORKS_MAX 32

/* Address of ____fput, the work that frees a file; 0 where the kernel does not show it. Set before loading. */
const volatile __u64 pal_file_release = 0;

struct pal_script {
	__u64 execution; /* address of the bprm; 0: nothing is noted */
	__u64 file;      /* of the first script */
	__u32 count;     /* scripts, each the interpreter of the one before */
	__u32 reserved;
};

struct pal_work {
	__u64 next;
	__u64 function;
};

static __always_inline __u32 pal_work_of_file(void)
{
	if (bpf_core_field_exists(struct file, f_task_work))
		return bpf_core_field_offset(struct file, f_task_work);
	return bpf_core_field_offset(struct file___before_6_7, f_rcuhead);
}

static __always_inline bool pal_is_let_go(__u64 file, const struct pal_work *work)
{
	return work->function == pal_file_release && BPF_CORE_READ((struct file *)file, f_flags) & PAL_FMODE_EXEC;
}

/*
 * The deepest file among the current task's works that was opened to be executed, and how many there are; 0 where not all could be seen. A
 * global function, for what comes after would be verified for each work that is looked at.
 */
pal_global int pal_find_scripts(struct pal_script *script)
{
	__u64 at = (__u64)bpf_get_current_task_btf()->task_works;

	if (!script)
		return 0;
	for (__u32 i = 0; i < PAL_WORKS_MAX; i++) {
		struct pal_work work;
		__u64 file;

		if (!at)
			return 1;
		if (bpf_probe_read_kernel(&work, sizeof(work), (void *)at))
			return 0;
		file = at - pal_work_of_file();
		if (pal_is_let_go(file, &work)) {
			script->file = file;
			script->count++;
		}
		at = work.next;
	}
	return 0;
}

/*
 * The first script of an execution whose last interpreter is in `bprm`; false where there is none, or it cannot be known. Only before
 * the old image is taken apart.
 */
static __always_inline bool pal_script_of(struct pal_script *found, struct linux_binprm *bprm)
{
	__u64 executable;

	if (bprm->interp == bprm->filename || !pal_file_release || !pal_find_scripts(found))
		return false;
	executable = (__u64)bprm->executable;
	if (executable) {
		found->count++;
		if (!found->file)
			found->file = executable;
	}
	return found->file;
}

#endif

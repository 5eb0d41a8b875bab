/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * From the hook that finds a script (script.h) to the record of its execution, which is made when the new image is there: the
 * file's address is noted with the bprm's, and climbed at sched_process_exec.
 *
 * Invariant: what is noted is alive when it is climbed, or is not climbed. A task that uses io_uring does its works in the midst
 * of an execution (io_uring_task_cancel), so that nothing is noted of it; nobody else makes a task do them meanwhile, for
 * ptrace's stop at an execution comes after the tracepoint. A note is for one bprm; each execution takes away what an earlier one,
 * which failed, left, and what is climbed still waits to be freed.
 *
 * The map is not pinned: a note must not outlive the programs that keep it true.
 *
 * Without the hook, without the symbol and with io_uring the record has the caller's own words (record.h), and says so. So it has of a
 * file whose descriptor binfmt_misc gives to the interpreter (its flags O and C): such a file is not let go, and `bprm` has parted with
 * it by then.
 */
#ifndef PALISADE_SCRIPT_NOTE_H
#define PALISADE_SCRIPT_NOTE_H

#include "script.h"

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pal_script);
} scripts SEC(".maps");

/* Before the old image is gone, with its last interpreter in `bprm`. */
static __always_inline void pal_note_script(struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	bool keeps_works = !(bpf_core_field_exists(task->io_uring) && task->io_uring);
	struct pal_script *noted, found = {};

	if (keeps_works && pal_script_of(&found, bprm))
		found.execution = (__u64)bprm;
	noted = bpf_task_storage_get(&scripts, task, NULL, found.execution ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!noted)
		return;
	noted->execution = found.execution;
	noted->file = found.file;
	noted->count = found.count;
}

static __always_inline bool pal_is_noted(const struct pal_script *noted, struct linux_binprm *bprm)
{
	struct pal_work work;

	if (!noted || !noted->execution || noted->execution != (__u64)bprm)
		return false;
	return !bpf_probe_read_kernel(&work, sizeof(work), (void *)noted->file + pal_work_of_file()) &&
	       pal_is_let_go(noted->file, &work);
}

/* At sched_process_exec: what was interpreted, by the file where it was noted. */
static __always_inline void pal_append_script(struct pal_record_buffer *buffer, struct pal_record_exec *body, struct linux_binprm *bprm)
{
	struct pal_script *noted;

	pal_append_asked(buffer, body, bprm, false);
	if (!body->script.len && !body->script.flags)
		return;
	noted = bpf_task_storage_get(&scripts, bpf_get_current_task_btf(), NULL, 0);
	if (!pal_is_noted(noted, bprm) || body->script.flags & PAL_SPAN_CUT)
		return;
	/* In the place of the caller's words. */
	buffer->at -= body->script.len;
	body->scripts = noted->count;
	pal_append_file(buffer, &body->script, noted->file);
	noted->execution = 0;
}

#endif

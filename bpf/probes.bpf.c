// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation: what makes chains of processes, and the way from a system call's exit to the program that looks at it.
 *
 * Filtered before anything is read: a system call that no record kind stands for leaves after one load from a table
 * (calls.h), a task whose workload asked for nothing leaves after its identity is known. What is looked at is handed on by a
 * tail call: each group of calls is a program of its own (probes_*.bpf.c), with a verifier budget and 512 bytes of stack of
 * its own, and may be refused alone; then its records are not made.
 *
 * Objects come from the kernel after the act, not from the arguments before it: the opened file is the one behind the new
 * descriptor, the destination is the socket's, so that another thread that changes the arguments meanwhile changes nothing
 * here. What remains: the descriptor itself can be replaced by another thread between the call's work and its exit. Names
 * that are gone after the act are the user's own strings, and marked so (record.h).
 *
 * Not seen: opens by a kernel thread; what io_uring does beyond the request as it was taken in (probes_kernel.bpf.c).
 *
 * Minimum kernel 6.1 (tested; BTF tracepoints are there from 5.5, task storage in them from 5.11, bpf_loop from 5.17).
 * Without BTF tracepoints none of this can be loaded, and the node observes nothing but DNS. Each program can be left out:
 * then its kind of record is not made, and nothing else changes.
 */
#include "credentials.h"
#include "emit_calls.h"
#include "fold.h"
#include "observe.h"
#include "script_note.h"

char _license[] SEC("license") = "GPL";

struct pal_fork_record {
	struct pal_record_head head;
	struct pal_record_fork body;
};

struct pal_exit_record {
	struct pal_record_head head;
	struct pal_record_exit body;
};

/* Linux 6.10. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(note_script, struct task_struct *task, struct linux_binprm *bprm)
{
	pal_note_script(bprm);
	return 0;
}

/* Where that tracepoint is not: the hook is asked about each file of an execution, the last one after all its scripts. */
SEC("lsm/bprm_check_security")
int BPF_PROG(note_interpreter, struct linux_binprm *bprm, int earlier)
{
	pal_note_script(bprm);
	return earlier;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(observe_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct pal_subject subject;
	struct pal_record_buffer *buffer;
	struct pal_record_exec *body;

	pal_identify(&subject);
	if (pal_wanted(&subject, PAL_RECORD_CREDENTIALS))
		pal_credentials_look(task);
	if (!pal_wanted(&subject, PAL_RECORD_EXEC) || !pal_within_rate(subject.slot, PAL_RECORD_EXEC))
		return 0;
	buffer = pal_record_take(PAL_RECORD_EXEC, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_EXEC, &subject);
	body->argument_count = bprm->argc;
	body->tty = pal_tty_of(task);
	pal_append_path(buffer, &body->path, (__u64)bprm->file->f_path.mnt, (__u64)bprm->file->f_path.dentry);
	pal_append_path(buffer, &body->cwd, (__u64)task->fs->pwd.mnt, (__u64)task->fs->pwd.dentry);
	pal_append_arguments(buffer, &body->arguments, task);
	pal_append_script(buffer, body, bprm);
	pal_record_send(buffer);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(observe_fork, struct task_struct *parent, struct task_struct *child)
{
	struct pal_fork_record *record;
	struct pal_subject subject;
	struct pal_ticket ticket;

	pal_identify(&subject);
	if (pal_wanted(&subject, PAL_RECORD_CREDENTIALS))
		pal_credentials_look(child);
	if (child->pid != child->tgid)
		return 0; /* a thread: process chains do not need it */
	if (!pal_wanted(&subject, PAL_RECORD_FORK) || !pal_within_rate(subject.slot, PAL_RECORD_FORK))
		return 0;
	record = pal_reserve(&ticket, PAL_RECORD_FORK, sizeof(*record));
	if (!record)
		return 0;
	pal_describe(&record->head, PAL_RECORD_FORK, &subject);
	record->body.child_tgid = child->tgid;
	record->body.child_tid = child->pid;
	record->body.child_start_ns = child->start_boottime;
	record->body.child_own_tgid = pal_own_number_of(child);
	record->body.child_pid_ns = pal_pid_ns_of(child);
	pal_submit(&ticket, &record->head, sizeof(*record));
	return 0;
}

/*
 * The last threads of a process can both find that none is left: each counts itself out before it comes here, and 6.1 does
 * not tell which was the last. So the first one claims the process's exit.
 */
struct pal_exit_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096); /* exits that can be under way at once; of processes with threads only */
	__type(key, struct pal_exit_key);
	__type(value, __u32);
} exits SEC(".maps");

static __always_inline bool pal_is_first_to_tell(struct task_struct *task)
{
	struct pal_exit_key key = { .start_ns = task->group_leader->start_boottime, .tgid = task->tgid };
	__u32 told = 1;

	return !bpf_map_update_elem(&exits, &key, &told, BPF_NOEXIST);
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(observe_exit, struct task_struct *task)
{
	struct pal_exit_record *record;
	struct pal_subject subject;
	struct pal_ticket ticket;

	if (task->signal->live.counter)
		return 0; /* other threads of the process live on */
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_EXIT) || !pal_is_first_to_tell(task))
		return 0;
	if (!pal_within_rate(subject.slot, PAL_RECORD_EXIT))
		return 0;
	record = pal_reserve(&ticket, PAL_RECORD_EXIT, sizeof(*record));
	if (!record)
		return 0;
	pal_describe(&record->head, PAL_RECORD_EXIT, &subject);
	record->body.status = pal_wait_status_of(task);
	record->body.reserved = 0;
	pal_submit(&ticket, &record->head, sizeof(*record));
	return 0;
}

/* Index: enum pal_call_group. A place is empty where the kernel refused the program, or where it was not loaded. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, PAL_CALL_GROUPS);
	__type(key, __u32);
	__type(value, __u32);
} calls SEC(".maps");

/* No function is called from here: a tail call out of one would cost each system call a larger stack. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_call, struct pt_regs *regs, long result)
{
	__u32 group = pal_call_of(regs);

	if (pal_wanted_anywhere(PAL_RECORD_SYSCALL))
		group = PAL_CALL_EVERY;
	if (group)
		bpf_tail_call(ctx, &calls, group);
	return 0;
}

static __noinline void pal_observe_syscall(struct pt_regs *regs, long result)
{
	const struct pal_observation *settings = pal_observation_of();
	__u64 arguments[PAL_CALL_ARGUMENTS];
	bool compat = pal_in_compat();
	struct pal_subject subject;
	struct pal_digest digest;
	__u64 now;

	pal_identify(&subject);
	if (!settings || !pal_wanted(&subject, PAL_RECORD_SYSCALL))
		return;
	pal_read_arguments(arguments, regs, compat);
	now = bpf_ktime_get_boot_ns();
	pal_digest_begin(&digest, settings, PAL_RECORD_SYSCALL);
	pal_digest_word(&digest, pal_raw_number(regs) ^ (__u64)compat << 63);
	for (int i = 0; i < PAL_CALL_ARGUMENTS; i++)
		pal_digest_word(&digest, arguments[i]);
	pal_digest_word(&digest, result < 0 ? result : 0);
	if (pal_admit(&subject, PAL_RECORD_SYSCALL, pal_digest_end(&digest), now))
		pal_emit_syscall(&subject, regs, result, now, NULL);
}

/* Only while some slot wants every system call; then hands the call on to where it would have gone. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_every_call, struct pt_regs *regs, long result)
{
	__u32 group = pal_call_of(regs);

	pal_observe_syscall(regs, result);
	if (group)
		bpf_tail_call(ctx, &calls, group);
	return 0;
}

static long pal_sweep_place(__u32 index, void *context)
{
	const __u64 *before = context;
	struct pal_fold *fold = bpf_map_lookup_elem(&folds, &index);

	if (!fold || !*(volatile __u32 *)&fold->repeats || fold->of_boot_ns >= *before || !pal_fold_lock(fold))
		return 0;
	if (fold->repeats && fold->of_boot_ns < *before) {
		pal_fold_send(fold);
		fold->repeats = 0;
		fold->digest = 0;
	}
	pal_fold_unlock(fold);
	return 0;
}

/*
 * Sends what was folded onto records from before `context->args[0]`, boot-time nanoseconds. Never attached: user space runs
 * it by BPF_PROG_TEST_RUN, for nobody else comes by once an act is not repeated.
 */
SEC("raw_tp/sys_enter")
int sweep_folds(struct bpf_raw_tracepoint_args *context)
{
	__u64 before = context->args[0];

	bpf_loop(PAL_FOLDS, pal_sweep_place, &before, 0);
	return 0;
}

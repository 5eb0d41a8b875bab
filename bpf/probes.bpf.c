// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation: what workloads execute, fork, open, connect to and trace, as records (record.h).
 *
 * Filtered before anything is read: a system call that no record kind stands for leaves after comparing its number, a task
 * whose workload asked for nothing leaves after its identity is known.
 *
 * Objects come from the kernel after the act, not from the arguments before it: the opened file is the one behind the new
 * descriptor, the destination is the socket's, so that another thread that changes the arguments meanwhile changes nothing
 * here. What remains: the descriptor itself can be replaced by another thread between the call's work and its exit.
 *
 * Not seen: opens and connects by io_uring (no system call of their own), and opens by a kernel thread.
 *
 * Minimum kernel 6.1 (tested; BTF tracepoints are there from 5.5, task storage in them from 5.11, bpf_loop from 5.17).
 * Without BTF tracepoints none of this can be loaded, and the node observes nothing. Each program can be left out: then
 * its kind of record is not made, and nothing else changes.
 */
#include "core.h"
#include "emit.h"
#include "walk.h"
#include "observe.h"

char _license[] SEC("license") = "GPL";

struct pal_fork_record {
	struct pal_record_head head;
	struct pal_record_fork body;
};

struct pal_exit_record {
	struct pal_record_head head;
	struct pal_record_exit body;
};

SEC("tp_btf/sched_process_exec")
int BPF_PROG(observe_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct pal_subject subject;
	struct pal_record_buffer *buffer;
	struct pal_record_exec *body;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_EXEC))
		return 0;
	buffer = pal_record_take(PAL_RECORD_EXEC, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_EXEC, &subject, task);
	body->argument_count = bprm->argc;
	body->tty = pal_tty_of(task);
	pal_append_path(buffer, &body->path, (__u64)bprm->file->f_path.mnt, (__u64)bprm->file->f_path.dentry);
	pal_append_path(buffer, &body->cwd, (__u64)task->fs->pwd.mnt, (__u64)task->fs->pwd.dentry);
	pal_append_arguments(buffer, &body->arguments, task);
	pal_record_send(buffer);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(observe_fork, struct task_struct *parent, struct task_struct *child)
{
	struct pal_fork_record *record;
	struct pal_subject subject;
	struct pal_ticket ticket;

	if (child->pid != child->tgid)
		return 0; /* a thread: process chains do not need it */
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_FORK))
		return 0;
	record = pal_reserve(&ticket, PAL_RECORD_FORK, sizeof(*record));
	if (!record)
		return 0;
	pal_describe(&record->head, PAL_RECORD_FORK, &subject, parent);
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
	record = pal_reserve(&ticket, PAL_RECORD_EXIT, sizeof(*record));
	if (!record)
		return 0;
	pal_describe(&record->head, PAL_RECORD_EXIT, &subject, task);
	record->body.status = pal_wait_status_of(task);
	record->body.reserved = 0;
	pal_submit(&ticket, &record->head, sizeof(*record));
	return 0;
}

static __noinline void observe_open(struct pt_regs *regs, long result)
{
	struct pal_subject subject;
	struct pal_record_buffer *buffer;
	struct pal_record_open *body;
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_call call;
	__u64 file;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_OPEN))
		return;
	pal_call_read(&call, regs, result);
	buffer = pal_record_take(PAL_RECORD_OPEN, sizeof(*body));
	if (!buffer)
		return;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_OPEN, &subject, task);
	body->flags = pal_open_flags_of(&call);
	body->result = result;
	file = result >= 0 ? pal_file_of_descriptor(task, result) : 0;
	if (file)
		pal_append_file(buffer, &body->path, file);
	else
		pal_append_user_string(buffer, &body->path, (const void *)pal_open_name_of(&call));
	pal_record_send(buffer);
}

static __noinline void observe_socket(struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = PAL_NETWORK_SOCKET, .result = result };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket = 0;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_SOCKET))
		return;
	pal_call_read(&call, regs, result);
	if (result >= 0)
		socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), result);
	if (socket)
		pal_endpoint_of_socket(&endpoint, socket);
	else
		pal_endpoint_of_arguments(&endpoint, &call);
	pal_emit_network(&subject, &endpoint, &act, NULL);
}

static __noinline void observe_connect(struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = PAL_NETWORK_CONNECT, .result = result };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_CONNECT))
		return;
	pal_call_read(&call, regs, result);
	socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), call.arguments[0]);
	if (!socket)
		return; /* not a socket: nothing was connected */
	pal_endpoint_of_socket(&endpoint, socket);
	if (result == 0 || result == -PAL_EINPROGRESS) {
		pal_endpoint_peer(&endpoint, socket);
	} else {
		pal_endpoint_user(&endpoint, (const void *)call.arguments[1], call.arguments[2]);
		act.flags = PAL_NETWORK_USER;
	}
	pal_emit_network(&subject, &endpoint, &act, NULL);
}

/* After the call: a target that it killed or released is found all the same as long as its pid is not reused. */
static __noinline void observe_ptrace(struct pt_regs *regs, long result)
{
	struct pal_subject subject;
	struct pal_record_buffer *buffer;
	struct pal_record_ptrace *body;
	struct pal_call call;
	__u64 task;

	pal_call_read(&call, regs, result);
	if (!pal_ptrace_begins(call.arguments[0]))
		return; /* of a process that is traced already */
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_PTRACE))
		return;
	task = pal_ptrace_target(&call);
	buffer = pal_record_take(PAL_RECORD_PTRACE, sizeof(*body));
	if (!buffer)
		return;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_PTRACE, &subject, bpf_get_current_task_btf());
	pal_describe_target(body, task, &call);
	if (task)
		pal_append_executable(buffer, &body->target_exe, task);
	else
		pal_span_set(&body->target_exe, 0, 0, PAL_SPAN_UNREADABLE);
	pal_record_send(buffer);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_call, struct pt_regs *regs, long result)
{
	switch (pal_call_of(regs)) {
	case PAL_CALL_OPEN:
		observe_open(regs, result);
		break;
	case PAL_CALL_SOCKET:
		observe_socket(regs, result);
		break;
	case PAL_CALL_CONNECT:
		observe_connect(regs, result);
		break;
	case PAL_CALL_PTRACE:
		observe_ptrace(regs, result);
		break;
	default:
		break;
	}
	return 0;
}

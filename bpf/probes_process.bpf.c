// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation of what a process does to others and to its own standing: tracing, memory of others, signals, ids and
 * capabilities, namespaces. See probes.bpf.c for how calls come here and record.h for where each field comes from.
 */
#include "credentials.h"
#include "fold.h"
#include "observe.h"
#include "emit_calls.h"
#include "capability.h"

char _license[] SEC("license") = "GPL";

/* ---- others ---- */

/* After the call: a target that it killed or released is found all the same as long as its pid is not reused. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_ptrace, struct pt_regs *regs, long result)
{
	struct pal_subject subject;
	struct pal_record_buffer *buffer;
	struct pal_record_ptrace *body;
	struct pal_call call;
	__u64 task;

	pal_call_read(&call, regs, result);
	if (!pal_ptrace_begins(call.arguments[0]))
		return 0; /* of a process that is traced already */
	if (!pal_observes(&subject, PAL_RECORD_PTRACE))
		return 0;
	task = pal_ptrace_target(&call);
	buffer = pal_record_take(PAL_RECORD_PTRACE, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_PTRACE, &subject);
	pal_describe_target(body, task, &call);
	if (task)
		pal_append_executable(buffer, &body->target_exe, task);
	else
		pal_span_set(&body->target_exe, 0, 0, PAL_SPAN_UNREADABLE);
	pal_observed(buffer, &subject, PAL_RECORD_PTRACE);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_process_access, struct pt_regs *regs, long result)
{
	struct pal_record_process_access *body;
	struct pal_record_buffer *buffer;
	struct pal_subject subject;
	struct task_struct *target;
	struct pal_call call;

	if (!pal_observes(&subject, PAL_RECORD_PROCESS_ACCESS))
		return 0;
	pal_call_read(&call, regs, result);
	target = (struct task_struct *)pal_task_by_number(bpf_get_current_task_btf(), call.arguments[0]);
	buffer = pal_record_take(PAL_RECORD_PROCESS_ACCESS, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_PROCESS_ACCESS, &subject);
	__builtin_memset(body, 0, sizeof(*body));
	body->result = call.compat ? (__s32)result : result;
	body->operation = call.variant == PAL_VARIANT_WRITE ? PAL_PROCESS_ACCESS_WRITE : PAL_PROCESS_ACCESS_READ;
	if (target) {
		body->target_tgid = BPF_CORE_READ(target, tgid);
		body->target_tid = BPF_CORE_READ(target, pid);
		body->target_slot = pal_slot_of_cgroup(BPF_CORE_READ(target, cgroups, dfl_cgrp, kn, id));
		body->target_start_ns = BPF_CORE_READ(target, group_leader, start_boottime);
		pal_append_executable(buffer, &body->target_exe, (__u64)target);
	} else {
		pal_span_set(&body->target_exe, 0, 0, PAL_SPAN_UNREADABLE);
	}
	pal_observed(buffer, &subject, PAL_RECORD_PROCESS_ACCESS);
	return 0;
}

/* ---- signals ---- */

struct pal_signal_record {
	struct pal_record_head head;
	struct pal_record_signal body;
};

static __noinline void pal_observe_signal(const struct pal_subject *subject, const struct pal_record_signal *signal)
{
	const struct pal_observation *settings = pal_observation_of();
	struct pal_signal_record *record;
	struct pal_digest digest;
	struct pal_ticket ticket;
	__u64 value = 0, now = bpf_ktime_get_boot_ns();

	if (settings && settings->fold_window_ns) {
		pal_digest_begin(&digest, settings, PAL_RECORD_SIGNAL);
		pal_digest_word(&digest, (__u64)signal->signal << 32 | (__u32)signal->result);
		pal_digest_word(&digest, (__u64)signal->target_tid << 32 | (__u32)signal->asked);
		pal_digest_word(&digest, signal->target_start_ns);
		value = pal_digest_end(&digest);
	}
	if (!pal_admit(subject, PAL_RECORD_SIGNAL, value, now))
		return;
	record = pal_reserve(&ticket, PAL_RECORD_SIGNAL, sizeof(*record));
	if (!record)
		return;
	pal_describe(&record->head, PAL_RECORD_SIGNAL, subject);
	record->head.boot_ns = now;
	__builtin_memcpy(&record->body, signal, sizeof(record->body));
	pal_submit(&ticket, &record->head, sizeof(*record));
}

/* Calls that failed: the kernel generated nothing. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_signal_call, struct pt_regs *regs, long result)
{
	struct pal_record_signal signal = {};
	struct pal_subject subject;
	struct task_struct *target = NULL;
	struct pal_call call;
	__s32 number;

	if ((__s32)result >= 0)
		return 0;
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_SIGNAL))
		return 0;
	pal_call_read(&call, regs, result);
	signal.asked = call.arguments[0];
	signal.signal = call.variant == PAL_VARIANT_THREAD ? call.arguments[2] : call.arguments[1];
	signal.result = result;
	number = call.variant == PAL_VARIANT_THREAD ? call.arguments[1] : call.arguments[0];
	if (call.variant != PAL_VARIANT_PIDFD && number > 0)
		target = (struct task_struct *)pal_task_by_number(bpf_get_current_task_btf(), number);
	if (target) {
		signal.target_tgid = BPF_CORE_READ(target, tgid);
		signal.target_tid = BPF_CORE_READ(target, pid);
		signal.target_slot = pal_slot_of_cgroup(BPF_CORE_READ(target, cgroups, dfl_cgrp, kn, id));
		signal.target_start_ns = BPF_CORE_READ(target, group_leader, start_boottime);
	}
	pal_observe_signal(&subject, &signal);
	return 0;
}

/*
 * Signals that were generated while the current task is in one of the calls that send them: each target of a group, by the
 * kernel's own pointer. By the call and not by what the signal says of itself, for a sender writes that (rt_sigqueueinfo). A
 * timer that goes off just then is taken for the task's own.
 */
SEC("tp_btf/signal_generate")
int BPF_PROG(observe_signal, int number, struct kernel_siginfo *details, struct task_struct *target)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_record_signal signal = {};
	struct pal_subject subject;
	struct pt_regs *regs;

	if (!pal_wanted_anywhere(PAL_RECORD_SIGNAL))
		return 0;
	regs = (struct pt_regs *)bpf_task_pt_regs(task);
	if (pal_call_of(regs) != PAL_CALL_SIGNAL)
		return 0;
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_SIGNAL))
		return 0;
	signal.signal = number;
	signal.asked = pal_first_argument(regs, pal_in_compat());
	signal.target_tgid = target->tgid;
	signal.target_tid = target->pid;
	signal.target_slot = pal_slot_of_cgroup(pal_cgroup_of_task(target));
	signal.target_start_ns = target->group_leader->start_boottime;
	pal_observe_signal(&subject, &signal);
	return 0;
}

/* ---- its own standing ---- */

struct pal_credentials_record {
	struct pal_record_head head;
	struct pal_record_credentials body;
};

static __always_inline void pal_describe_credentials(struct pal_record_credentials *body, struct task_struct *task)
{
	struct pal_credentials *kept = bpf_task_storage_get(&credentials, task, NULL, 0);

	pal_credentials_read(&body->after, task);
	body->reserved = 0;
	body->flags = 0;
	if (!kept) {
		__builtin_memset(&body->before, 0, sizeof(body->before));
		pal_credentials_look(task);
		return;
	}
	body->flags = PAL_CREDENTIALS_BEFORE;
	__builtin_memcpy(&body->before, kept, sizeof(body->before));
	__builtin_memcpy(kept, &body->after, sizeof(*kept));
}

/* Not folded: no two need to be equal, and what changes who a process is is worth a record. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_credentials, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_credentials_record *record;
	struct pal_subject subject;
	struct pal_ticket ticket;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_CREDENTIALS) || !pal_within_rate(subject.slot, PAL_RECORD_CREDENTIALS))
		return 0;
	record = pal_reserve(&ticket, PAL_RECORD_CREDENTIALS, sizeof(*record));
	if (!record)
		return 0;
	pal_describe(&record->head, PAL_RECORD_CREDENTIALS, &subject);
	pal_describe_credentials(&record->body, task);
	record->body.operation = pal_call_code(regs) & 0xff;
	record->body.result = result;
	pal_submit(&ticket, &record->head, sizeof(*record));
	return 0;
}

struct pal_namespace_record {
	struct pal_record_head head;
	struct pal_record_namespace body;
};

static __always_inline void pal_describe_namespaces(struct pal_record_namespace *body, struct task_struct *task)
{
	struct nsproxy *proxy = task->nsproxy;

	body->mnt = proxy->mnt_ns->ns.inum;
	body->pid_for_children = proxy->pid_ns_for_children->ns.inum;
	body->net = proxy->net_ns->ns.inum;
	body->user = task->cred->user_ns->ns.inum;
	body->uts = proxy->uts_ns->ns.inum;
	body->ipc = proxy->ipc_ns->ns.inum;
	body->cgroup = proxy->cgroup_ns->ns.inum;
	body->time = proxy->time_ns->ns.inum;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_namespace, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_namespace_record *record;
	struct pal_subject subject;
	struct pal_ticket ticket;
	struct pal_call call;

	pal_identify(&subject);
	if (pal_wanted(&subject, PAL_RECORD_CREDENTIALS))
		pal_credentials_look(task); /* a new user namespace gives all capabilities in it */
	if (!pal_wanted(&subject, PAL_RECORD_NAMESPACE) || !pal_within_rate(subject.slot, PAL_RECORD_NAMESPACE))
		return 0;
	pal_call_read(&call, regs, result);
	record = pal_reserve(&ticket, PAL_RECORD_NAMESPACE, sizeof(*record));
	if (!record)
		return 0;
	pal_describe(&record->head, PAL_RECORD_NAMESPACE, &subject);
	record->body.operation = call.variant;
	record->body.flags = call.variant == PAL_NAMESPACE_SETNS ? call.arguments[1] : call.arguments[0];
	record->body.result = result;
	__builtin_memset(record->body.reserved, 0, sizeof(record->body.reserved));
	pal_describe_namespaces(&record->body, task);
	pal_submit(&ticket, &record->head, sizeof(*record));
	return 0;
}

/*
 * A capability that the task has and made use of. Kernel code asks for capabilities all the time, so that nothing is looked up
 * where nobody wants to see it. The tracepoint is there from 6.14; before, capabilities are not observed.
 */
SEC("tp_btf/cap_capable")
int BPF_PROG(observe_capability, const struct cred *credentials, struct user_namespace *target,
	     const struct user_namespace *owner, int capability, int result)
{
	const struct pal_observation *settings = pal_observation_of();
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_subject subject;
	struct pal_digest digest;
	__u64 now;

	if (result || !settings || !pal_wanted_anywhere(PAL_RECORD_CAPABILITY) || !pal_is_own(task, (__u64)credentials))
		return 0;
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_CAPABILITY) || (capability == PAL_CAP_SYS_ADMIN && pal_accounts_memory()))
		return 0;
	now = bpf_ktime_get_boot_ns();
	pal_digest_begin(&digest, settings, PAL_RECORD_CAPABILITY);
	pal_digest_word(&digest, capability);
	if (pal_admit(&subject, PAL_RECORD_CAPABILITY, pal_digest_end(&digest), now))
		pal_emit_capability(&subject, capability, 0, NULL);
	return 0;
}

// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * What no other tier of this kernel can hold: the acting process is killed, or the act is seen and reported as such.
 *
 * The same blob decides, after the fact where it has to be:
 *   ptrace   at the system call's entry. The signal is pending before the call does anything, and the process never
 *            returns to its own code: it reads and writes nothing of the target. The attach itself still happens and is
 *            undone by the tracer's death; PTRACE_ATTACH leaves its target stopped, which whoever may trace a process
 *            can do to it by SIGSTOP too. A target that is born between the check and the call is found at its exit.
 *   exec     after the new image is set up, before its first instruction; only where fanotify does not hold execs.
 *   socket   of domains that no cgroup program sees, at the call's exit: the descriptor is never used. Only of containers, like
 *            all of networks in this tier, and only where a rule says so: a program that asks for a unix socket in passing
 *            (nscd, syslog) would die of every allow-list. What the posture or the fail mode blocks is reported.
 *   preset   executions (filelessExec, exec) before the new image is set up, opens of /proc (protectEnv, protectProc) at the call's
 *            exit: nothing was read, and the descriptor is never used. Before Linux 6.10 filelessExec once the image is set up, and
 *            before its first instruction; exec not, for whoever entered the container counts as it by then. anonMapExec is not
 *            held: what makes memory executable is seen too late, and by too many ways.
 *   capability  is not killed for: whoever has one uses it in passing, and what was to be prevented has been done when the
 *            process dies. Its use is reported, where the kernel tells of it (cap_capable, Linux 6.14); questions in passing, which
 *            an LSM hook can tell, are reported too, but for those about memory that every mmap(2) asks. Where a container's AppArmor
 *            profile denies them, nothing is reported of it here.
 *   open     is not killed for: a kill after a write-open has truncated is no protection. What fanotify, which is not told
 *            how a file is opened, has to let pass is reported as unenforceable.
 *   host     executions, before the new image is set up, and opens are reported where fanotify holds those of containers: it never
 *            watches the host's file systems. Nothing of them is killed for.
 *
 * Which families are this tier's business is set before loading, by what the kernel lacks. Not loaded where BPF LSM works.
 *
 * Gaps: rules with a source on execs are judged by the new image's name, for the old one's is gone; opens (of /proc as well) and
 * sockets of io_uring; scripts that have no file; socketpair(2), and connects of the sockets that are judged here;
 * process_vm_readv, process_vm_writev, pidfd_getfd and /proc/<pid>/mem are tracing for an LSM and not here.
 *
 * Minimum kernel 6.1 (tested; bpf_send_signal is there from 5.3 and works at once where interrupts are on).
 */
#define PAL_OBJECT_BY_ADDRESS
#include "conditions.h"
#include "decide.h"
#include "observe.h"
#include "emit_calls.h"
#include "capability.h"
#include "report.h"
#include "report_acts.h"
#include "script.h"

char _license[] SEC("license") = "GPL";

/* Bit n: family n (blob.h) is judged here. Set before loading. */
const volatile __u32 pal_kill_families = 0;
/* Opens and execs are judged by fanotify: what is left of opens is what depends on writing. Set before loading. */
const volatile __u32 pal_fanotify_judges = 0;
/* Set before loading, like in lsm_process.bpf.c. */
const volatile __u32 pal_host_mnt_ns = 0;

#define PAL_SIGKILL 9

static __always_inline bool pal_is_judged(struct pal_subject *subject, __u32 family)
{
	if (!(pal_kill_families >> family & 1) || pal_is_idle(family))
		return false;
	pal_identify(subject);
	return pal_decides(subject, family) && subject->phase != PAL_PHASE_RUNTIME;
}

static __always_inline void pal_act_on_file(struct pal_act *act, __u64 address)
{
	struct file *file = (struct file *)address;

	act->object.vfsmount = address ? (__u64)BPF_CORE_READ(file, f_path.mnt) : 0;
	act->object.dentry = address ? (__u64)BPF_CORE_READ(file, f_path.dentry) : 0;
}

/* What must not be, and goes on all the same. */
static __always_inline void pal_let_pass(const struct pal_act *act, struct pal_verdict *verdict)
{
	verdict->word = act->word;
	verdict->family = act->family;
	verdict->fail_reason = pal_fail_reason(act);
	verdict->tier = PAL_TIER_AUDIT;
	verdict->outcome = PAL_OUTCOME_UNENFORCEABLE;
}

/* Kills where the effect is to block; what it says is what was done. */
static __always_inline void pal_carry_out(const struct pal_act *act, struct pal_verdict *verdict)
{
	verdict->word = act->word;
	verdict->family = act->family;
	verdict->fail_reason = pal_fail_reason(act);
	verdict->tier = PAL_TIER_AUDIT;
	verdict->outcome = PAL_OUTCOME_OBSERVED;
	if (!pal_is_denied(act))
		return;
	if (bpf_send_signal(PAL_SIGKILL)) {
		verdict->outcome = PAL_OUTCOME_UNENFORCEABLE;
		return;
	}
	verdict->tier = PAL_TIER_KILL;
	verdict->outcome = PAL_OUTCOME_KILLED;
}

/* ---- ptrace ---- */

static __always_inline void pal_target_of(struct pal_target *target, __u64 address, __u32 request)
{
	struct task_struct *task = (struct task_struct *)address;

	target->request = request;
	target->tgid = BPF_CORE_READ(task, tgid);
	target->tid = BPF_CORE_READ(task, pid);
	target->slot = pal_slot_of_cgroup(BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id));
	target->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
}

static __noinline void pal_report_trace(const struct pal_act *act, __u64 task, __u32 request)
{
	struct pal_verdict verdict;
	struct pal_target target;
	struct pal_text path;

	pal_carry_out(act, &verdict);
	pal_target_of(&target, task, request);
	pal_judged_path(act, &path);
	pal_emit_ptrace(act->subject, &path, &target, &verdict);
}

/*
 * With PTRACE_TRACEME the parent is the actor and the acting process the target, as for the LSM hook. `done`: the call is over,
 * and only what must not be is of interest.
 */
static __noinline int pal_judge_ptrace(struct pal_subject *subject, struct pt_regs *regs, bool done)
{
	struct pal_call call;
	struct pal_act act;
	__u32 request;
	__u64 task;

	pal_call_read(&call, regs, 0);
	request = call.arguments[0];
	if (!pal_ptrace_begins(request) || !pal_is_judged(subject, PAL_FAMILY_PTRACE))
		return 0;
	task = pal_ptrace_target(&call);
	if (!task)
		return 0; /* nobody has that number: the call will fail */
	pal_act_begin(&act, subject, PAL_FAMILY_PTRACE);
	if (request == PAL_PTRACE_TRACEME)
		act.actor = bpf_get_current_task_btf()->real_parent;
	/* Whose source is kept does not matter for so rare an act: it is always computed, of the actor. */
	act.foreign_actor = pal_veiled(1);
	pal_act_on_file(&act, (__u64)BPF_CORE_READ((struct task_struct *)task, mm, exe_file));
	pal_judge_file(&act);
	if (done ? pal_is_denied(&act) : pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_trace(&act, task, request);
	pal_act_end(&act);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(kill_tracer, struct pt_regs *regs, long number)
{
	struct pal_subject subject;

	if (pal_call_of(regs) != PAL_CALL_PTRACE)
		return 0;
	return pal_judge_ptrace(&subject, regs, false);
}

/* Whoever was judged at the entry is dying by now, or was not to be killed. */
static __always_inline int pal_judge_traced(struct pal_subject *subject, struct pt_regs *regs, long result)
{
	if (result || bpf_get_current_task_btf()->signal->flags & PAL_SIGNAL_GROUP_EXIT)
		return 0;
	return pal_judge_ptrace(subject, regs, true);
}

/* ---- exec ---- */

static __noinline void pal_report_exec(const struct pal_act *act, struct linux_binprm *bprm)
{
	struct pal_verdict verdict;
	struct pal_text path;

	pal_carry_out(act, &verdict);
	pal_judged_path(act, &path);
	pal_emit_exec(act->subject, &path, bprm, &verdict, false);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(kill_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct file *file = bprm->file;
	struct pal_subject subject;
	struct pal_act act;

	if (!(pal_kill_families >> PAL_FAMILY_PROCESS & 1))
		return 0;
	pal_identify(&subject);
	if (!pal_decides(&subject, PAL_FAMILY_PROCESS))
		return 0;
	if (subject.phase == PAL_PHASE_RUNTIME && !pal_executes_inside(task, subject.kept, pal_host_mnt_ns))
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_PROCESS);
	/* The source of an exec is who asked for it: that image is gone, and so is its name. */
	pal_act_on_file(&act, (__u64)file);
	act.modifiers = pal_terminal_modifier();
	if (file->f_inode->i_uid.val == task->cred->fsuid.val)
		act.modifiers |= PAL_MODIFIER_OWNER;
	pal_judge_file(&act);
	/* What waits for its arguments is arguments.bpf.c's. */
	if (!pal_awaits_arguments(&act) && pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_exec(&act, bprm);
	pal_act_end(&act);
	return 0;
}

/* ---- execs of the host, where fanotify holds those of containers ---- */

/* The host's own processes are not killed: what must not be is said, and goes on. */
static __always_inline void pal_only_see(const struct pal_act *act, struct pal_verdict *verdict)
{
	verdict->word = act->word;
	verdict->family = act->family;
	verdict->fail_reason = pal_fail_reason(act);
	verdict->tier = PAL_TIER_AUDIT;
	verdict->outcome = pal_is_denied(act) ? PAL_OUTCOME_UNENFORCEABLE : PAL_OUTCOME_OBSERVED;
}

static __noinline int pal_audit_execution(struct pal_subject *subject, struct linux_binprm *bprm, __u64 script)
{
	struct file *file = script ? (struct file *)script : bprm->file;
	__u32 owner = BPF_CORE_READ(file, f_inode, i_uid.val);
	struct pal_verdict verdict;
	struct pal_text path;
	struct pal_act act;

	pal_act_begin(&act, subject, PAL_FAMILY_PROCESS);
	pal_act_on_file(&act, (__u64)file);
	act.modifiers = pal_terminal_modifier();
	if (owner == bpf_get_current_task_btf()->cred->fsuid.val)
		act.modifiers |= PAL_MODIFIER_OWNER;
	pal_judge_file(&act);
	if (!pal_awaits_arguments(&act) && pal_effect(&act) != PAL_EFFECT_PERMIT) {
		pal_only_see(&act, &verdict);
		pal_judged_path(&act, &path);
		pal_emit_exec(subject, &path, bprm, &verdict, script);
	}
	pal_act_end(&act);
	return 0;
}

/* fanotify watches neither the host's file systems nor those of who is unknown. */
static __always_inline bool pal_is_unmarked(const struct pal_subject *subject)
{
	return !subject->slot || subject->slot == PAL_SLOT_UNKNOWN;
}

static __always_inline bool pal_is_judged_host(struct pal_subject *subject)
{
	if (pal_is_idle(PAL_FAMILY_PROCESS))
		return false;
	pal_identify(subject);
	return pal_is_unmarked(subject) && pal_decides(subject, PAL_FAMILY_PROCESS);
}

/* While the old image, which is the source, lives. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(audit_host_exec, struct task_struct *task, struct linux_binprm *bprm)
{
	struct pal_subject subject;

	return pal_is_judged_host(&subject) ? pal_audit_execution(&subject, bprm, 0) : 0;
}

/* The script is judged like its interpreter, as an LSM hook is asked of both. A program of its own, for the verifier's budget. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(audit_host_script, struct task_struct *task, struct linux_binprm *bprm)
{
	struct pal_script script = {};
	struct pal_subject subject;

	if (bprm->interp == bprm->filename || !pal_is_judged_host(&subject) || !pal_script_of(&script, bprm))
		return 0;
	return pal_audit_execution(&subject, bprm, script.file);
}

/* ---- sockets that no cgroup program sees ---- */

static __always_inline bool pal_is_blocked_by_rule(const struct pal_act *act)
{
	return pal_is_denied(act) && act->naming == PAL_NAMED && !(act->word & PAL_DECISION_BY_POSTURE);
}

static __noinline void pal_report_socket(const struct pal_act *act, const struct pal_call *call)
{
	struct pal_network_act network = { .operation = PAL_NETWORK_SOCKET, .result = call->result };
	struct pal_endpoint endpoint = {};
	struct pal_verdict verdict;

	pal_endpoint_of_arguments(&endpoint, call);
	if (pal_is_denied(act) && !pal_is_blocked_by_rule(act))
		pal_let_pass(act, &verdict);
	else
		pal_carry_out(act, &verdict);
	pal_emit_network(act->subject, &endpoint, &network, &verdict);
}

/*
 * Registers are what the kernel was asked for. socketcall's arguments lie in memory, where another thread may have changed them
 * since: then the new socket itself is asked.
 */
static __always_inline void pal_read_socket_call(struct pal_call *call, struct pt_regs *regs, long result)
{
	struct socket *socket;
	struct sock *sock;

	pal_call_read(call, regs, result);
	if (!call->compat || result < 0)
		return;
	socket = (struct socket *)pal_socket_of_descriptor(bpf_get_current_task_btf(), result);
	if (!socket)
		return; /* closed again by another thread */
	sock = BPF_CORE_READ(socket, sk);
	call->arguments[0] = BPF_CORE_READ(sock, __sk_common.skc_family);
	call->arguments[1] = BPF_CORE_READ(socket, type);
	/* Packet sockets keep theirs elsewhere. */
	if (call->arguments[0] != PAL_AF_PACKET)
		call->arguments[2] = BPF_CORE_READ(sock, sk_protocol);
}

static __noinline int pal_judge_socket(struct pal_subject *subject, struct pt_regs *regs, long result)
{
	struct pal_call call;
	struct pal_act act;
	__u32 domain;

	pal_read_socket_call(&call, regs, result);
	domain = call.arguments[0];
	if (domain == PAL_AF_INET && (call.arguments[1] & 0xf) == PAL_SOCK_PACKET) {
		/* The kernel makes a packet socket of it, which is no cgroup program's business either. */
		domain = PAL_AF_PACKET;
		call.arguments[0] = domain;
	}
	if (result < 0 || domain == PAL_AF_INET || domain == PAL_AF_INET6 ||
	    !pal_is_judged(subject, PAL_FAMILY_SOCKET) || !subject->slot)
		return 0;
	pal_act_begin(&act, subject, PAL_FAMILY_SOCKET);
	act.modifiers = pal_terminal_modifier();
	if (act.scratch)
		pal_endpoint_begin(&act, domain, call.arguments[1] & 0xf, call.arguments[2]);
	pal_judge_endpoint(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_socket(&act, &call);
	pal_act_end(&act);
	return 0;
}

/* ---- opens ---- */

/* Of containers: the host's own file systems are never watched. */
static __always_inline bool pal_fanotify_sees(const struct pal_subject *subject)
{
	return pal_fanotify_judges && !pal_is_unmarked(subject);
}

/* The effect that fanotify saw: it is not told how the file is opened. What could not be named it reports itself. */
static __always_inline __u32 pal_effect_for_fanotify(const struct pal_act *act)
{
	if (!pal_fanotify_sees(act->subject))
		return PAL_EFFECT_PERMIT;
	if (act->naming != PAL_NAMED)
		return PAL_EFFECT_BLOCK;
	return act->word_reading & PAL_DECISION_EFFECT_MASK;
}

static __always_inline __u32 pal_modifiers_of(__u64 address, __u32 open_flags)
{
	struct file *file = (struct file *)address;
	__u32 owner = BPF_CORE_READ(file, f_inode, i_uid.val);
	__u32 modifiers = pal_terminal_modifier();

	if (owner == bpf_get_current_task_btf()->cred->fsuid.val)
		modifiers |= PAL_MODIFIER_OWNER;
	if (BPF_CORE_READ(file, f_mode) & PAL_FMODE_WRITE || open_flags & (PAL_O_CREAT | PAL_O_TRUNC))
		modifiers |= PAL_MODIFIER_WRITE;
	return modifiers;
}

static __noinline void pal_report_open(const struct pal_act *act, __u32 flags, __s32 result)
{
	struct pal_verdict verdict = {
		.word = act->word,
		.tier = PAL_TIER_AUDIT,
		.outcome = pal_is_denied(act) ? PAL_OUTCOME_UNENFORCEABLE : PAL_OUTCOME_OBSERVED,
		.fail_reason = pal_fail_reason(act),
		.family = PAL_FAMILY_FILE,
	};
	struct pal_text path;

	pal_judged_path(act, &path);
	pal_emit_open(act->subject, &path, flags, result, &verdict);
}

static __noinline int pal_judge_open(struct pal_subject *subject, struct pt_regs *regs, long result)
{
	struct pal_call call;
	struct pal_act act;
	__u32 flags, modifiers;
	__u64 file;

	if (result < 0 || !pal_is_judged(subject, PAL_FAMILY_FILE))
		return 0;
	file = pal_file_of_descriptor(bpf_get_current_task_btf(), result);
	if (!file)
		return 0; /* closed again by another thread */
	pal_call_read(&call, regs, result);
	flags = pal_open_flags_of(&call);
	modifiers = pal_modifiers_of(file, flags);
	if (pal_fanotify_sees(subject) && !(modifiers & PAL_MODIFIER_WRITE))
		return 0;
	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	pal_act_on_file(&act, file);
	act.modifiers = modifiers;
	pal_judge_file(&act);
	if (pal_effect(&act) > pal_effect_for_fanotify(&act))
		pal_report_open(&act, flags, result);
	pal_act_end(&act);
	return 0;
}

/* ---- protections by name ---- */

/* True: there is something to tell, in `verdict`. */
static __noinline bool pal_protect(struct pal_subject *subject, struct pal_presets presets, struct pal_verdict *verdict)
{
	struct pal_act act;
	bool told;

	pal_act_begin(&act, subject, PAL_FAMILY_PRESET);
	pal_judge_presets(&act, presets.one, presets.other);
	told = pal_effect(&act) != PAL_EFFECT_PERMIT;
	if (told)
		pal_carry_out(&act, verdict);
	pal_act_end(&act);
	return told;
}

/* Only of containers: hosts have no presets. */
static __always_inline bool pal_execution_is_judged(struct pal_subject *subject, struct task_struct *task)
{
	if (!(pal_kill_families >> PAL_FAMILY_PRESET & 1) || pal_is_idle(PAL_FAMILY_PRESET))
		return false;
	pal_identify(subject);
	return subject->slot && pal_decides(subject, PAL_FAMILY_PRESET) &&
	       (subject->phase != PAL_PHASE_RUNTIME || pal_executes_inside(task, subject->kept, pal_host_mnt_ns));
}

/* While the old image lives, and with it the phase of who enters a container. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(kill_entering, struct task_struct *task, struct linux_binprm *bprm)
{
	struct pal_presets presets;
	struct pal_verdict verdict;
	struct pal_subject subject;

	if (!pal_execution_is_judged(&subject, task))
		return 0;
	presets = pal_presets_of_exec(&subject, (__u64)bprm->file);
	if ((presets.one || presets.other) && pal_protect(&subject, presets, &verdict))
		pal_emit_exec_of(&subject, bprm, &verdict);
	return 0;
}

/* Where the kernel does not tell of it earlier: the image is there, and does not run. */
SEC("tp_btf/sched_process_exec")
int BPF_PROG(kill_fileless, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct pal_presets presets = { .one = PAL_PRESET_FILELESS_EXEC };
	struct pal_verdict verdict;
	struct pal_subject subject;

	if (!pal_execution_is_judged(&subject, task) || !pal_is_fileless((__u64)bprm->file))
		return 0;
	if (pal_protect(&subject, presets, &verdict))
		pal_emit_exec_of(&subject, bprm, &verdict);
	return 0;
}

static __noinline int pal_protect_opened(long result)
{
	struct pal_presets presets;
	struct pal_verdict verdict;
	struct pal_subject subject;
	__u64 file;

	if (result < 0 || !pal_is_judged(&subject, PAL_FAMILY_PRESET) || !subject.slot)
		return 0;
	file = pal_file_of_descriptor(bpf_get_current_task_btf(), result);
	if (!file)
		return 0;
	presets = pal_presets_of_open(file);
	if (presets.one && pal_protect(&subject, presets, &verdict))
		pal_emit_open_of(&subject, file, BPF_CORE_READ((struct file *)file, f_flags), result, &verdict);
	return 0;
}

/* ---- capabilities ---- */

static __noinline int pal_audit_capability(struct pal_subject *subject, __u32 capability)
{
	struct pal_verdict verdict;
	struct pal_act act;

	pal_act_begin(&act, subject, PAL_FAMILY_CAPABILITY);
	pal_judge_number(&act, capability < PAL_CAPABILITY_ACCEPTS - 1 ? capability + 1 : 0);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT && !(pal_is_denied(&act) && subject->flags & PAL_SLOT_BOUND_BY_USER)) {
		pal_let_pass(&act, &verdict);
		if (!pal_is_denied(&act))
			verdict.outcome = PAL_OUTCOME_OBSERVED;
		pal_emit_capability(subject, capability, 0, &verdict);
	}
	pal_act_end(&act);
	return 0;
}

/* Of the task itself and by its own credentials, like in lsm_task.bpf.c. What AppArmor and SELinux deny comes after this, and is told by them. */
SEC("tp_btf/cap_capable")
int BPF_PROG(audit_capability, const struct cred *credentials, struct user_namespace *target,
	     const struct user_namespace *owner, int capability, int result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_subject subject;

	if (result || !pal_is_own(task, (__u64)credentials) || !pal_is_judged(&subject, PAL_FAMILY_CAPABILITY) ||
	    subject.flags & PAL_SLOT_BOUND_BY_PROFILE || (capability == PAL_CAP_SYS_ADMIN && pal_accounts_memory()))
		return 0;
	return pal_audit_capability(&subject, capability);
}

/* The subject is the program's own and not each function's: verifiers of 7 forget it in the functions, and refuse to read it there. */
SEC("tp_btf/sys_exit")
int BPF_PROG(kill_after_call, struct pt_regs *regs, long result)
{
	struct pal_subject subject;

	switch (pal_call_of(regs)) {
	case PAL_CALL_OPEN:
		pal_protect_opened(result);
		return pal_judge_open(&subject, regs, result);
	case PAL_CALL_SOCKET:
		return pal_judge_socket(&subject, regs, result);
	case PAL_CALL_PTRACE:
		return pal_judge_traced(&subject, regs, result);
	default:
		return 0;
	}
}

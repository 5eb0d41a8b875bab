// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Sockets and destinations, decided on the workload's cgroup: the tier that every kernel has, also without an LSM.
 *
 * One set of programs, attached to each held workload's cgroup; children inherit it. A refused act returns EPERM and has
 * no effect: nothing was sent.
 *
 * Gaps: only IPv4 and IPv6 sockets pass here. A socket belongs to the cgroup that it was made in: one that came in by
 * descriptor passing, or that a task made before it was moved in, is judged there and not here; a task that got out of the
 * cgroup is not held by it any more. recvmsg and accept are no destinations and are not judged. Raw, packet and SCTP sockets
 * send without passing here (their creation does, if they are IPv4 or IPv6). Further subflows of MPTCP are connected by a
 * worker of the kernel, which is of no workload.
 *
 * Minimum kernel 6.1 (tested). Task storage, and with it the runtime phase and the kept identity, is offered to these
 * program types by newer kernels only (6.18 does); without it the acting task's cgroup alone names the workload and the
 * source is computed for each act instead of once for each program.
 */
#include "decide.h"
#include "emit.h"
#include "endpoint.h"

char _license[] SEC("license") = "GPL";

/* Does this kernel let cgroup programs read task storage? Set before loading, by trying. */
const volatile __u32 pal_cgroup_task_storage = 0;

#define PAL_ALLOW 1
#define PAL_REFUSE 0

static __always_inline void pal_identify_here(struct pal_subject *subject)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (pal_cgroup_task_storage)
		pal_identify(subject);
	else
		pal_identify_cgroup(pal_cgroup_of_task(task), subject);
}

static __noinline void pal_report(struct pal_act *act, const struct pal_endpoint *endpoint, __u32 operation)
{
	struct pal_network_act network = { .operation = operation };
	struct pal_verdict verdict = {
		.word = act->word,
		.tier = PAL_TIER_CGROUP_BPF,
		.outcome = pal_effect(act) == PAL_EFFECT_BLOCK ? PAL_OUTCOME_DENIED : PAL_OUTCOME_OBSERVED,
		.fail_reason = pal_fail_reason(act),
		.family = act->family,
	};

	pal_emit_network(act->subject, endpoint, &network, &verdict);
}

/* Judges what `endpoint` says; the act's scratch gets the same bytes in the automaton's canonical form. */
static __noinline int pal_judge(const struct pal_endpoint *endpoint, __u32 family, __u32 operation)
{
	struct pal_subject subject;
	struct pal_act act;
	int verdict = PAL_ALLOW;

	pal_identify_here(&subject);
	if (!pal_decides(&subject, family) || subject.phase == PAL_PHASE_RUNTIME)
		return PAL_ALLOW;
	pal_act_begin(&act, &subject, family);
	if (act.scratch)
		pal_endpoint_canonical(&act, endpoint);
	pal_judge_endpoint(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report(&act, endpoint, operation);
	if (pal_effect(&act) == PAL_EFFECT_BLOCK) {
		pal_count(PAL_COUNTER_DENIED);
		verdict = PAL_REFUSE;
	}
	pal_act_end(&act);
	return verdict;
}

static __always_inline int pal_judge_v4(struct bpf_sock_addr *context, __u32 operation)
{
	struct pal_endpoint endpoint = {};

	pal_endpoint_socket(&endpoint, PAL_AF_INET, context->type, context->protocol);
	pal_endpoint_ipv4(&endpoint, context->user_port, context->user_ip4);
	return pal_judge(&endpoint, PAL_FAMILY_CONNECT, operation);
}

static __always_inline int pal_judge_v6(struct bpf_sock_addr *context, __u32 operation)
{
	struct pal_endpoint endpoint = {};
	__be32 address[4];

	address[0] = context->user_ip6[0];
	address[1] = context->user_ip6[1];
	address[2] = context->user_ip6[2];
	address[3] = context->user_ip6[3];
	pal_endpoint_socket(&endpoint, PAL_AF_INET6, context->type, context->protocol);
	pal_endpoint_ipv6(&endpoint, context->user_port, address);
	return pal_judge(&endpoint, PAL_FAMILY_CONNECT, operation);
}

SEC("cgroup/connect4")
int judge_connect4(struct bpf_sock_addr *context)
{
	return pal_judge_v4(context, PAL_NETWORK_CONNECT);
}

SEC("cgroup/connect6")
int judge_connect6(struct bpf_sock_addr *context)
{
	return pal_judge_v6(context, PAL_NETWORK_CONNECT);
}

SEC("cgroup/sendmsg4")
int judge_sendmsg4(struct bpf_sock_addr *context)
{
	return pal_judge_v4(context, PAL_NETWORK_SEND);
}

SEC("cgroup/sendmsg6")
int judge_sendmsg6(struct bpf_sock_addr *context)
{
	return pal_judge_v6(context, PAL_NETWORK_SEND);
}

SEC("cgroup/sock_create")
int judge_sock_create(struct bpf_sock *context)
{
	struct pal_endpoint endpoint = {};

	pal_endpoint_socket(&endpoint, context->family, context->type, context->protocol);
	return pal_judge(&endpoint, PAL_FAMILY_SOCKET, PAL_NETWORK_SOCKET);
}

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
 * DNS is decided by the packets themselves, which have left the sender's memory: by whatever call or ring they were sent, over
 * connected sockets or not, by a socket of any type. Refused are the packets: a datagram's send(2) returns EPERM, a stream just
 * never gets its question through. Gaps: servers at other ports, DNS over TLS and HTTPS; packet sockets, whose creation is
 * judged; a stream's question that another task's turn of the kernel sends is judged without its source.
 *
 * Minimum kernel 6.1 (tested). Task storage, and with it the runtime phase and the kept identity, is offered to these
 * program types by newer kernels only (6.18 does); without it the acting task's cgroup alone names the workload and the
 * source is computed for each act instead of once for each program.
 */
#include "conditions.h"
#include "decide.h"
#include "emit.h"
#include "endpoint.h"
#include "question.h"
#include "report_acts.h"

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
	act.modifiers = pal_terminal_modifier();
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

/* ---- names that are asked for ---- */

/* What is known of a stream to a DNS server. Sequence numbers are TCP's, and wrap. */
struct pal_stream {
	__u32 known;         /* the next two are meaningful */
	__u32 next;          /* where the next message begins */
	__u32 refused_at;    /* where a message begins that was refused: it comes again, from an interrupt and anybody's turn */
	__u32 refused_by;    /* policy that refused it; 0: none was */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pal_stream);
} streams SEC(".maps");

#define PAL_STREAM_MESSAGES 64 /* in one packet; more are not read */

/* One packet to a DNS server. */
struct pal_asking {
	struct __sk_buff *packet;
	struct pal_subject *subject;
	struct pal_stream *stream;
	struct pal_question_packet place;
	__u32 at;     /* of the next message, from the packet's first byte */
	__u32 known;  /* the current task is the one that asks */
	__u32 refuse;
};

/*
 * The workload is the socket's. Who asks is the current task, unless it is of another workload: then the kernel sends for a task
 * that waits.
 */
static __always_inline __u32 pal_identify_asker(struct __sk_buff *packet, struct pal_subject *subject)
{
	__u64 cgroup = bpf_skb_cgroup_id(packet);
	__u32 slot = pal_slot_of_cgroup(cgroup);

	pal_identify_here(subject);
	if (!slot || slot == subject->slot)
		return 1;
	pal_identify_cgroup(cgroup, subject);
	return 0;
}

/* What the record says: the name as it was sent, behind where the question was read to. */
static __noinline void pal_report_question(const struct pal_asking *asking, struct pal_act *act, const struct pal_question *question)
{
	struct pal_verdict verdict = {
		.word = act->word,
		.tier = PAL_TIER_CGROUP_BPF,
		.outcome = pal_effect(act) == PAL_EFFECT_BLOCK ? PAL_OUTCOME_DENIED : PAL_OUTCOME_OBSERVED,
		.fail_reason = pal_fail_reason(act),
		.family = PAL_FAMILY_DNS,
	};
	struct pal_asked_name name = {
		.known = asking->known,
		.transport = asking->place.protocol,
		.query_type = question->type,
		.id = question->id,
		.length = question->dotted,
		.from = act->scratch ? act->scratch->path + PAL_QUESTION_DOTTED : NULL,
	};

	pal_endpoint_socket(&name.server, asking->place.family, 0, asking->place.protocol);
	if (asking->place.family == PAL_AF_INET)
		pal_endpoint_ipv4(&name.server, bpf_htons(PAL_QUESTION_PORT), asking->place.server[0]);
	else
		pal_endpoint_ipv6(&name.server, bpf_htons(PAL_QUESTION_PORT), asking->place.server);
	pal_emit_question(act->subject, &name, &verdict);
}

/* Judges the message from asking->at to `end`. 1: it is refused. */
static __noinline __u32 pal_judge_question(struct pal_asking *asking, __u32 end)
{
	struct pal_question question = {};
	__u32 finding, refused;
	struct pal_act act;

	pal_act_begin(&act, asking->subject, PAL_FAMILY_DNS);
	if (act.scratch) {
		act.naming = pal_veiled(PAL_NAMED);
		if (asking->known && !pal_find_source(&act))
			act.naming = pal_veiled(PAL_NO_BLOB);
		finding = pal_question_read(asking->packet, act.scratch, asking->at, end, &question);
		if (finding == PAL_QUESTION_NONE)
			act.naming = pal_veiled(PAL_NAME_STACKED);
		else if (finding == PAL_QUESTION_UNREADABLE)
			act.naming = pal_veiled(PAL_UNREADABLE);
		else if (act.naming == PAL_NAMED)
			pal_match_name(&act, question.start);
	}
	pal_settle(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_question(asking, &act, &question);
	refused = pal_effect(&act) == PAL_EFFECT_BLOCK;
	if (refused)
		pal_count(PAL_COUNTER_DENIED);
	pal_act_end(&act);
	return refused;
}

/* One message of a stream's packet. 1: there is no more, or one was refused. */
static long pal_judge_message(__u32 index, void *context)
{
	struct pal_asking *asking = context;
	__u32 sequence = asking->place.sequence + asking->at - asking->place.payload;
	__u32 begin = asking->at;
	__be16 length = 0;

	if (asking->at >= asking->place.end)
		return 1;
	/* A length that is cut in two leaves nothing to read: that message cannot be. */
	bpf_skb_load_bytes(asking->packet, begin, &length, sizeof(length));
	asking->at = begin + sizeof(length);
	if (pal_judge_question(asking, asking->at + bpf_ntohs(length))) {
		asking->refuse = 1;
		if (asking->stream) {
			asking->stream->refused_at = sequence;
			asking->stream->refused_by = asking->subject->policy;
		}
		return 1;
	}
	asking->at += bpf_ntohs(length);
	if (asking->stream) {
		asking->stream->known = 1;
		asking->stream->next = sequence + sizeof(length) + bpf_ntohs(length);
	}
	return 0;
}

/*
 * Where the packet's first message begins that was not judged. One that begins in an earlier packet was judged there, for its
 * question must have been in it whole. Of a stream that was opened before anybody looked, the packet's begin is taken for a
 * message's.
 */
static __always_inline bool pal_stream_begin(struct pal_asking *asking)
{
	struct pal_stream *stream = asking->stream;
	__u32 payload = asking->place.payload;
	__u32 begin = asking->place.sequence;

	if (stream && stream->refused_by == asking->subject->policy && stream->refused_at - begin < asking->place.end - payload) {
		asking->refuse = 1;
		return false;
	}
	asking->at = payload;
	if (stream && asking->place.opens) {
		stream->known = 1;
		stream->next = begin;
	}
	if (stream && stream->known && (__s32)(stream->next - begin) > 0)
		asking->at = payload + (stream->next - begin);
	return asking->at < asking->place.end;
}

static __always_inline void pal_judge_stream(struct pal_asking *asking)
{
	struct bpf_sock *sock = asking->packet->sk;

	asking->stream = NULL;
	if (sock)
		sock = bpf_sk_fullsock(sock);
	if (sock)
		asking->stream = bpf_sk_storage_get(&streams, sock, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!pal_stream_begin(asking))
		return;
	bpf_loop(PAL_STREAM_MESSAGES, pal_judge_message, asking, 0);
	if (!asking->refuse && asking->at < asking->place.end)
		asking->refuse = pal_judge_question(asking, asking->at);
}

SEC("cgroup_skb/egress")
int judge_question(struct __sk_buff *packet)
{
	struct pal_subject subject;
	struct pal_asking asking;
	__u32 finding;

	if (pal_is_idle(PAL_FAMILY_DNS))
		return PAL_ALLOW;
	asking.packet = packet;
	asking.refuse = pal_veiled(0);
	finding = pal_question_locate(packet, &asking.place);
	if (finding == PAL_QUESTION_NONE || (finding == PAL_QUESTION_READABLE && asking.place.payload >= asking.place.end &&
					     asking.place.protocol == PAL_TRANSPORT_TCP && !asking.place.opens))
		return PAL_ALLOW;
	asking.known = pal_veiled(pal_identify_asker(packet, &subject));
	if (!pal_decides(&subject, PAL_FAMILY_DNS) || subject.phase == PAL_PHASE_RUNTIME)
		return PAL_ALLOW;
	asking.subject = &subject;
	asking.at = asking.place.payload;
	if (finding == PAL_QUESTION_UNREADABLE)
		asking.refuse = pal_judge_question(&asking, 0);
	else if (asking.place.protocol == PAL_TRANSPORT_TCP)
		pal_judge_stream(&asking);
	else
		asking.refuse = pal_judge_question(&asking, asking.place.end);
	return asking.refuse ? PAL_REFUSE : PAL_ALLOW;
}

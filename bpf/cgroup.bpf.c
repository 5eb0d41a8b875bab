// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Sockets, destinations and DNS questions, decided by programs on cgroups: the tier that every kernel has, also without an LSM.
 *
 * Attached once, to the root of the unified hierarchy, which all cgroups below inherit; and only while some policy in force, or
 * one that is about to be, decides the family: everybody's sockets come by here. Each asks first whether anybody decides. A
 * refused act returns EPERM and has no effect: nothing was sent.
 *
 * Whose act it is: the acting task says it, so that a socket that came in by descriptor passing is judged as its user's, and a
 * task that left its cgroup is what it was. The host is judged like a workload where it has a policy.
 *
 * Gaps: only IPv4 and IPv6 sockets pass here. recvmsg and accept are no destinations and are not judged. Raw, ping, packet and SCTP
 * sockets send, and raw, SCTP and UDP-Lite ones connect, without passing here (their creation does, if they are IPv4 or IPv6). A packet
 * goes first to where a route in its own header says, which its sender chooses (IPV6_RTHDR, IP_OPTIONS), and which nobody judges. Further
 * subflows of MPTCP are connected by a worker of the kernel, which is the host's, as are the connections that the kernel makes for itself
 * (NFS).
 *
 * DNS is decided by the packets themselves, which have left the sender's memory, or are not read: by whatever call or ring they were
 * sent, over connected sockets or not, by a socket of any type. Refused are the packets: a datagram's send(2) returns EPERM, a stream just
 * never gets its question through. A packet may be sent in anybody's turn of the kernel, so that its socket's cgroup says whose it
 * is, unless the current task is in that very cgroup: then the task says it, which knows of itself whether it has left another.
 * Gaps: servers at other ports, DNS over TLS and HTTPS; packet sockets, whose creation is judged; a stream over a socket that was made
 * elsewhere is its maker's; a stream's question that another task's turn of the kernel sends is judged without its source.
 *
 * Minimum kernel 6.1 (tested). Task storage, and with it the runtime phase and the kept identity, is offered to these
 * program types by newer kernels only (6.18 does); without it the acting task's cgroup alone names the workload, so that one
 * that got out of its cgroup is held no more, and the source is computed for each act instead of once for each program. Where
 * there is no unified hierarchy, or its root cannot be reached, nothing of this is held.
 */
#include "conditions.h"
#include "connection.h"
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
	__u32 modifiers;

	pal_identify_here(&subject);
	if (!pal_decides(&subject, family) || subject.phase == PAL_PHASE_RUNTIME)
		return PAL_ALLOW;
	modifiers = pal_terminal_modifier();
	if (operation == PAL_NETWORK_CONNECT && pal_was_permitted(&subject, endpoint, modifiers))
		return PAL_ALLOW;
	pal_act_begin(&act, &subject, family);
	act.modifiers = modifiers;
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

	if (pal_is_idle(PAL_FAMILY_CONNECT))
		return PAL_ALLOW;
	pal_endpoint_socket(&endpoint, PAL_AF_INET, context->type, context->protocol);
	pal_endpoint_ipv4(&endpoint, context->user_port, context->user_ip4);
	return pal_judge(&endpoint, PAL_FAMILY_CONNECT, operation);
}

static __always_inline int pal_judge_v6(struct bpf_sock_addr *context, __u32 operation)
{
	struct pal_endpoint endpoint = {};
	__be32 address[4];

	if (pal_is_idle(PAL_FAMILY_CONNECT))
		return PAL_ALLOW;
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

	if (pal_is_idle(PAL_FAMILY_SOCKET))
		return PAL_ALLOW;
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
	__u32 lost;          /* where messages begin nobody can tell any more: none can be read */
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pal_stream);
} streams SEC(".maps");

#define PAL_STREAM_MESSAGES 64 /* in one packet; more are not read */

/* Who asks: plain values, for what judges a message can be given no pointers that lead to others. */
struct pal_asker {
	__u64 cgroup;
	__u32 slot;
	__u32 phase;
	__u32 policy;
	__u32 generation;
	__u32 flags;     /* of the slot */
	__u32 source;    /* its source id, found once for all messages */
	__u16 naming;    /* PAL_NAMED, PAL_NO_BLOB or PAL_NO_SCRATCH */
	__u8 transport;
	__u8 known;      /* the current task is the one that asks */
	__u32 reserved;
};

/* One packet to a DNS server. */
struct pal_asking {
	struct __sk_buff *packet;
	struct pal_scratch *scratch;
	struct pal_stream *stream;
	struct pal_question_packet place;
	__u32 at;     /* of the next message, from the packet's first byte */
	__u32 refuse;
	__u32 unreadable;
	struct pal_asker asker;
};

#define PAL_PACKET_LEVELS 12 /* of the hierarchy: a container is at the fourth or so, and what it makes itself below it is its own */

/* Of a packet whose socket's cgroup found no room in the table: whose the deepest registered cgroup above it is. */
static __noinline __u32 pal_slot_above_packet(struct __sk_buff *packet)
{
	__u32 slot = pal_veiled(0);

	for (int level = 1; level < PAL_PACKET_LEVELS; level++) {
		__u64 id = bpf_skb_ancestor_cgroup_id(packet, level);
		__u32 *value;

		if (!id)
			break;
		value = bpf_map_lookup_elem(&cgroup_slots, &id);
		if (value)
			slot = *value & PAL_CGROUP_SLOT;
	}
	return slot;
}

/*
 * Out of line, as what is asked of every packet to a server's port; 0: the host's. A cgroup that is not registered may be one of too many
 * that a workload made; what is above it says nothing of who is unknown, unless the table is full.
 */
static __noinline __u32 pal_slot_of_packet(struct __sk_buff *packet, __u64 cgroup)
{
	int slot = pal_slot_or_ask(cgroup);
	__u32 above;

	if (slot && slot != PAL_ASK_ANCESTORS)
		return slot;
	above = pal_slot_above_packet(packet);
	return above == PAL_SLOT_UNKNOWN && slot != PAL_ASK_ANCESTORS ? 0 : above;
}

/*
 * The workload is the socket's. Who asks is the current task if it is of that workload or in that cgroup; else the kernel sends for
 * a task that waits, and the current one has nothing to do with it. But a datagram leaves in its sender's own turn: a socket of the
 * host's hides no workload that sends one.
 */
static __always_inline __u32 pal_identify_asker(struct __sk_buff *packet, __u32 protocol, struct pal_subject *subject)
{
	__u64 cgroup = bpf_skb_cgroup_id(packet);
	__u32 slot = pal_slot_of_packet(packet, cgroup);

	pal_identify_here(subject);
	if (slot == subject->slot || cgroup == subject->cgroup || (!slot && protocol == PAL_TRANSPORT_UDP))
		return 1;
	subject->kept = NULL;
	subject->cgroup = cgroup;
	subject->slot = slot;
	subject->phase = pal_veiled(slot ? PAL_PHASE_WORKLOAD : PAL_PHASE_NONE);
	pal_subject_load_slot(subject);
	return 0;
}

/*
 * Finds out who asks, and by what program unless nobody knows. 0: nobody decides what it may ask for. What it takes for that is gone from
 * the stack before a message is judged.
 */
static __noinline int pal_find_asker(struct pal_asking *asking)
{
	struct pal_asker *asker = &asking->asker;
	struct pal_subject subject;
	struct pal_act act;

	asker->known = pal_veiled(pal_identify_asker(asking->packet, asking->place.protocol, &subject));
	if (!pal_decides(&subject, PAL_FAMILY_DNS) || subject.phase == PAL_PHASE_RUNTIME)
		return 0;
	pal_act_begin(&act, &subject, PAL_FAMILY_DNS);
	if (act.scratch)
		act.naming = pal_veiled(!asker->known || pal_find_source(&act) ? PAL_NAMED : PAL_NO_BLOB);
	asking->scratch = act.scratch;
	asker->cgroup = subject.cgroup;
	asker->slot = subject.slot;
	asker->phase = subject.phase;
	asker->policy = subject.policy;
	asker->generation = subject.generation;
	asker->flags = subject.flags;
	asker->source = act.source;
	asker->naming = act.naming;
	asker->transport = pal_veiled(asking->place.protocol);
	asker->reserved = 0;
	return 1;
}

/* What the record says: the name as it was sent, behind where the question was read to. */
static __noinline void pal_report_question(struct __sk_buff *packet, const struct pal_asker *asker, struct pal_act *act,
					   const struct pal_question *question)
{
	struct pal_verdict verdict = {
		.word = act->word,
		.tier = PAL_TIER_CGROUP_BPF,
		.outcome = pal_effect(act) == PAL_EFFECT_BLOCK ? PAL_OUTCOME_DENIED : PAL_OUTCOME_OBSERVED,
		.fail_reason = pal_fail_reason(act),
		.family = PAL_FAMILY_DNS,
	};
	struct pal_asked_name name = {
		.known = asker->known,
		.transport = asker->transport,
		.query_type = question->type,
		.id = question->id,
		.length = question->dotted,
		.from = act->scratch ? act->scratch->path + PAL_QUESTION_DOTTED : NULL,
	};

	pal_question_server(packet, &name.server, asker->transport);
	pal_emit_question(act->subject, &name, &verdict);
}

static __always_inline void pal_name_question(struct __sk_buff *packet, struct pal_act *act, __u32 at, __u32 end,
					      struct pal_question *question)
{
	__u32 finding;

	if (!act->scratch || act->naming == PAL_NO_BLOB)
		return;
	finding = pal_question_read(packet, act->scratch, at, end, question);
	act->naming = pal_veiled(finding == PAL_QUESTION_UNREADABLE ? PAL_UNREADABLE : PAL_NAMED);
	if (finding == PAL_QUESTION_READABLE)
		pal_match_name(act, question->start);
}

/*
 * Judges the message from `at` to `end`. 1: it is refused. A global function: in a loop the verifier goes on until it has seen every
 * state twice, and all that is in here would be part of it; those of 7 and newer do not come to an end.
 */
pal_global int pal_judge_question(struct __sk_buff *packet, struct pal_scratch *scratch, struct pal_asker *asker, __u32 at, __u32 end)
{
	struct pal_question question = {};
	struct pal_subject subject = {};
	struct pal_act act;
	__u32 refused;

	if (!asker)
		return 0;
	subject.cgroup = asker->cgroup;
	subject.slot = asker->slot;
	subject.phase = asker->phase;
	subject.policy = asker->policy;
	subject.generation = asker->generation;
	subject.flags = asker->flags;
	act.subject = &subject;
	act.scratch = scratch;
	act.family = PAL_FAMILY_DNS;
	act.modifiers = 0;
	act.source = asker->source;
	act.naming = asker->naming;
	act.word = pal_veiled(PAL_EFFECT_PERMIT);
	pal_name_question(packet, &act, at, end, &question);
	pal_settle(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_question(packet, asker, &act, &question);
	refused = pal_effect(&act) == PAL_EFFECT_BLOCK;
	if (refused)
		pal_count(PAL_COUNTER_DENIED);
	return refused;
}

static __always_inline void pal_stream_went_on(struct pal_asking *asking, __u32 sequence)
{
	if (!asking->stream)
		return;
	if (asking->refuse) {
		asking->stream->refused_at = sequence;
		asking->stream->refused_by = asking->asker.policy;
		return;
	}
	asking->stream->known = 1;
	asking->stream->next = sequence;
}

/*
 * One message of a packet, of which a datagram has one. 1: there is no more, or one was refused. All ways lead through the one
 * call here, for the verifier would walk through each of them.
 */
static long pal_judge_message(__u32 index, void *context)
{
	struct pal_asking *asking = context;
	__u32 sequence = asking->place.sequence + asking->at - asking->place.payload;
	bool stream = asking->place.protocol == PAL_TRANSPORT_TCP;
	__be16 length = 0;
	__u32 end;

	if (asking->at >= asking->place.end && (stream || index))
		return 1;
	end = asking->place.end;
	if (stream) {
		/* A length that is cut in two leaves nothing to read: that message cannot be, nor what follows. */
		if (bpf_skb_load_bytes(asking->packet, asking->at, &length, sizeof(length)) && asking->stream)
			asking->stream->lost = 1;
		asking->at += sizeof(length);
		end = asking->at + bpf_ntohs(length);
	}
	if (asking->unreadable || index == PAL_STREAM_MESSAGES - 1)
		end = 0;
	/* Veiled for the compiler: that the function gives 0 or 1 the verifier does not know. */
	asking->refuse = pal_veiled(pal_judge_question(asking->packet, asking->scratch, &asking->asker, asking->at, end));
	if (!stream)
		return 1;
	asking->at = asking->unreadable ? asking->place.end : asking->at + bpf_ntohs(length);
	pal_stream_went_on(asking, asking->refuse ? sequence : sequence + sizeof(length) + bpf_ntohs(length));
	return asking->refuse & 1;
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

	if (stream && stream->refused_by == asking->asker.policy && stream->refused_at - begin < asking->place.end - payload) {
		asking->refuse = 1;
		return false;
	}
	asking->at = payload;
	if (stream && asking->place.opens) {
		stream->known = 1;
		stream->next = begin;
	}
	if (stream && stream->known && !stream->lost && (__s32)(stream->next - begin) > 0)
		asking->at = payload + (stream->next - begin);
	return asking->at < asking->place.end;
}

static __always_inline bool pal_find_stream(struct pal_asking *asking)
{
	struct bpf_sock *sock = asking->packet->sk;

	if (sock)
		sock = bpf_sk_fullsock(sock);
	if (sock)
		asking->stream = bpf_sk_storage_get(&streams, sock, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (asking->stream && asking->unreadable)
		asking->stream->lost = 1;
	if (asking->stream && asking->stream->lost)
		asking->unreadable = 1;
	return pal_stream_begin(asking);
}

SEC("cgroup_skb/egress")
int judge_question(struct __sk_buff *packet)
{
	struct pal_asking asking;
	__u32 finding;

	if (pal_is_idle(PAL_FAMILY_DNS))
		return PAL_ALLOW;
	asking.packet = packet;
	asking.stream = NULL;
	asking.refuse = pal_veiled(0);
	/* Veiled, and so what it found: what follows is verified once. */
	finding = pal_veiled(pal_question_locate(packet, &asking.place));
	if (finding == PAL_QUESTION_NONE || (finding != PAL_QUESTION_UNREADABLE && asking.place.payload >= asking.place.end &&
					     asking.place.protocol == PAL_TRANSPORT_TCP && !asking.place.opens))
		return PAL_ALLOW;
	if (!pal_find_asker(&asking))
		return PAL_ALLOW;
	asking.at = asking.place.payload;
	asking.unreadable = pal_veiled(finding != PAL_QUESTION_READABLE);
	if (finding == PAL_QUESTION_UNREADABLE || asking.place.protocol != PAL_TRANSPORT_TCP || pal_find_stream(&asking))
		bpf_loop(PAL_STREAM_MESSAGES, pal_judge_message, &asking, 0);
	if (asking.scratch)
		pal_scratch_put(asking.scratch);
	return asking.refuse ? PAL_REFUSE : PAL_ALLOW;
}

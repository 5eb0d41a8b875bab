// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation of sockets. See probes.bpf.c for how calls come here and record.h for where each field comes from.
 *
 * Not seen: names of Unix sockets (their domain is); sends on a connected socket; of sendmmsg all addresses but the first
 * message's; datagrams and connections by io_uring but as a request (probes_kernel.bpf.c). DNS is seen by its packets.
 */
#include "fold.h"
#include "observe.h"

char _license[] SEC("license") = "GPL";

#define PAL_EAGAIN 11

/* struct msghdr begins with the address and its length; in the 32-bit entry and for x32 both have 32 bits. */
struct pal_message_64 {
	__u64 name;
	__u32 name_len;
};

struct pal_message_32 {
	__u32 name;
	__u32 name_len;
};

/* Sends an observation of a socket, or counts it as folded or suppressed. Descriptors are no part of what is equal. */
static __noinline void pal_observe_network(const struct pal_subject *subject, const struct pal_endpoint *endpoint,
					   struct pal_network_act *act)
{
	const struct pal_observation *settings = pal_observation_of();
	__u32 kind = pal_network_kind(act->operation, false);
	struct pal_digest digest;
	__u64 words[3], value = 0;

	act->boot_ns = bpf_ktime_get_boot_ns();
	if (settings && settings->fold_window_ns) {
		__builtin_memcpy(words, endpoint->bytes, sizeof(words));
		pal_digest_begin(&digest, settings, kind);
		pal_digest_word(&digest, (__u64)endpoint->len << 32 | act->operation << 8 | act->flags);
		pal_digest_word(&digest, words[0]);
		pal_digest_word(&digest, words[1]);
		pal_digest_word(&digest, words[2]);
		pal_digest_word(&digest, act->result < 0 ? act->result : 0);
		value = pal_digest_end(&digest);
	}
	if (pal_admit(subject, kind, value, act->boot_ns))
		pal_emit_network(subject, endpoint, act, NULL);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_socket, struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = PAL_NETWORK_SOCKET, .result = result };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket = 0;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_SOCKET))
		return 0;
	pal_call_read(&call, regs, result);
	if (result >= 0)
		socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), result);
	if (socket)
		pal_endpoint_of_socket(&endpoint, socket);
	else
		pal_endpoint_of_arguments(&endpoint, &call);
	pal_observe_network(&subject, &endpoint, &act);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_connect, struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = PAL_NETWORK_CONNECT, .result = result };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_CONNECT))
		return 0;
	pal_call_read(&call, regs, result);
	socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), call.arguments[0]);
	if (!socket)
		return 0; /* not a socket: nothing was connected */
	pal_endpoint_of_socket(&endpoint, socket);
	if (result == 0 || result == -PAL_EINPROGRESS) {
		pal_endpoint_peer(&endpoint, socket);
	} else {
		pal_endpoint_user(&endpoint, (const void *)call.arguments[1], call.arguments[2]);
		act.flags = PAL_NETWORK_USER;
	}
	pal_observe_network(&subject, &endpoint, &act);
	return 0;
}

/* bind and listen: the address that the socket has then. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_bind, struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = pal_veiled(PAL_NETWORK_BIND), .result = result };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_BIND))
		return 0;
	pal_call_read(&call, regs, result);
	socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), call.arguments[0]);
	if (!socket)
		return 0;
	pal_endpoint_of_socket(&endpoint, socket);
	if (call.variant == PAL_VARIANT_LISTEN)
		act.operation = pal_veiled(PAL_NETWORK_LISTEN);
	if (result == 0 || call.variant == PAL_VARIANT_LISTEN) {
		pal_endpoint_own(&endpoint, socket);
	} else {
		pal_endpoint_user(&endpoint, (const void *)call.arguments[1], call.arguments[2]);
		act.flags = pal_veiled(PAL_NETWORK_USER);
	}
	pal_observe_network(&subject, &endpoint, &act);
	return 0;
}

/* The peer of the new socket. Finding nobody (EAGAIN) is no act: servers without work ask all the time. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_accept, struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = PAL_NETWORK_ACCEPT, .result = result };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket;

	if (result == -PAL_EAGAIN)
		return 0;
	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_ACCEPT))
		return 0;
	pal_call_read(&call, regs, result);
	socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), result >= 0 ? (__u64)result : call.arguments[0]);
	if (!socket)
		return 0;
	pal_endpoint_of_socket(&endpoint, socket);
	if (result >= 0)
		pal_endpoint_peer(&endpoint, socket);
	pal_observe_network(&subject, &endpoint, &act);
	return 0;
}

/* Where a send says that it goes: the user's address and its length; 0 where it goes to the socket's peer. */
static __always_inline __u64 pal_send_address(const struct pal_call *call, bool is_narrow, __u32 *length)
{
	struct pal_message_64 message = {};
	struct pal_message_32 narrow = {};

	if (call->variant != PAL_VARIANT_SENDMSG && call->variant != PAL_VARIANT_SENDMMSG) {
		*length = call->arguments[5];
		return call->arguments[4];
	}
	if (is_narrow) {
		bpf_probe_read_user(&narrow, sizeof(narrow), (const void *)call->arguments[1]);
		*length = narrow.name_len;
		return narrow.name;
	}
	bpf_probe_read_user(&message, sizeof(message), (const void *)call->arguments[1]);
	*length = message.name_len;
	return message.name;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_send, struct pt_regs *regs, long result)
{
	struct pal_network_act act = { .operation = PAL_NETWORK_SEND, .result = result, .flags = PAL_NETWORK_USER };
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct pal_call call;
	__u64 socket, address;
	__u32 length = 0;

	pal_identify(&subject);
	if (!pal_wanted(&subject, PAL_RECORD_SEND))
		return 0;
	pal_call_read(&call, regs, result);
	address = pal_send_address(&call, call.compat || pal_raw_number(regs) & PAL_X32_BIT, &length);
	if (!address)
		return 0;
	socket = pal_socket_of_descriptor(bpf_get_current_task_btf(), call.arguments[0]);
	if (!socket)
		return 0;
	pal_endpoint_of_socket(&endpoint, socket);
	pal_endpoint_user(&endpoint, (const void *)address, length);
	pal_observe_network(&subject, &endpoint, &act);
	return 0;
}

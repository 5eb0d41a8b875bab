// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Sockets and destinations on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * Gaps (matrix/families.rs says the same): sends over raw, ping, packet and SCTP sockets; routes that the sender chooses; further subflows
 * of MPTCP. Sends without a connect are the cgroup programs' (cgroup.bpf.c).
 */
#include "connection.h"
#include "lsm.h"

char LICENSE[] SEC("license") = "GPL";

/* The cgroup programs are there too and report what they audit: audits of what comes by them are left to them. Set before loading. */
const volatile __u32 pal_cgroup_reports = 0;

/* Does the kernel ask programs on cgroups about such a socket's connect(2)? Of TCP, UDP and ping sockets, and of no others (raw, SCTP, UDP-Lite). */
static __always_inline bool pal_connects_by_cgroup(const struct pal_endpoint *endpoint)
{
	__u8 type = endpoint->bytes[1], protocol = endpoint->bytes[2];

	if (type == PAL_SOCK_STREAM)
		return protocol == PAL_IPPROTO_TCP;
	return type == PAL_SOCK_DGRAM &&
	       (protocol == PAL_IPPROTO_UDP || protocol == PAL_IPPROTO_ICMP || protocol == PAL_IPPROTO_ICMPV6);
}

static __always_inline bool pal_others_report(const struct pal_act *act, const struct pal_endpoint *endpoint)
{
	bool is_internet = endpoint->bytes[0] == PAL_AF_INET || endpoint->bytes[0] == PAL_AF_INET6;

	return pal_cgroup_reports && !pal_is_denied(act) && is_internet &&
	       (act->family == PAL_FAMILY_SOCKET || pal_connects_by_cgroup(endpoint));
}

static __noinline int pal_judge_network(const struct pal_endpoint *endpoint, struct pal_subject *subject, __u32 family)
{
	struct pal_network_act network = {
		.operation = family == PAL_FAMILY_SOCKET ? PAL_NETWORK_SOCKET : PAL_NETWORK_CONNECT,
	};
	struct pal_verdict verdict;
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, family);
	act.modifiers = pal_terminal_modifier();
	if (act.scratch)
		pal_endpoint_canonical(&act, endpoint);
	pal_judge_endpoint(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT && !pal_others_report(&act, endpoint)) {
		pal_lsm_verdict(&act, &verdict);
		network.result = pal_is_denied(&act) ? -PAL_EPERM : 0;
		pal_emit_network(subject, endpoint, &network, &verdict);
	}
	result = pal_errno(&act, PAL_EPERM);
	if (pal_cgroup_reports && family == PAL_FAMILY_CONNECT && pal_effect(&act) == PAL_EFFECT_PERMIT)
		pal_note_permitted(subject, endpoint, act.modifiers);
	pal_act_end(&act);
	return result;
}

SEC("lsm/socket_create")
int BPF_PROG(judge_socket, int domain, int type, int protocol, int by_kernel, int earlier)
{
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;

	if (earlier || by_kernel || pal_is_idle(PAL_FAMILY_SOCKET) || !pal_is_judged(&subject, PAL_FAMILY_SOCKET))
		return earlier;
	pal_endpoint_socket(&endpoint, domain, type, protocol);
	return pal_judge_network(&endpoint, &subject, PAL_FAMILY_SOCKET);
}

/* `address` is the kernel's copy: no other thread can change it any more. */
static __always_inline void pal_endpoint_of_connect(struct pal_endpoint *endpoint, struct sock *sock,
						    struct sockaddr *address, int length)
{
	struct pal_sockaddr_in6 v6 = {};
	struct pal_sockaddr_in v4 = {};
	__u16 domain = 0;

	if (length >= (int)sizeof(domain))
		domain = address->sa_family;
	pal_endpoint_socket(endpoint, domain, sock->sk_type, sock->sk_protocol);
	if (domain == PAL_AF_INET && length >= (int)sizeof(v4)) {
		bpf_probe_read_kernel(&v4, sizeof(v4), address);
		pal_endpoint_ipv4(endpoint, v4.port, v4.address);
	} else if (domain == PAL_AF_INET6 && length >= PAL_SIN6_LEN_RFC2133) {
		bpf_probe_read_kernel(&v6, PAL_SIN6_LEN_RFC2133, address);
		pal_endpoint_ipv6(endpoint, v6.port, v6.address);
	}
}

/* AF_UNSPEC on an IP socket takes its destination away, and names none (getaddrinfo(3) does it); cgroup programs are not asked. */
static __always_inline bool pal_is_disconnect(struct sock *sock, struct sockaddr *address, int length)
{
	__u16 domain = sock->__sk_common.skc_family;

	return (domain == PAL_AF_INET || domain == PAL_AF_INET6) && length >= (int)sizeof(address->sa_family) &&
	       address->sa_family == PAL_AF_UNSPEC;
}

SEC("lsm/socket_connect")
int BPF_PROG(judge_connect, struct socket *socket, struct sockaddr *address, int length, int earlier)
{
	struct pal_endpoint endpoint = {};
	struct pal_subject subject;
	struct sock *sock;

	if (earlier || pal_is_idle(PAL_FAMILY_CONNECT) || !pal_is_judged(&subject, PAL_FAMILY_CONNECT))
		return earlier;
	/* Never none here; the verifier wants it asked from 6.12 on. */
	sock = socket->sk;
	if (!sock || pal_is_disconnect(sock, address, length))
		return earlier;
	pal_endpoint_of_connect(&endpoint, sock, address, length);
	return pal_judge_network(&endpoint, &subject, PAL_FAMILY_CONNECT);
}

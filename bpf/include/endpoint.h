/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Endpoints as records carry them: domain, type, protocol, port in network order, address.
 *
 * An IPv4-mapped IPv6 address is IPv4 here too; the unspecified address stays as it was asked for (decide.h makes it
 * loopback for the automaton).
 */
#ifndef PALISADE_ENDPOINT_H
#define PALISADE_ENDPOINT_H

#include "core.h"
#include "record.h"

#define PAL_ENDPOINT_LEN_SOCKET 3
#define PAL_ENDPOINT_LEN_V4 9
#define PAL_ENDPOINT_LEN_V6 21

struct pal_endpoint {
	__u8 bytes[PAL_ENDPOINT_SIZE];
	__u32 len;
};

/* A socket without a destination. The protocol is its number's low byte: IPPROTO_MPTCP (262) is TCP. */
static __always_inline void pal_endpoint_socket(struct pal_endpoint *endpoint, __u32 domain, __u32 type, __u32 protocol)
{
	endpoint->bytes[0] = domain;
	endpoint->bytes[1] = type;
	endpoint->bytes[2] = protocol;
	endpoint->len = pal_veiled(PAL_ENDPOINT_LEN_SOCKET);
}

static __always_inline void pal_endpoint_ipv4(struct pal_endpoint *endpoint, __be16 port, __be32 address)
{
	endpoint->bytes[0] = pal_veiled(PAL_AF_INET);
	__builtin_memcpy(endpoint->bytes + 3, &port, sizeof(port));
	__builtin_memcpy(endpoint->bytes + 5, &address, sizeof(address));
	endpoint->len = pal_veiled(PAL_ENDPOINT_LEN_V4);
}

/* One question and not three, and the likely way first: what is to come the verifier would walk through for each way that it sees. */
static __always_inline void pal_endpoint_ipv6(struct pal_endpoint *endpoint, __be16 port, const __be32 address[4])
{
	__u32 unmapped = pal_veiled(address[0] | address[1] | (address[2] ^ bpf_htonl(0xffff)));

	if (__builtin_expect(!unmapped, 0)) {
		pal_endpoint_ipv4(endpoint, port, address[3]);
		return;
	}
	endpoint->bytes[0] = pal_veiled(PAL_AF_INET6);
	__builtin_memcpy(endpoint->bytes + 3, &port, sizeof(port));
	__builtin_memcpy(endpoint->bytes + 5, address, 16);
	endpoint->len = pal_veiled(PAL_ENDPOINT_LEN_V6);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * DNS queries in outgoing packets: where the message lies, and the name that its question asks for.
 *
 * For programs at cgroup_skb/egress, where a packet begins with its network header and is not in fragments yet. What is read
 * are the packet's own bytes, which nobody can change any more: no race with the sender's memory, whichever call sent them.
 *
 * A name is written twice: dotted as it was sent, for records, and reversed by label as a path in lower case
 * ("www.Example.com" as "/com/example/www"), for the automaton. Labels may hold any byte: '/' and NUL, which paths cannot,
 * become 1, which no rule can mean.
 *
 * Invariant: what goes to port 53 and cannot be read is said to be so, never taken for something that is no query. A question's
 * name is never compressed and has at most 255 bytes; a message has one question.
 */
#ifndef PALISADE_DNS_H
#define PALISADE_DNS_H

#include "maps.h"

#define PAL_DNS_PORT 53
#define PAL_DNS_HEADER 12     /* bytes before the question */
#define PAL_DNS_NAME_MAX 255  /* bytes of a name on the wire, its last zero included */
#define PAL_DNS_LABEL_MAX 63
#define PAL_DNS_QUERY_MIN (PAL_DNS_HEADER + 1 + 4) /* the root's name, type and class */

#define PAL_IPPROTO_TCP 6
#define PAL_IPPROTO_UDP 17
#define PAL_IPV6_EXTENSIONS 8 /* headers that are passed over; more cannot be read */

enum pal_dns_finding {
	PAL_DNS_NO_QUERY = 0,
	PAL_DNS_READABLE = 1,
	PAL_DNS_UNREADABLE = 2,
};

/* Where a packet's payload lies. Offsets from the network header. */
struct pal_dns_packet {
	__u32 payload;
	__u32 end;
	__u32 protocol; /* PAL_IPPROTO_TCP or _UDP */
	__u32 sequence; /* TCP: of the payload's first byte */
	__u32 opens;    /* TCP: SYN */
	__u32 family;   /* PAL_AF_INET or _INET6 */
	__be32 server[4];
};

/* What was asked. Offsets into scratch->path. */
struct pal_dns_question {
	__u32 start;  /* of the reversed name, which ends at PAL_PATH_SIZE */
	__u32 dotted; /* bytes of the dotted name, which begins at PAL_DNS_DOTTED */
	__u16 type;   /* query type; 0: it was cut off */
	__u16 id;
};

#define PAL_DNS_DOTTED 1 /* behind the first label's length */

struct pal_ipv4_header {
	__u8 version_and_length;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 lifetime;
	__u8 protocol;
	__be16 checksum;
	__be32 source;
	__be32 destination;
};

struct pal_ipv6_header {
	__be32 version;
	__be16 length;
	__u8 next;
	__u8 lifetime;
	__be32 source[4];
	__be32 destination[4];
};

struct pal_tcp_header {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledged;
	__u8 length; /* upper half, in words */
	__u8 flags;
};

struct pal_dns_head {
	__be16 id;
	__u8 flags; /* bit 7: an answer */
	__u8 more;
	__be16 questions;
};

static __always_inline bool pal_dns_load(struct __sk_buff *packet, __u32 at, void *to, __u32 size)
{
	return !bpf_skb_load_bytes(packet, at, to, size);
}

/* Sets the transport header's offset and protocol; PAL_DNS_NO_QUERY: a later fragment, whose first one is judged. */
static __always_inline __u32 pal_dns_ipv4(struct __sk_buff *packet, struct pal_dns_packet *place, __u32 *transport)
{
	struct pal_ipv4_header header;

	if (!pal_dns_load(packet, 0, &header, sizeof(header)))
		return PAL_DNS_UNREADABLE;
	if (header.fragment & bpf_htons(0x1fff))
		return PAL_DNS_NO_QUERY;
	place->family = PAL_AF_INET;
	place->protocol = header.protocol;
	place->server[0] = header.destination;
	*transport = (header.version_and_length & 15) * 4;
	return PAL_DNS_READABLE;
}

static __always_inline bool pal_is_ipv6_extension(__u32 header)
{
	/* hop by hop, routing, fragment, authentication, destination */
	return header == 0 || header == 43 || header == 44 || header == 51 || header == 60;
}

static __always_inline __u32 pal_dns_ipv6(struct __sk_buff *packet, struct pal_dns_packet *place, __u32 *transport)
{
	struct pal_ipv6_header header;
	__u32 next, at = sizeof(header);
	struct {
		__u8 next;
		__u8 length;
		__be16 offset;
	} extension;

	if (!pal_dns_load(packet, 0, &header, sizeof(header)))
		return PAL_DNS_UNREADABLE;
	next = header.next;
	for (__u32 i = 0; i < PAL_IPV6_EXTENSIONS && pal_is_ipv6_extension(next); i++) {
		if (!pal_dns_load(packet, at, &extension, sizeof(extension)))
			return PAL_DNS_UNREADABLE;
		if (next == 44 && extension.offset & bpf_htons(0xfff8))
			return PAL_DNS_NO_QUERY;
		if (next == 44)
			at += 8;
		else
			at += next == 51 ? (extension.length + 2) * 4 : (extension.length + 1) * 8;
		next = extension.next;
	}
	if (pal_is_ipv6_extension(next))
		return PAL_DNS_UNREADABLE;
	place->family = PAL_AF_INET6;
	place->protocol = next;
	__builtin_memcpy(place->server, header.destination, sizeof(place->server));
	*transport = at;
	return PAL_DNS_READABLE;
}

/* Is this packet for a DNS server, and where is its payload? */
static __noinline __u32 pal_dns_locate(struct __sk_buff *packet, struct pal_dns_packet *place)
{
	__u32 transport = 0, finding;
	struct pal_tcp_header tcp;
	__u8 version = 0;
	struct {
		__be16 source;
		__be16 destination;
	} ports;

	if (!pal_dns_load(packet, 0, &version, sizeof(version)))
		return PAL_DNS_NO_QUERY;
	finding = version >> 4 == 4 ? pal_dns_ipv4(packet, place, &transport) : pal_dns_ipv6(packet, place, &transport);
	if (finding != PAL_DNS_READABLE)
		return finding;
	if (place->protocol != PAL_IPPROTO_UDP && place->protocol != PAL_IPPROTO_TCP)
		return PAL_DNS_NO_QUERY;
	if (!pal_dns_load(packet, transport, &ports, sizeof(ports)))
		return PAL_DNS_UNREADABLE;
	if (ports.destination != bpf_htons(PAL_DNS_PORT))
		return PAL_DNS_NO_QUERY;
	place->end = packet->len;
	if (place->protocol == PAL_IPPROTO_UDP) {
		place->payload = transport + 8;
		/* Several datagrams in one packet that the device is to cut: no resolver sends them. */
		return packet->gso_size ? PAL_DNS_UNREADABLE : PAL_DNS_READABLE;
	}
	if (!pal_dns_load(packet, transport, &tcp, sizeof(tcp)))
		return PAL_DNS_UNREADABLE;
	place->payload = transport + (tcp.length >> 4) * 4;
	place->opens = tcp.flags >> 1 & 1;
	/* The SYN itself takes a number before the data's first. */
	place->sequence = bpf_ntohl(tcp.sequence) + place->opens;
	return PAL_DNS_READABLE;
}

struct pal_dns_walk {
	struct pal_scratch *scratch;
	__u32 at;    /* next byte of the name, in scratch->path */
	__u32 size;  /* bytes that may be the name's */
	__u32 left;  /* bytes that the current label still has */
	__u32 to;    /* where its next byte goes */
	__u32 start; /* of what is reversed so far */
	__u32 ended;
};

static __always_inline __u8 pal_dns_spell(__u8 byte)
{
	if (byte >= 'A' && byte <= 'Z')
		return byte + ('a' - 'A');
	return byte == '/' || !byte ? 1 : byte;
}

/* One byte of a name on the wire. 1: that was its end, or cannot be a name. */
static long pal_dns_step(__u32 index, void *context)
{
	struct pal_dns_walk *walk = context;
	__u32 at = walk->at & (PAL_NAME_MAX);
	__u8 *path = walk->scratch->path;
	__u8 byte;

	if (walk->at >= walk->size)
		return 1;
	byte = path[at];
	walk->at = at + 1;
	if (walk->left) {
		path[walk->to & (PAL_PATH_SIZE - 1)] = pal_dns_spell(byte);
		walk->to += 1;
		walk->left -= 1;
		return 0;
	}
	walk->ended = !byte;
	if (!byte || byte > PAL_DNS_LABEL_MAX)
		return 1;
	path[at] = '.';
	walk->left = byte;
	walk->start -= byte + 1;
	walk->to = walk->start + 1;
	path[walk->start & (PAL_PATH_SIZE - 1)] = '/';
	return 0;
}

/* Reads the name that begins `at` bytes into the packet; it ends before `end`. */
static __always_inline bool pal_dns_name(struct __sk_buff *packet, struct pal_scratch *scratch, __u32 at, __u32 end,
					 struct pal_dns_question *question)
{
	const __u32 root = PAL_PATH_SIZE - 1;
	__u32 size = end - at;
	struct pal_dns_walk walk;
	__be16 type = 0;

	if (end <= at)
		return false;
	if (size > PAL_DNS_NAME_MAX)
		size = PAL_DNS_NAME_MAX;
	pal_opaque(size);
	if (size - 1 >= PAL_DNS_NAME_MAX || bpf_skb_load_bytes(packet, at, scratch->path, size))
		return false;
	walk.scratch = scratch;
	walk.at = PAL_ZERO(scratch);
	walk.size = size;
	walk.left = PAL_ZERO(scratch);
	walk.to = PAL_ZERO(scratch);
	walk.start = PAL_PATH_SIZE + PAL_ZERO(scratch);
	walk.ended = PAL_ZERO(scratch);
	bpf_loop(PAL_DNS_NAME_MAX, pal_dns_step, &walk, 0);
	if (!walk.ended)
		return false;
	if (walk.start == PAL_PATH_SIZE) {
		scratch->path[root] = '/';
		walk.start = root;
	}
	question->start = walk.start;
	question->dotted = walk.at > 2 ? walk.at - 2 : 0;
	if (!pal_dns_load(packet, at + walk.at, &type, sizeof(type)))
		type = 0;
	question->type = bpf_ntohs(type);
	return true;
}

/* Reads the message from `at` to `end`. What is no query needs no name. */
static __noinline __u32 pal_dns_read(struct __sk_buff *packet, struct pal_scratch *scratch, __u32 at, __u32 end,
				     struct pal_dns_question *question)
{
	struct pal_dns_head head;

	if (end < at + PAL_DNS_HEADER || !pal_dns_load(packet, at, &head, sizeof(head)))
		return PAL_DNS_UNREADABLE;
	if (head.flags & 0x80 || !head.questions)
		return PAL_DNS_NO_QUERY;
	if (head.questions != bpf_htons(1))
		return PAL_DNS_UNREADABLE;
	question->id = bpf_ntohs(head.id);
	return pal_dns_name(packet, scratch, at + PAL_DNS_HEADER, end, question) ? PAL_DNS_READABLE : PAL_DNS_UNREADABLE;
}

#endif

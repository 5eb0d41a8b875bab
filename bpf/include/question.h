/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * DNS queries in outgoing packets: where the message lies, and the name that its question asks for.
 *
 * For programs at cgroup_skb/egress, where a packet begins with its network header and is not in fragments yet. What is read
 * are the packet's own bytes, which nobody can change any more: no race with the sender's memory, whichever call sent them. Where
 * they are pages that somebody else still has (MSG_ZEROCOPY, sendfile(2), splice(2)), they cannot be read: what the server gets
 * may be something else.
 *
 * A name is written twice: dotted as it was sent, for records, and reversed by label as a path in lower case
 * ("www.Example.com" as "/com/example/www"), for the automaton. Labels may hold any byte: '/' and NUL, which paths cannot,
 * become 0xff, which no rule can mean.
 *
 * Invariant: what goes to port 53 and cannot be read is said to be so, never taken for something that is no query. A question's
 * name is never compressed and has at most 255 bytes; a message has one question.
 */
#ifndef PALISADE_QUESTION_H
#define PALISADE_QUESTION_H

#include "endpoint.h"
#include "maps.h"

#define PAL_QUESTION_PORT 53
#define PAL_QUESTION_HEADER 12     /* bytes before the question */
#define PAL_QUESTION_NAME_MAX 255  /* bytes of a name on the wire, its last zero included */
#define PAL_QUESTION_LABEL_MAX 63
#define PAL_QUESTION_QUERY_MIN (PAL_QUESTION_HEADER + 1 + 4) /* the root's name, type and class */

#define PAL_TRANSPORT_TCP 6
#define PAL_TRANSPORT_UDP 17
#define PAL_IPV6_EXTENSIONS 8 /* headers that are passed over; more cannot be read */

enum pal_question_finding {
	PAL_QUESTION_NONE = 0,
	PAL_QUESTION_READABLE = 1,
	PAL_QUESTION_UNREADABLE = 2,
	PAL_QUESTION_LOST = 3, /* of a stream, and where its later messages begin nobody can tell */
};

/* Where a packet's payload lies. Offsets from the network header. */
struct pal_question_packet {
	__u32 payload;
	__u32 end;
	__u32 protocol; /* PAL_TRANSPORT_TCP or _UDP */
	__u32 sequence; /* TCP: of the payload's first byte */
	__u32 opens;    /* TCP: SYN */
};

/* What was asked. Offsets into scratch->path. */
struct pal_question {
	__u32 start;  /* of the reversed name, which ends at PAL_PATH_SIZE */
	__u32 dotted; /* bytes of the dotted name, which begins at PAL_QUESTION_DOTTED */
	__u16 type;   /* query type; 0: it was cut off */
	__u16 id;
};

#define PAL_QUESTION_DOTTED 1 /* behind the first label's length */

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

#define PAL_TCP_SYN 2
#define PAL_TCP_URG 32 /* a byte that is no part of what the server reads is in this packet, or comes */

struct pal_question_head {
	__be16 id;
	__u8 flags; /* bit 7: an answer */
	__u8 more;
	__be16 questions;
};

static __always_inline bool pal_question_load(struct __sk_buff *packet, __u32 at, void *to, __u32 size)
{
	return !bpf_skb_load_bytes(packet, at, to, size);
}

/* Sets the transport header's offset and protocol; PAL_QUESTION_NONE: a later fragment, whose first one is judged. */
static __always_inline __u32 pal_question_ipv4(struct __sk_buff *packet, struct pal_question_packet *place, __u32 *transport)
{
	struct pal_ipv4_header header;

	if (!pal_question_load(packet, 0, &header, sizeof(header)))
		return PAL_QUESTION_UNREADABLE;
	if (header.fragment & bpf_htons(0x1fff))
		return PAL_QUESTION_NONE;
	place->protocol = pal_veiled(header.protocol);
	*transport = (header.version_and_length & 15) * 4;
	return PAL_QUESTION_READABLE;
}

static __always_inline bool pal_is_ipv6_extension(__u32 header)
{
	/* hop by hop, routing, fragment, authentication, destination */
	return header == 0 || header == 43 || header == 44 || header == 51 || header == 60;
}

static __always_inline __u32 pal_question_ipv6(struct __sk_buff *packet, struct pal_question_packet *place, __u32 *transport)
{
	struct pal_ipv6_header header;
	__u32 next, at = sizeof(header);
	struct {
		__u8 next;
		__u8 length;
		__be16 offset;
	} extension;

	if (!pal_question_load(packet, 0, &header, sizeof(header)))
		return PAL_QUESTION_UNREADABLE;
	next = header.next;
	for (__u32 i = 0; i < PAL_IPV6_EXTENSIONS && pal_is_ipv6_extension(next); i++) {
		if (!pal_question_load(packet, at, &extension, sizeof(extension)))
			return PAL_QUESTION_UNREADABLE;
		if (next == 44 && extension.offset & bpf_htons(0xfff8))
			return PAL_QUESTION_NONE;
		if (next == 44)
			at += 8;
		else
			at += next == 51 ? (extension.length + 2) * 4 : (extension.length + 1) * 8;
		next = extension.next;
	}
	if (pal_is_ipv6_extension(next))
		return PAL_QUESTION_UNREADABLE;
	place->protocol = pal_veiled(next);
	*transport = at;
	return PAL_QUESTION_READABLE;
}

/* By the packet's address: the context is the kernel's own packet. A stream's bytes lie in pages of the kernel's, mostly; a datagram's do not. */
static __always_inline bool pal_question_may_change(struct __sk_buff *packet, bool stream)
{
	struct sk_buff *own = (struct sk_buff *)packet;
	struct skb_shared_info *shared;

	if (!BPF_CORE_READ(own, data_len))
		return false;
	if (!stream)
		return true;
	shared = (struct skb_shared_info *)(BPF_CORE_READ(own, head) + BPF_CORE_READ(own, end));
	return BPF_CORE_READ(shared, flags) & (PAL_SKBFL_ZEROCOPY_ENABLE | PAL_SKBFL_SHARED_FRAG);
}

/*
 * Is this packet for a DNS server, and where is its payload? A global function, as is pal_question_read: each is verified by
 * itself, once, and not again for every way that leads to it and from it.
 */
pal_global int pal_question_locate(struct __sk_buff *packet, struct pal_question_packet *place)
{
	__u32 transport = 0, finding;
	struct pal_tcp_header tcp;
	__u8 version = 0;
	struct {
		__be16 source;
		__be16 destination;
	} ports;

	if (!place)
		return PAL_QUESTION_NONE;
	place->payload = pal_veiled(0);
	place->end = pal_veiled(packet->len);
	place->protocol = pal_veiled(0);
	place->sequence = pal_veiled(0);
	place->opens = pal_veiled(0);
	if (!pal_question_load(packet, 0, &version, sizeof(version)))
		return PAL_QUESTION_NONE;
	finding = version >> 4 == 4 ? pal_question_ipv4(packet, place, &transport) : pal_question_ipv6(packet, place, &transport);
	if (finding != PAL_QUESTION_READABLE)
		return finding;
	if (place->protocol != PAL_TRANSPORT_UDP && place->protocol != PAL_TRANSPORT_TCP)
		return PAL_QUESTION_NONE;
	if (!pal_question_load(packet, transport, &ports, sizeof(ports)))
		return PAL_QUESTION_UNREADABLE;
	if (ports.destination != bpf_htons(PAL_QUESTION_PORT))
		return PAL_QUESTION_NONE;
	if (place->protocol == PAL_TRANSPORT_UDP) {
		place->payload = pal_veiled(transport + 8);
		/* Several datagrams in one packet that the device is to cut: no resolver sends them. */
		return packet->gso_size || pal_question_may_change(packet, false) ? PAL_QUESTION_UNREADABLE : PAL_QUESTION_READABLE;
	}
	if (!pal_question_load(packet, transport, &tcp, sizeof(tcp)))
		return PAL_QUESTION_UNREADABLE;
	place->payload = pal_veiled(transport + (tcp.length >> 4) * 4);
	place->opens = pal_veiled(!!(tcp.flags & PAL_TCP_SYN));
	/* The SYN itself takes a number before the data's first. */
	place->sequence = pal_veiled(bpf_ntohl(tcp.sequence) + place->opens);
	return tcp.flags & PAL_TCP_URG || pal_question_may_change(packet, true) ? PAL_QUESTION_LOST : PAL_QUESTION_READABLE;
}

/* The server that a packet goes to, read again for its record: it has no room on the stack while its name is judged. */
static __always_inline void pal_question_server(struct __sk_buff *packet, struct pal_endpoint *server, __u32 protocol)
{
	__be32 address[4] = {};
	__u8 version = 0;

	pal_question_load(packet, 0, &version, sizeof(version));
	if (version >> 4 == 4) {
		pal_question_load(packet, __builtin_offsetof(struct pal_ipv4_header, destination), address, 4);
		pal_endpoint_socket(server, PAL_AF_INET, 0, protocol);
		pal_endpoint_ipv4(server, bpf_htons(PAL_QUESTION_PORT), address[0]);
	} else {
		pal_question_load(packet, __builtin_offsetof(struct pal_ipv6_header, destination), address, 16);
		pal_endpoint_socket(server, PAL_AF_INET6, 0, protocol);
		pal_endpoint_ipv6(server, bpf_htons(PAL_QUESTION_PORT), address);
	}
}

struct pal_question_walk {
	struct pal_scratch *scratch;
	__u32 at;    /* next byte of the name, in scratch->path */
	__u32 size;  /* bytes that may be the name's */
	__u32 left;  /* bytes that the current label still has */
	__u32 to;    /* where its next byte goes */
	__u32 start; /* of what is reversed so far */
	__u32 ended;
};

static __always_inline __u8 pal_question_spell(__u8 byte)
{
	if (byte >= 'A' && byte <= 'Z')
		return byte + ('a' - 'A');
	return byte == '/' || !byte ? 0xff : byte;
}

/* One byte of a name on the wire. 1: that was its end, or cannot be a name. */
static long pal_question_step(__u32 index, void *context)
{
	struct pal_question_walk *walk = context;
	__u32 at = walk->at & (PAL_NAME_MAX);
	__u8 *path = walk->scratch->path;
	__u8 byte;

	if (walk->at >= walk->size)
		return 1;
	byte = path[at];
	walk->at = at + 1;
	if (walk->left) {
		path[walk->to & (PAL_PATH_SIZE - 1)] = pal_question_spell(byte);
		walk->to += 1;
		walk->left -= 1;
		return 0;
	}
	walk->ended = !byte;
	if (!byte || byte > PAL_QUESTION_LABEL_MAX)
		return 1;
	path[at] = '.';
	walk->left = byte;
	walk->start -= byte + 1;
	walk->to = walk->start + 1;
	path[walk->start & (PAL_PATH_SIZE - 1)] = '/';
	return 0;
}

/* Reads the name that begins `at` bytes into the packet; it ends before `end`. */
static __always_inline bool pal_question_name(struct __sk_buff *packet, struct pal_scratch *scratch, __u32 at, __u32 end,
					 struct pal_question *question)
{
	const __u32 root = PAL_PATH_SIZE - 1;
	struct pal_question_walk walk;
	__u32 size, last;
	__be16 type = 0;

	if (end > packet->len)
		end = packet->len;
	if (end <= at)
		return false;
	size = end - at;
	if (size > PAL_QUESTION_NAME_MAX)
		size = PAL_QUESTION_NAME_MAX;
	/* 6.1 learns no lower bound from a comparison with 0: it gets one by the addition. */
	last = size - 1;
	pal_opaque(last);
	if (last >= PAL_QUESTION_NAME_MAX || bpf_skb_load_bytes(packet, at, scratch->path, last + 1))
		return false;
	walk.scratch = scratch;
	walk.at = PAL_ZERO(scratch);
	walk.size = size;
	walk.left = PAL_ZERO(scratch);
	walk.to = PAL_ZERO(scratch);
	walk.start = PAL_PATH_SIZE + PAL_ZERO(scratch);
	walk.ended = PAL_ZERO(scratch);
	bpf_loop(PAL_QUESTION_NAME_MAX, pal_question_step, &walk, 0);
	if (!walk.ended)
		return false;
	if (walk.start == PAL_PATH_SIZE) {
		scratch->path[root] = '/';
		walk.start = root;
	}
	question->start = pal_veiled(walk.start);
	question->dotted = pal_veiled(walk.at > 2 ? walk.at - 2 : 0);
	if (!pal_question_load(packet, at + walk.at, &type, sizeof(type)))
		type = 0;
	question->type = bpf_ntohs(type);
	return true;
}

/* Reads the message from `at` to `end`. What is no query needs no name. */
pal_global int pal_question_read(struct __sk_buff *packet, struct pal_scratch *scratch, __u32 at, __u32 end,
				 struct pal_question *question)
{
	struct pal_question_head head;

	if (!scratch || !question)
		return PAL_QUESTION_NONE;
	if (end < at + PAL_QUESTION_HEADER || !pal_question_load(packet, at, &head, sizeof(head)))
		return PAL_QUESTION_UNREADABLE;
	if (head.flags & 0x80 || !head.questions)
		return PAL_QUESTION_NONE;
	if (head.questions != bpf_htons(1))
		return PAL_QUESTION_UNREADABLE;
	question->id = bpf_ntohs(head.id);
	return pal_question_name(packet, scratch, at + PAL_QUESTION_HEADER, end, question) ? PAL_QUESTION_READABLE : PAL_QUESTION_UNREADABLE;
}

#endif

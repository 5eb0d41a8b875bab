/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Reading DNS messages from packets, for programs on a cgroup's egress and ingress.
 *
 * From the packet and not from the sender's buffer: behind the socket nobody changes it any more, and whichever call, ring or
 * library made it, it passes here. Egress packets to port 53 are questions, ingress packets from port 53 are answers.
 *
 * Read are: UDP; TCP where a segment begins with a message's length (resolvers write both at once; PAL_DNS_OPAQUE says that a
 * segment with payload did not look like that, so that who decides can refuse it); IPv4; IPv6 with up to four extension
 * headers; the first PAL_DNS_BYTES of a message; its first question. Not read: further fragments of IPv4 and IPv6 (the first
 * one is); other ports; DNS over TLS, HTTPS or QUIC.
 *
 * Invariant: each length in a message is believed only within the bytes that were loaded, and every walk ends after a bounded
 * number of steps. All that the loops change is in the scratch itself, which the verifier of 6.1 takes for unknown (walk.h).
 *
 * Needs Linux 5.17 (bpf_loop); ring buffers and the current task in cgroup programs need CAP_PERFMON.
 */
#ifndef PALISADE_DNS_H
#define PALISADE_DNS_H

#include "core.h"
#include "endpoint.h"
#include "record.h"

#define PAL_DNS_PORT 53
#define PAL_DNS_BYTES 1024u    /* of a message; power of two */
#define PAL_DNS_SLACK 256u     /* read past it are zeros */
#define PAL_DNS_HEAD 12u
#define PAL_DNS_NAME 256u      /* power of two; a name on the wire has 255 bytes at most */
#define PAL_DNS_LABELS 128u
#define PAL_DNS_ADDRESSES 16u  /* power of two */
#define PAL_DNS_STEPS 256u     /* labels and records of the answer section */
#define PAL_DNS_SCRATCHES 64u  /* power of two */
#define PAL_DNS_TRIES 8u

/* What a packet was. */
enum pal_dns_found {
	PAL_DNS_NOTHING = 0, /* not to or from the port, or without payload */
	PAL_DNS_MESSAGE = 1, /* `name` and what stands before it in pal_dns are meaningful */
	PAL_DNS_OPAQUE = 2,  /* of the port, with payload, and not a message that can be read */
};

struct pal_dns {
	__u32 busy;
	__u8 operation;   /* enum pal_dns_operation; also the direction */
	__u8 transport;   /* IPPROTO_* */
	__u8 rcode;
	__u8 flags;       /* PAL_DNS_* of record.h */
	__u16 query_type;
	__u16 id;
	__u16 answers;
	__u16 local_port; /* host order */
	__u32 name_len;   /* of the dotted name, without a last dot; 0 is the root */
	__u32 address_count;
	__u32 at;         /* the rest: where the walk is */
	__u32 end;
	__u32 left;
	__u32 in_name;
	__u32 failed;
	__u32 reserved;
	struct pal_endpoint server;
	__u8 addresses[PAL_DNS_ADDRESSES][16];
	__u8 label[PAL_DNS_NAME]; /* the name on the wire; its dotted text begins at label + 1 */
	__u8 bytes[PAL_DNS_BYTES + PAL_DNS_SLACK];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_DNS_SCRATCHES);
	__type(key, __u32);
	__type(value, struct pal_dns);
} dns_scratch SEC(".maps");

/* The dotted name, in the case that was sent. */
#define pal_dns_name(dns) ((dns)->label + 1)

/* NULL when all that this CPU may try are taken. */
static __always_inline struct pal_dns *pal_dns_take(void)
{
	__u32 first = bpf_get_smp_processor_id() * (PAL_DNS_TRIES / 2);

	for (__u32 i = 0; i < PAL_DNS_TRIES; i++) {
		__u32 key = (first + i) & (PAL_DNS_SCRATCHES - 1);
		struct pal_dns *dns = bpf_map_lookup_elem(&dns_scratch, &key);

		if (dns && __sync_val_compare_and_swap(&dns->busy, 0, 1) == 0)
			return dns;
	}
	return NULL;
}

static __always_inline void pal_dns_put(struct pal_dns *dns)
{
	__sync_lock_test_and_set(&dns->busy, 0);
}

static __always_inline __u32 pal_dns_u8(const struct pal_dns *dns, __u32 at)
{
	return dns->bytes[at & (PAL_DNS_BYTES - 1)];
}

static __always_inline __u32 pal_dns_u16(const struct pal_dns *dns, __u32 at)
{
	return pal_dns_u8(dns, at) << 8 | pal_dns_u8(dns, at + 1);
}

/* One label of the question: its length byte becomes a dot. */
static long pal_dns_label(__u32 index, void *context)
{
	struct pal_dns *dns = *(struct pal_dns **)context;
	__u32 at = dns->at & (PAL_DNS_NAME - 1);
	__u32 length = dns->label[at];

	if (!length) {
		dns->failed = 0;
		return 1;
	}
	if (length > 63 || at + length + 1 >= PAL_DNS_NAME)
		return 1; /* a question's own name has nothing to point back to */
	dns->label[at] = '.';
	dns->at = at + length + 1;
	return 0;
}

/* The first question; `at` is then behind it. False: it is none. */
static __always_inline bool pal_dns_question(struct pal_dns *dns)
{
	bpf_probe_read_kernel(dns->label, PAL_DNS_NAME, dns->bytes + PAL_DNS_HEAD);
	dns->at = 0;
	dns->failed = 1;
	bpf_loop(PAL_DNS_LABELS, pal_dns_label, &dns, 0);
	if (dns->failed)
		return false;
	dns->name_len = dns->at ? dns->at - 1 : 0;
	dns->at += PAL_DNS_HEAD + 1;
	dns->query_type = pal_dns_u16(dns, dns->at);
	dns->at += 4;
	return dns->at <= dns->end;
}

static __always_inline void pal_dns_keep_address(struct pal_dns *dns, __u32 at, __u32 size)
{
	__u32 index = dns->address_count;
	__u8 *to;

	if (index >= PAL_DNS_ADDRESSES) {
		dns->flags |= PAL_DNS_INCOMPLETE;
		return;
	}
	to = dns->addresses[index & (PAL_DNS_ADDRESSES - 1)];
	if (size == 4) {
		__builtin_memset(to, 0, 10);
		to[10] = 0xff;
		to[11] = 0xff;
		bpf_probe_read_kernel(to + 12, 4, dns->bytes + (at & (PAL_DNS_BYTES - 1)));
	} else {
		bpf_probe_read_kernel(to, 16, dns->bytes + (at & (PAL_DNS_BYTES - 1)));
	}
	dns->address_count = index + 1;
}

/* The fixed part of a record, behind its name. */
static __always_inline void pal_dns_answer_body(struct pal_dns *dns, __u32 at)
{
	__u32 type = pal_dns_u16(dns, at);
	__u32 class = pal_dns_u16(dns, at + 2);
	__u32 size = pal_dns_u16(dns, at + 8);

	if (at + 10 + size <= dns->end && class == 1) {
		if (type == 1 && size == 4)
			pal_dns_keep_address(dns, at + 10, 4);
		else if (type == 28 && size == 16)
			pal_dns_keep_address(dns, at + 10, 16);
	}
	dns->at = at + 10 + size;
	dns->left--;
	dns->in_name = 1;
}

/* One step: a label of a record's name, or all of the record behind it. */
static long pal_dns_answer_step(__u32 index, void *context)
{
	struct pal_dns *dns = *(struct pal_dns **)context;
	__u32 at = dns->at;
	__u32 length;

	if (!dns->left)
		return 1;
	if (at >= dns->end)
		return 1;
	if (!dns->in_name) {
		pal_dns_answer_body(dns, at);
		return 0;
	}
	length = pal_dns_u8(dns, at);
	if (length >= 0xc0 || !length) {
		dns->in_name = 0;
		dns->at = at + (length ? 2 : 1);
	} else {
		dns->at = at + length + 1;
	}
	return 0;
}

static __always_inline void pal_dns_answers(struct pal_dns *dns)
{
	dns->left = dns->answers;
	dns->in_name = 1;
	bpf_loop(PAL_DNS_STEPS, pal_dns_answer_step, &dns, 0);
	if (dns->left)
		dns->flags |= PAL_DNS_INCOMPLETE;
}

/* `dns->bytes` holds `dns->end` bytes of a message. */
static __noinline int pal_dns_message(struct pal_dns *dns)
{
	__u32 head = pal_dns_u16(dns, 2);
	bool answer = dns->operation == PAL_DNS_ANSWER;

	if (dns->end <= PAL_DNS_HEAD || !pal_dns_u16(dns, 4) || !!(head & 0x8000) != answer)
		return PAL_DNS_OPAQUE;
	dns->id = pal_dns_u16(dns, 0);
	dns->answers = pal_dns_u16(dns, 6);
	dns->rcode = head & 0xf;
	if (head & 0x0200)
		dns->flags |= PAL_DNS_TRUNCATED;
	if (!pal_dns_question(dns))
		return PAL_DNS_OPAQUE;
	if (answer)
		pal_dns_answers(dns);
	return PAL_DNS_MESSAGE;
}

/* The transport header's offset and protocol, the server's address into `dns->server`; 0: not IP, or a later fragment. */
static __always_inline __u32 pal_dns_ipv4(struct __sk_buff *packet, struct pal_dns *dns)
{
	__be32 addresses[2];
	__be16 fragment;
	__u8 first, protocol;

	if (bpf_skb_load_bytes(packet, 0, &first, 1) || bpf_skb_load_bytes(packet, 9, &protocol, 1) ||
	    bpf_skb_load_bytes(packet, 6, &fragment, 2) || bpf_skb_load_bytes(packet, 12, addresses, 8))
		return 0;
	if (fragment & bpf_htons(0x1fff))
		return 0;
	dns->transport = protocol;
	pal_endpoint_socket(&dns->server, PAL_AF_INET, 0, protocol);
	pal_endpoint_ipv4(&dns->server, 0, addresses[dns->operation == PAL_DNS_QUESTION]);
	return (first & 0xf) * 4;
}

static __always_inline __u32 pal_dns_ipv6(struct __sk_buff *packet, struct pal_dns *dns)
{
	__be32 address[4];
	__u32 at = 40;
	__u8 protocol, extension[4];

	if (bpf_skb_load_bytes(packet, 6, &protocol, 1) ||
	    bpf_skb_load_bytes(packet, dns->operation == PAL_DNS_QUESTION ? 24 : 8, address, 16))
		return 0;
	for (int i = 0; i < 4; i++) {
		if (protocol != 0 && protocol != 43 && protocol != 44 && protocol != 60)
			break;
		if (bpf_skb_load_bytes(packet, at, extension, 4))
			return 0;
		if (protocol == 44 && (extension[2] || extension[3] & 0xf8))
			return 0;
		at += protocol == 44 ? 8 : (extension[1] + 1) * 8;
		protocol = extension[0];
	}
	dns->transport = protocol;
	pal_endpoint_socket(&dns->server, PAL_AF_INET6, 0, protocol);
	pal_endpoint_ipv6(&dns->server, 0, address);
	return at;
}

/* Where the payload begins, if the packet is of the port; 0 otherwise. */
static __always_inline __u32 pal_dns_payload(struct __sk_buff *packet, struct pal_dns *dns, __u32 at)
{
	__be16 ports[2];
	bool question = dns->operation == PAL_DNS_QUESTION;
	__u8 offset;

	if (dns->transport != PAL_IPPROTO_TCP && dns->transport != PAL_IPPROTO_UDP)
		return 0;
	if (bpf_skb_load_bytes(packet, at, ports, 4) || ports[question] != bpf_htons(PAL_DNS_PORT))
		return 0;
	dns->local_port = bpf_ntohs(ports[!question]);
	__builtin_memcpy(dns->server.bytes + 3, &ports[question], 2);
	if (dns->transport == PAL_IPPROTO_UDP)
		return at + 8;
	if (bpf_skb_load_bytes(packet, at + 12, &offset, 1))
		return 0;
	return at + (offset >> 4) * 4;
}

/* Fills `dns` from a packet whose network header is first. Returns enum pal_dns_found. */
static __noinline int pal_dns_read(struct __sk_buff *packet, struct pal_dns *dns, __u32 operation)
{
	__u32 at, size;
	__u8 version;

	dns->operation = operation;
	dns->flags = 0;
	dns->address_count = 0;
	dns->name_len = 0;
	if (bpf_skb_load_bytes(packet, 0, &version, 1))
		return PAL_DNS_NOTHING;
	at = version >> 4 == 6 ? pal_dns_ipv6(packet, dns) : pal_dns_ipv4(packet, dns);
	if (at)
		at = pal_dns_payload(packet, dns, at);
	if (!at || at >= packet->len)
		return PAL_DNS_NOTHING;
	size = packet->len - at;
	if (dns->transport == PAL_IPPROTO_TCP) {
		__be16 length;

		if (size < 2 || bpf_skb_load_bytes(packet, at, &length, 2))
			return PAL_DNS_OPAQUE;
		at += 2;
		size -= 2;
		if (size < bpf_ntohs(length))
			dns->flags |= PAL_DNS_INCOMPLETE; /* the rest is in later segments */
		else
			size = bpf_ntohs(length); /* further messages of the same segment are not read */
	}
	if (size > PAL_DNS_BYTES) {
		size = PAL_DNS_BYTES;
		dns->flags |= PAL_DNS_INCOMPLETE;
	}
	if (!size)
		return PAL_DNS_OPAQUE;
	dns->end = size;
	/* So that 6.1 sees that it is 1 to PAL_DNS_BYTES in the very register that it is passed in. */
	size -= 1;
	pal_opaque(size);
	size &= PAL_DNS_BYTES - 1;
	if (bpf_skb_load_bytes(packet, at, dns->bytes, size + 1))
		return PAL_DNS_OPAQUE;
	return pal_dns_message(dns);
}

#endif

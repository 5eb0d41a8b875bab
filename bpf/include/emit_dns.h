/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Records of DNS messages (dns.h), for observation and decisions alike. Apart from emit_calls.h, for it needs a packet.
 */
#ifndef PALISADE_EMIT_DNS_H
#define PALISADE_EMIT_DNS_H

#include "dns.h"
#include "emit.h"

/* The head of an act whose task nobody knows: its workload alone. */
static __always_inline void pal_describe_workload(struct pal_record_head *head, __u16 kind, const struct pal_subject *subject)
{
	__builtin_memset(head, 0, sizeof(*head));
	head->kind = kind;
	head->version = PAL_RECORD_VERSION;
	head->slot = subject->slot;
	head->boot_ns = bpf_ktime_get_boot_ns();
	head->cgroup_id = subject->cgroup;
	head->phase = subject->phase;
}

static __always_inline void pal_describe_dns(struct pal_record_dns *body, const struct pal_dns *dns, __u32 flags)
{
	body->operation = dns->operation;
	body->transport = dns->transport;
	body->rcode = dns->operation == PAL_DNS_ANSWER ? dns->rcode : 0;
	body->endpoint_len = dns->server.len;
	body->query_type = dns->query_type;
	body->id = dns->id;
	body->answers = dns->answers;
	body->flags = dns->flags | flags;
	__builtin_memset(body->reserved, 0, sizeof(body->reserved));
	__builtin_memcpy(body->endpoint, dns->server.bytes, sizeof(body->endpoint));
}

/*
 * `known`: the current task is the one that acts; not so where it did not send the packet (an answer; TCP that the kernel sends
 * again). `dns` is what pal_dns_read found to be a message.
 */
pal_function void pal_emit_dns(const struct pal_subject *subject, const struct pal_dns *dns, bool known,
			       const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_DNS, sizeof(struct pal_record_dns));
	struct pal_record_dns *body;

	if (!buffer)
		return;
	if (known)
		pal_describe(pal_record_head_of(buffer), PAL_RECORD_DNS, subject);
	else
		pal_describe_workload(pal_record_head_of(buffer), PAL_RECORD_DNS, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	pal_describe_dns(body, dns, known ? 0 : PAL_DNS_NO_TASK);
	pal_append_kernel(buffer, &body->name, pal_dns_name(dns), dns->name_len, 0);
	pal_append_kernel(buffer, &body->addresses, dns->addresses, dns->address_count * 16, 0);
	pal_record_send(buffer);
}

#endif

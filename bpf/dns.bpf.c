// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation of DNS: questions and answers, read from the packets (dns.h).
 *
 * Attached once, to the root of the unified hierarchy: a packet's socket says which workload's it is. A socket belongs to the
 * cgroup that it was made in, as everywhere in cgroup BPF: one that was passed on is still its maker's.
 *
 * Minimum kernel 6.1 (tested). Without it, or where the unified hierarchy is not mounted, no DNS records are made.
 */
#include "emit_dns.h"
#include "limit.h"

char _license[] SEC("license") = "GPL";

#define PAL_PASS 1

/*
 * Who asked is known where the current task is of the socket's cgroup: an asker sends from its own system call. A question
 * that the kernel sends again (TCP) from an interrupt may meet another task of the same workload there.
 */
static __always_inline void pal_observe_dns(struct __sk_buff *packet, __u32 operation)
{
	struct pal_subject subject;
	struct pal_dns *dns;
	bool known;

	if (!pal_wanted_anywhere(PAL_RECORD_DNS))
		return;
	pal_identify_cgroup(bpf_skb_cgroup_id(packet), &subject);
	if (!pal_wanted(&subject, PAL_RECORD_DNS))
		return;
	dns = pal_dns_take();
	if (!dns) {
		pal_lose(PAL_RECORD_DNS, PAL_LOSS_NO_SCRATCH);
		return;
	}
	known = operation == PAL_DNS_QUESTION && pal_cgroup_of_task(bpf_get_current_task_btf()) == subject.cgroup;
	if (pal_dns_read(packet, dns, operation) == PAL_DNS_MESSAGE && pal_within_rate(subject.slot, PAL_RECORD_DNS))
		pal_emit_dns(&subject, dns, known, NULL);
	pal_dns_put(dns);
}

SEC("cgroup_skb/egress")
int observe_dns_question(struct __sk_buff *packet)
{
	pal_observe_dns(packet, PAL_DNS_QUESTION);
	return PAL_PASS;
}

SEC("cgroup_skb/ingress")
int observe_dns_answer(struct __sk_buff *packet)
{
	pal_observe_dns(packet, PAL_DNS_ANSWER);
	return PAL_PASS;
}

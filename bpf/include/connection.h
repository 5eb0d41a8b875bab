/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Connections that a hook has just permitted. A connect(2) comes by the LSM hook and then by the cgroup programs, which are there for
 * what comes by no hook (sends, TCP Fast Open). The hook leaves a note of what it permitted, so that a connection is decided once.
 *
 * Invariant: a note permits exactly what deciding once more would permit: it is of one task's one executable, one policy in one
 * generation, one endpoint and the same circumstances. What is audited or denied is never noted. A note that is lost costs time alone.
 *
 * Decision: a map by task and not task storage, which the cgroup programs of older kernels (6.1) cannot read; not the name of the system
 * call, for a ring's sends are done at the end of other calls, too.
 */
#ifndef PALISADE_CONNECTION_H
#define PALISADE_CONNECTION_H

#include "endpoint.h"
#include "identity.h"

#define PAL_PERMITTED_CONNECTIONS 1024 /* tasks; past it the oldest notes go */

struct pal_permitted {
	__u64 decided_by; /* generation << 32 | policy; 0: the note is used up */
	__u64 execution;  /* which of the task's executions */
	__u64 endpoint[PAL_ENDPOINT_SIZE / 8];
	__u64 modifiers;  /* PAL_MODIFIER_* */
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PAL_PERMITTED_CONNECTIONS);
	__type(key, __u64); /* process and thread */
	__type(value, struct pal_permitted);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} permitted_connections SEC(".maps");

static __always_inline void pal_permitted_begin(struct pal_permitted *note, const struct pal_subject *subject,
						const struct pal_endpoint *endpoint, __u32 modifiers)
{
	note->decided_by = (__u64)subject->generation << 32 | subject->policy;
	note->execution = bpf_get_current_task_btf()->self_exec_id;
	__builtin_memcpy(note->endpoint, endpoint->bytes, sizeof(note->endpoint));
	note->modifiers = modifiers;
}

/* Only the task itself writes its note. */
static __noinline int pal_note_permitted(const struct pal_subject *subject, const struct pal_endpoint *endpoint, __u32 modifiers)
{
	__u64 key = bpf_get_current_pid_tgid();
	struct pal_permitted *there = bpf_map_lookup_elem(&permitted_connections, &key);
	struct pal_permitted note;

	if (there) {
		pal_permitted_begin(there, subject, endpoint, modifiers);
		return 0;
	}
	pal_permitted_begin(&note, subject, endpoint, modifiers);
	bpf_map_update_elem(&permitted_connections, &key, &note, BPF_ANY);
	return 0;
}

/* Has a hook just permitted it? The note is used up. */
static __always_inline bool pal_was_permitted(const struct pal_subject *subject, const struct pal_endpoint *endpoint, __u32 modifiers)
{
	__u64 key = bpf_get_current_pid_tgid();
	struct pal_permitted *note = bpf_map_lookup_elem(&permitted_connections, &key);
	struct pal_permitted asked;

	if (!note || !note->decided_by)
		return false;
	pal_permitted_begin(&asked, subject, endpoint, modifiers);
	if (note->decided_by != asked.decided_by || note->execution != asked.execution || note->modifiers != asked.modifiers ||
	    note->endpoint[0] != asked.endpoint[0] || note->endpoint[1] != asked.endpoint[1] || note->endpoint[2] != asked.endpoint[2])
		return false;
	note->decided_by = 0;
	return true;
}

#endif

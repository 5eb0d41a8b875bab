/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Writing records (record.h) into the rings: used by the probes, the LSM programs and the cgroup programs alike.
 *
 * One ring for each CPU, not one for all: the ring's spinlock is then never contended, and one busy CPU cannot take the
 * others' room. Invariant, for each CPU: next_sequence = records delivered + records counted in `losses`; a record takes
 * its number before anything can go wrong with it. Only a task that is preempted between the two breaks the sum, and only
 * until it runs again.
 *
 * Wake-ups are batched: a record wakes the reader if it is urgent (it carries a decision) or if a quarter of the ring is
 * full, and in both cases not within PAL_WAKE_INTERVAL_NS of the CPU's last wake-up. What nobody was woken for, the reader
 * finds at its own tick.
 *
 * Records without strings are built in the ring itself. Those with strings, whose size is not known before, are built in a
 * record buffer that is taken by an atomic exchange, not in a bare per-CPU buffer: LSM programs are preemptible, and would
 * overwrite each other's. None is built on the stack: 6.1 gives a whole chain of calls 512 bytes.
 *
 * Needs Linux 5.8 (ring buffer), 5.12 (atomic fetch-and-add).
 */
#ifndef PALISADE_EMIT_H
#define PALISADE_EMIT_H

#include "endpoint.h"
#include "identity.h"
#include "record.h"

#define PAL_RINGS 1024 /* CPUs past it share rings */
#define PAL_RING_DEFAULT (1u << 20)
#define PAL_RECORD_BUFFERS 64 /* power of two: 16 CPUs x 4 without sharing */
#define PAL_RECORD_BUFFER_TRIES 8
#define PAL_WAKE_INTERVAL_NS 1000000ull

_Static_assert((int)PAL_RECORD_PHASE_RUNTIME == (int)PAL_PHASE_RUNTIME, "phases in records are those of tasks");
_Static_assert((int)PAL_RECORD_PHASE_WORKLOAD == (int)PAL_PHASE_WORKLOAD, "phases in records are those of tasks");
_Static_assert(sizeof(struct pal_record_head) == 128, "the head is two cache lines");

struct pal_producer {
	__u64 next_sequence;
	__u64 woken_ns;
};

/* Room behind PAL_RECORD_MAX, so that the verifier can bound a string's end by its start and its longest length. */
struct pal_record_buffer {
	__u32 busy;
	__u32 at; /* end of what was written */
	__u8 bytes[PAL_RECORD_MAX + PAL_STRING_MAX];
};

struct pal_ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, PAL_RING_DEFAULT);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PAL_RINGS);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct pal_ring);
} rings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pal_producer);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} producers SEC(".maps");

/* Index: kind * PAL_LOSS_REASONS + reason. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PAL_RECORD_KINDS * PAL_LOSS_REASONS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} losses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_RECORD_BUFFERS);
	__type(key, __u32);
	__type(value, struct pal_record_buffer);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} record_buffers SEC(".maps");

static __always_inline bool pal_wanted(const struct pal_subject *subject, __u32 kind)
{
	return subject->visibility >> kind & 1;
}

static __always_inline void pal_count_loss(__u32 kind, __u32 reason)
{
	__u32 key = kind * PAL_LOSS_REASONS + reason;
	__u64 *count = bpf_map_lookup_elem(&losses, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline struct pal_producer *pal_producer_of_cpu(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&producers, &key);
}

/* A record that could not even be built takes its number too. */
static __always_inline void pal_lose(__u32 kind, __u32 reason)
{
	struct pal_producer *producer = pal_producer_of_cpu();

	if (producer)
		__sync_fetch_and_add(&producer->next_sequence, 1);
	pal_count_loss(kind, reason);
}

static __always_inline __u64 pal_wakeup(void *ring, struct pal_producer *producer, const struct pal_record_head *head)
{
	bool urgent = head->parts & PAL_HAS_DECISION;

	if (!urgent && bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) < bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 4)
		return BPF_RB_NO_WAKEUP;
	if (head->boot_ns - producer->woken_ns < PAL_WAKE_INTERVAL_NS)
		return BPF_RB_NO_WAKEUP;
	producer->woken_ns = head->boot_ns;
	return BPF_RB_FORCE_WAKEUP;
}

/* A record's number, and the ring that it goes to. */
struct pal_ticket {
	void *ring; /* NULL: nobody has made this CPU's ring yet */
	struct pal_producer *producer;
	__u64 sequence;
	__u32 cpu;
};

static __always_inline bool pal_ticket_take(struct pal_ticket *ticket)
{
	__u32 cpu = bpf_get_smp_processor_id();
	__u32 key = cpu & (PAL_RINGS - 1);

	ticket->cpu = cpu;
	ticket->producer = pal_producer_of_cpu();
	if (!ticket->producer)
		return false;
	ticket->sequence = __sync_fetch_and_add(&ticket->producer->next_sequence, 1);
	ticket->ring = bpf_map_lookup_elem(&rings, &key);
	return ticket->ring;
}

static __always_inline void pal_describe_ticket(struct pal_record_head *head, const struct pal_ticket *ticket, __u32 len)
{
	head->len = len;
	head->producer = ticket->cpu;
	head->sequence = ticket->sequence;
}

/* Numbers the record and copies it to this CPU's ring. `len` bytes from `head` on are the record, padding included. */
static __noinline long pal_emit(struct pal_record_head *head, __u32 len)
{
	struct pal_ticket ticket;

	if (pal_ticket_take(&ticket)) {
		pal_describe_ticket(head, &ticket, len);
		if (!bpf_ringbuf_output(ticket.ring, head, len, pal_wakeup(ticket.ring, ticket.producer, head)))
			return 0;
	}
	pal_count_loss(head->kind, PAL_LOSS_RING_FULL);
	return -1;
}

/* Room for a record without strings in the ring itself; NULL: the loss is counted. What is taken must be submitted. */
static __always_inline void *pal_reserve(struct pal_ticket *ticket, __u32 kind, __u64 size)
{
	void *record = NULL;

	if (pal_ticket_take(ticket))
		record = bpf_ringbuf_reserve(ticket->ring, size, 0);
	if (!record)
		pal_count_loss(kind, PAL_LOSS_RING_FULL);
	return record;
}

static __always_inline void pal_submit(const struct pal_ticket *ticket, struct pal_record_head *head, __u32 len)
{
	pal_describe_ticket(head, ticket, len);
	bpf_ringbuf_submit(head, pal_wakeup(ticket->ring, ticket->producer, head));
}

static __always_inline __u32 pal_pid_ns_of(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	struct pid_namespace *ns = NULL;
	__u32 at;

	if (!pid)
		return 0;
	at = bpf_core_field_offset(struct pid, numbers) + pid->level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&ns, sizeof(ns), (void *)pid + at + bpf_core_field_offset(struct upid, ns));
	return ns ? BPF_CORE_READ(ns, ns.inum) : 0;
}

/* The task's number in its own PID namespace. */
static __always_inline __u32 pal_own_number_of(struct task_struct *task)
{
	struct pid *pid = task->thread_pid;
	int number = 0;
	__u32 at;

	if (!pid)
		return 0;
	at = bpf_core_field_offset(struct pid, numbers) + pid->level * bpf_core_type_size(struct upid);
	bpf_probe_read_kernel(&number, sizeof(number), (void *)pid + at + bpf_core_field_offset(struct upid, nr));
	return number;
}

/*
 * What the acting task itself says. A global function, for kernels of 6.3 and newer look through all their types for every pointer that is
 * loaded from a task: a millisecond each, and again on each way that leads here.
 */
pal_global int pal_describe_task(struct pal_record_head *head)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct task_struct *parent = task->real_parent;
	const struct cred *cred = task->cred;

	if (!head)
		return 0;
	head->task_start_ns = task->group_leader->start_boottime;
	head->parent_start_ns = parent->group_leader->start_boottime;
	head->tgid = task->tgid;
	head->tid = task->pid;
	head->parent_tgid = parent->tgid;
	head->uid = cred->uid.val;
	head->euid = cred->euid.val;
	head->fsuid = cred->fsuid.val;
	head->gid = cred->gid.val;
	head->mnt_ns = task->nsproxy->mnt_ns->ns.inum;
	head->pid_ns = pal_pid_ns_of(task);
	bpf_probe_read_kernel(head->comm, sizeof(head->comm), task->comm);
	return 0;
}

static __always_inline void pal_describe(struct pal_record_head *head, __u16 kind, const struct pal_subject *subject)
{
	head->kind = kind;
	head->version = PAL_RECORD_VERSION;
	head->slot = subject->slot;
	head->boot_ns = bpf_ktime_get_boot_ns();
	head->cgroup_id = subject->cgroup;
	head->phase = subject->phase;
	head->parts = 0;
	head->call = 0;
	__builtin_memset(&head->decision, 0, sizeof(head->decision));
	pal_describe_task(head);
}

/* What a program decided. `policy` and `generation` are the subject's: the word that a swap stores at once. */
struct pal_verdict {
	__u32 word;       /* decision word, blob.h */
	__u8 tier;        /* enum pal_tier */
	__u8 outcome;     /* enum pal_outcome */
	__u8 fail_reason; /* enum pal_fail_reason */
	__u8 family;      /* enum pal_family */
};

/* NULL: nothing was decided. */
static __always_inline void pal_describe_verdict(struct pal_record_head *head, const struct pal_subject *subject,
						 const struct pal_verdict *verdict)
{
	if (!verdict)
		return;
	head->parts |= PAL_HAS_DECISION;
	head->decision.policy = subject->policy;
	head->decision.generation = subject->generation;
	head->decision.word = verdict->word;
	head->decision.tier = verdict->tier;
	head->decision.outcome = verdict->outcome;
	head->decision.fail_reason = verdict->fail_reason;
	head->decision.family = verdict->family;
}

/* ---- records with strings ---- */

/*
 * The number of a buffer that is taken for the caller, or PAL_RECORD_BUFFERS. Global, for the verifier would walk through what comes after
 * for each buffer that is tried.
 */
pal_global __u32 pal_record_search(__u32 kind)
{
	__u32 first = bpf_get_smp_processor_id() * (PAL_RECORD_BUFFER_TRIES / 2);

	for (__u32 i = 0; i < PAL_RECORD_BUFFER_TRIES; i++) {
		__u32 key = (first + i) & (PAL_RECORD_BUFFERS - 1);
		struct pal_record_buffer *buffer = bpf_map_lookup_elem(&record_buffers, &key);

		if (buffer && __sync_val_compare_and_swap(&buffer->busy, 0, 1) == 0)
			return key;
	}
	pal_lose(kind, PAL_LOSS_NO_SCRATCH);
	return PAL_RECORD_BUFFERS;
}

/* NULL when all that this CPU may try are taken; the loss is then counted already. */
static __always_inline struct pal_record_buffer *pal_record_take(__u32 kind, __u32 body)
{
	__u32 key = pal_record_search(kind);
	struct pal_record_buffer *buffer = bpf_map_lookup_elem(&record_buffers, &key);

	if (buffer)
		buffer->at = sizeof(struct pal_record_head) + body;
	return buffer;
}

static __always_inline void pal_record_put(struct pal_record_buffer *buffer)
{
	__sync_lock_test_and_set(&buffer->busy, 0);
}

static __always_inline struct pal_record_head *pal_record_head_of(struct pal_record_buffer *buffer)
{
	return (struct pal_record_head *)buffer->bytes;
}

static __always_inline void *pal_record_body_of(struct pal_record_buffer *buffer)
{
	return buffer->bytes + sizeof(struct pal_record_head);
}

static __always_inline void pal_span_set(struct pal_span *span, __u32 offset, __u32 len, __u32 flags)
{
	span->offset = offset;
	span->len = len;
	span->flags = flags;
}

/* Appends `len` bytes at a kernel address; what is longer than PAL_STRING_MAX keeps its beginning. */
static __noinline void pal_append_kernel(struct pal_record_buffer *buffer, struct pal_span *span, const void *from,
					 __u32 len, __u32 flags)
{
	__u32 at = buffer->at & (PAL_RECORD_MAX - 1);

	if (len > PAL_STRING_MAX) {
		len = PAL_STRING_MAX;
		flags |= PAL_SPAN_CUT;
	}
	if (bpf_probe_read_kernel(buffer->bytes + at, len, from)) {
		len = 0;
		flags |= PAL_SPAN_UNREADABLE;
	}
	pal_span_set(span, at, len, flags);
	buffer->at = at + len;
}

/* The same from user memory. */
static __noinline void pal_append_user(struct pal_record_buffer *buffer, struct pal_span *span, const void *from, __u64 bytes)
{
	__u32 at = buffer->at & (PAL_RECORD_MAX - 1);
	__u32 flags = PAL_SPAN_USER;
	__u32 len = PAL_STRING_MAX;

	if (bytes > PAL_STRING_MAX)
		flags |= PAL_SPAN_CUT;
	else
		len = bytes;
	if (bpf_probe_read_user(buffer->bytes + at, len, from)) {
		len = 0;
		flags |= PAL_SPAN_UNREADABLE;
	}
	pal_span_set(span, at, len, flags);
	buffer->at = at + len;
}

/* A NUL-terminated string of user memory, without its NUL. */
static __noinline void pal_append_user_string(struct pal_record_buffer *buffer, struct pal_span *span, const void *from)
{
	__u32 at = buffer->at & (PAL_RECORD_MAX - 1);
	__u32 flags = PAL_SPAN_USER;
	long len = bpf_probe_read_user_str(buffer->bytes + at, PAL_STRING_MAX, from);

	if (len == PAL_STRING_MAX)
		flags |= PAL_SPAN_CUT;
	if (len <= 0) {
		/* Before Linux 6.13 an empty string gives 0. */
		if (len < 0)
			flags |= PAL_SPAN_UNREADABLE;
		len = 1;
	}
	if (len > PAL_STRING_MAX)
		len = PAL_STRING_MAX;
	pal_span_set(span, at, len - 1, flags);
	buffer->at = at + len - 1;
}

/* A NUL-terminated string at a kernel address, `most` bytes with its NUL, PAL_STRING_MAX at most. */
pal_function void pal_append_kernel_string(struct pal_record_buffer *buffer, struct pal_span *span, const void *from, __u32 most)
{
	__u32 at = buffer->at & (PAL_RECORD_MAX - 1);
	__u32 flags = 0;
	long len;

	if (most > PAL_STRING_MAX)
		most = PAL_STRING_MAX;
	len = bpf_probe_read_kernel_str(buffer->bytes + at, most, from);
	if (len <= 0) {
		len = 1;
		flags = PAL_SPAN_UNREADABLE;
	}
	if (len > PAL_STRING_MAX)
		len = PAL_STRING_MAX;
	pal_span_set(span, at, len - 1, flags);
	buffer->at = at + len - 1;
}

/* Pads with zeros, sends, and gives the buffer back. */
static __always_inline void pal_record_send(struct pal_record_buffer *buffer)
{
	__u32 end = buffer->at & (PAL_RECORD_MAX - 1);
	__u32 len = (end + PAL_RECORD_ALIGN - 1) & ~(PAL_RECORD_ALIGN - 1);

	__builtin_memset(buffer->bytes + end, 0, PAL_RECORD_ALIGN);
	if (len >= sizeof(struct pal_record_head) && len <= PAL_RECORD_MAX)
		pal_emit(pal_record_head_of(buffer), len);
	pal_record_put(buffer);
}

/* ---- for programs that decide: `verdict` may be NULL for a record without a decision ---- */

/* The name that was judged, already climbed; len 0 where it could not be named. */
struct pal_text {
	const void *from; /* kernel address: scratch->path + start */
	__u32 len;
	__u32 flags;      /* PAL_SPAN_* */
};

/*
 * What the caller of an execution asked for, where something interprets it. The kernel keeps its own copy of that name, and nothing
 * of the file.
 */
pal_function void pal_append_asked(struct pal_record_buffer *buffer, struct pal_record_exec *body, struct linux_binprm *bprm,
				   bool by_itself)
{
	body->scripts = 0;
	body->reserved = 0;
	if (by_itself || bprm->interp == bprm->filename) {
		pal_span_set(&body->script, 0, 0, 0);
		return;
	}
	if (buffer->at > PAL_RECORD_MAX - PAL_STRING_MAX - PAL_RECORD_ALIGN) {
		pal_span_set(&body->script, 0, 0, PAL_SPAN_CUT | PAL_SPAN_USER);
		return;
	}
	pal_append_kernel_string(buffer, &body->script, bprm->filename, PAL_STRING_MAX);
	body->script.flags |= PAL_SPAN_USER;
}

/*
 * An execution that is asked for: the arguments are still in the caller's memory and cannot be read here. `by_itself`: the path is
 * what was asked for, whatever interprets it.
 */
static __noinline void pal_emit_exec(const struct pal_subject *subject, const struct pal_text *path, struct linux_binprm *bprm,
				     const struct pal_verdict *verdict, bool by_itself)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_EXEC, sizeof(struct pal_record_exec));
	struct pal_record_exec *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_EXEC, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	body->argument_count = bprm->argc;
	body->tty = 0;
	pal_append_kernel(buffer, &body->path, path->from, path->len, path->flags);
	pal_span_set(&body->cwd, 0, 0, PAL_SPAN_UNREADABLE);
	pal_span_set(&body->arguments, 0, 0, PAL_SPAN_USER | PAL_SPAN_UNREADABLE);
	pal_append_asked(buffer, body, bprm, by_itself);
	pal_record_send(buffer);
}

/* `open_flags` as O_*; `result` a descriptor, or a negative errno; 0 where the open has not come so far. */
static __noinline void pal_emit_open(const struct pal_subject *subject, const struct pal_text *path, __u32 open_flags,
				     __s32 result, const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_OPEN, sizeof(struct pal_record_open));
	struct pal_record_open *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_OPEN, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	body->flags = open_flags;
	body->result = result;
	pal_append_kernel(buffer, &body->path, path->from, path->len, path->flags);
	pal_record_send(buffer);
}

/* The traced process, as plain values. */
struct pal_target {
	__u32 tgid;
	__u32 tid;
	__u32 slot;
	__u32 request; /* PTRACE_* */
	__u64 start_ns;
};

static __noinline void pal_emit_ptrace(const struct pal_subject *subject, const struct pal_text *path,
				       const struct pal_target *target, const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_PTRACE, sizeof(struct pal_record_ptrace));
	struct pal_record_ptrace *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_PTRACE, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	body->request = target->request;
	body->target_tgid = target->tgid;
	body->target_tid = target->tid;
	body->target_slot = target->slot;
	body->target_start_ns = target->start_ns;
	pal_append_kernel(buffer, &body->target_exe, path->from, path->len, path->flags);
	pal_record_send(buffer);
}

struct pal_network_record {
	struct pal_record_head head;
	struct pal_record_network body;
};

struct pal_network_act {
	__u32 operation; /* enum pal_network_operation */
	__s32 result;
	__u32 flags;     /* PAL_NETWORK_* */
	__u64 boot_ns;   /* 0: now */
};

/* A decision about a send is of the kind CONNECT, as destinations are one family; an observed one is of its own. */
static __always_inline __u16 pal_network_kind(__u32 operation, bool decided)
{
	switch (operation) {
	case PAL_NETWORK_SOCKET:
		return PAL_RECORD_SOCKET;
	case PAL_NETWORK_BIND:
	case PAL_NETWORK_LISTEN:
		return PAL_RECORD_BIND;
	case PAL_NETWORK_ACCEPT:
		return PAL_RECORD_ACCEPT;
	case PAL_NETWORK_SEND:
		return decided ? PAL_RECORD_CONNECT : PAL_RECORD_SEND;
	default:
		return PAL_RECORD_CONNECT;
	}
}

/* No strings: no buffer, no NO_SCRATCH. */
static __noinline void pal_emit_network(const struct pal_subject *subject, const struct pal_endpoint *endpoint,
					const struct pal_network_act *act, const struct pal_verdict *verdict)
{
	__u16 kind = pal_network_kind(act->operation, verdict);
	struct pal_network_record *record;
	struct pal_ticket ticket;

	record = pal_reserve(&ticket, kind, sizeof(*record));
	if (!record)
		return;
	pal_describe(&record->head, kind, subject);
	if (act->boot_ns)
		record->head.boot_ns = act->boot_ns;
	pal_describe_verdict(&record->head, subject, verdict);
	record->body.operation = act->operation;
	record->body.endpoint_len = endpoint->len;
	record->body.flags = act->flags;
	record->body.reserved = 0;
	record->body.result = act->result;
	__builtin_memcpy(record->body.endpoint, endpoint->bytes, sizeof(record->body.endpoint));
	pal_submit(&ticket, &record->head, sizeof(*record));
}

#endif

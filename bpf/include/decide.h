/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The decision: subject and object in, decision word out. Hooks fill a struct pal_act, call pal_judge_file or
 * pal_judge_endpoint, report, and turn the effect into their own error.
 *
 * What cannot be judged (no scratch, a path that cannot be named, a missing blob) takes the workload's fail mode: denied
 * where the slot says PAL_SLOT_FAIL_BLOCK, otherwise audited; never permitted without a word.
 */
#ifndef PALISADE_DECIDE_H
#define PALISADE_DECIDE_H

#include "blobs.h"
#include "endpoint.h"
#include "identity.h"
#include "record.h"
#include "walk.h"

/* Continues enum pal_naming: the slot names a policy that its outer map does not hold. */
#define PAL_NO_BLOB 8
/* Continues enum pal_naming: no scratch slot was free. */
#define PAL_NO_SCRATCH 9
/* Continues enum pal_naming: a DNS question, or arguments, that cannot be read. */
#define PAL_UNREADABLE 10

struct pal_act {
	struct pal_subject *subject;
	struct pal_scratch *scratch;
	struct task_struct *actor; /* whose executable is the source: a typed pointer */
#ifdef PAL_OBJECT_BY_ADDRESS
	struct pal_place object;   /* what is judged by its path, in programs that have no typed pointer to it */
#else
	struct pal_object object;  /* what is judged by its path */
#endif
	__u32 foreign_actor;       /* the actor is not the task that `subject` is kept for */
	__u32 family;              /* enum pal_family */
	__u32 modifiers;           /* PAL_MODIFIER_* */
	__u32 endpoint_length;     /* bytes in scratch->endpoint */
	/* results */
	__u32 naming;              /* enum pal_naming, PAL_NO_BLOB, PAL_NO_SCRATCH */
	__u32 start;               /* of the judged path in scratch->path */
	__u32 source;              /* source id of the actor's executable */
	__u32 word;                /* decision word */
#ifdef PAL_OBJECT_BY_ADDRESS
	__u32 word_reading;        /* the same for an act that does not write: what fanotify decides by */
#endif
};

/* Where an actor's source id comes from. */
enum pal_source_state {
	PAL_SOURCE_KNOWN = 0,
	PAL_SOURCE_UNKNOWN = 1, /* its executable must be named and matched */
	PAL_SOURCE_NO_BLOB = 2,
};

#define PAL_ENDPOINT_BYTES_SOCKET 3
#define PAL_ENDPOINT_BYTES_V4 9
#define PAL_ENDPOINT_BYTES_V6 21

/*
 * Spells the endpoint's bytes as the automaton's symbols (blob.h) where a path would lie, once the source is known and the
 * room is free. It ends where a path ends, for only before its start is NUL read as nothing in both forms of an automaton.
 * Returns the start.
 */
pal_global __u32 pal_spell_endpoint(struct pal_scratch *scratch, __u32 length)
{
	__u32 start;

	if (!scratch)
		return PAL_PATH_SIZE;
	_Static_assert(2 * PAL_ENDPOINT_BYTES_V6 == PAL_ENDPOINT_MAX && PAL_ENDPOINT_MAX <= 48, "an endpoint fits");
	if (length > PAL_ENDPOINT_BYTES_V6)
		length = PAL_ENDPOINT_BYTES_V6;
	start = PAL_PATH_SIZE - 2 * length;
	for (__u32 i = 0; i < PAL_ENDPOINT_BYTES_V6; i++) {
		__u32 at = (start + 2 * i) & (PAL_PATH_SIZE - 1);

		if (i >= length)
			break;
		scratch->path[at] = 1 + (scratch->endpoint[i] >> 4);
		scratch->path[at + 1] = 1 + (scratch->endpoint[i] & 15);
	}
	return start;
}

struct pal_slash {
	struct pal_scratch *scratch;
	__u64 slashes; /* the top bit of each byte before `end` that is a slash, of eight */
	__u32 end;
};

static long pal_seek_slash(__u32 index, void *context)
{
	struct pal_slash *slash = context;
	__u32 at = (slash->end - 8) & (PAL_PATH_SIZE - 8);
	__u64 bytes = *(__u64 *)(slash->scratch->path + at) ^ 0x2f2f2f2f2f2f2f2full;

	slash->slashes = ~(((bytes & 0x7f7f7f7f7f7f7f7full) + 0x7f7f7f7f7f7f7f7full) | bytes | 0x7f7f7f7f7f7f7f7full);
	if (slash->slashes)
		return 1;
	slash->end = at;
	return 0;
}

/*
 * Where the last component of the path in scratch->path begins; its end where there is no slash among the last
 * PAL_BASENAME_MAX + 1 bytes. What lies before `start` is an older path's.
 */
pal_global __u32 pal_basename(struct pal_scratch *scratch, __u32 start)
{
	struct pal_slash slash = { .scratch = scratch };
	__u32 end;

	if (!scratch)
		return PAL_PATH_SIZE;
	slash.slashes = PAL_ZERO(scratch);
	slash.end = PAL_PATH_SIZE + PAL_ZERO(scratch);
	bpf_loop((PAL_BASENAME_MAX + 1) / 8, pal_seek_slash, &slash, 0);
	end = slash.end;
	if (!slash.slashes)
		return PAL_PATH_SIZE;
	if (!(slash.slashes >> 32)) {
		slash.slashes <<= 32;
		end -= 4;
	}
	if (!(slash.slashes >> 48)) {
		slash.slashes <<= 16;
		end -= 2;
	}
	if (!(slash.slashes >> 56))
		end -= 1;
	return end > start && end <= PAL_PATH_SIZE ? end : PAL_PATH_SIZE;
}

/* Names the object; the result is enum pal_naming. */
static __always_inline __u32 pal_name_judged(struct pal_act *act, __u32 *start)
{
	__u32 checked = act->subject->flags & PAL_SLOT_MOUNTS_LEARNT;

#ifdef PAL_OBJECT_BY_ADDRESS
	__u64 naming;

	pal_put_place(act->scratch, act->object.vfsmount, act->object.dentry);
	naming = pal_name_place(act->scratch, act->subject->slot, checked);
	*start = PAL_NAMING_START(naming);
	return PAL_NAMING_END(naming);
#else
	return pal_name_object(&act->object, act->scratch, act->subject->slot, checked, start);
#endif
}

#define PAL_CLASS 16k
#define PAL_LOG2 PAL_BLOB_LOG2_16K
#include "blob_class.h"
#undef PAL_CLASS
#undef PAL_LOG2
#define PAL_CLASS 128k
#define PAL_LOG2 PAL_BLOB_LOG2_128K
#include "blob_class.h"
#undef PAL_CLASS
#undef PAL_LOG2
#define PAL_CLASS 1m
#define PAL_LOG2 PAL_BLOB_LOG2_1M
#include "blob_class.h"
#undef PAL_CLASS
#undef PAL_LOG2
#define PAL_CLASS 8m
#define PAL_LOG2 PAL_BLOB_LOG2_8M
#include "blob_class.h"
#undef PAL_CLASS
#undef PAL_LOG2

/* Does the policy in force say anything about the family? */
static __always_inline bool pal_decides(const struct pal_subject *subject, __u32 family)
{
	return PAL_POLICY_FAMILIES(subject->policy) >> family & 1;
}

static __always_inline void pal_act_begin(struct pal_act *act, struct pal_subject *subject, __u32 family)
{
	act->subject = subject;
	act->actor = bpf_get_current_task_btf();
#ifdef PAL_OBJECT_BY_ADDRESS
	act->object.vfsmount = 0;
	act->object.dentry = 0;
#else
	act->object.mount = NULL;
	act->object.dentry = NULL;
#endif
	act->foreign_actor = pal_veiled(0);
	act->family = family;
	act->modifiers = 0;
	act->endpoint_length = 0;
	act->start = pal_veiled(PAL_PATH_SIZE);
	act->source = pal_veiled(0);
	act->word = pal_veiled(PAL_EFFECT_PERMIT);
#ifdef PAL_OBJECT_BY_ADDRESS
	act->word_reading = pal_veiled(PAL_EFFECT_PERMIT);
#endif
	act->scratch = pal_scratch_take();
	act->naming = pal_veiled(act->scratch ? PAL_NAMING : PAL_NO_SCRATCH);
}

static __always_inline void pal_act_end(struct pal_act *act)
{
	if (act->scratch)
		pal_scratch_put(act->scratch);
}

/* A file without a name in any namespace is no object of file rules; an executable without one is (memfd). */
static __always_inline bool pal_is_beyond_rules(const struct pal_act *act)
{
	return act->naming == PAL_NAME_STACKED || (act->naming == PAL_NAMELESS && act->family == PAL_FAMILY_FILE);
}

/* It cannot be judged, and why: the fail mode decides. */
static __always_inline void pal_fail(struct pal_act *act, __u32 naming)
{
	act->naming = pal_veiled(naming);
	act->word = pal_veiled(act->subject->flags & PAL_SLOT_FAIL_BLOCK ? PAL_EFFECT_BLOCK : PAL_EFFECT_AUDIT);
}

static __always_inline void pal_settle(struct pal_act *act)
{
	pal_count(PAL_COUNTER_DECIDED);
	if (act->naming == PAL_NAMED || pal_is_beyond_rules(act))
		return;
	if (act->naming == PAL_NO_BLOB)
		pal_count(PAL_COUNTER_NO_BLOB);
	pal_fail(act, act->naming);
}

/*
 * What differs by size class is called through here, and naming is not among it: the verifier walks through each class's
 * functions in turn, and a climb is most of what it has to do.
 */
#define PAL_OF_CLASS(function, act, ...)                                               \
	switch (PAL_POLICY_CLASS((act)->subject->policy)) {                            \
	case 0:                                                                        \
		return function##_16k(act, ##__VA_ARGS__);                             \
	case 1:                                                                        \
		return function##_128k(act, ##__VA_ARGS__);                            \
	case 2:                                                                        \
		return function##_1m(act, ##__VA_ARGS__);                              \
	default:                                                                       \
		return function##_8m(act, ##__VA_ARGS__);                              \
	}

static __always_inline __u32 pal_recall_source(struct pal_act *act)
{
	PAL_OF_CLASS(pal_recall_source, act)
}

static __always_inline int pal_match_source(struct pal_act *act, __u32 naming, __u32 start)
{
	PAL_OF_CLASS(pal_match_source, act, naming, start)
}

static __always_inline int pal_match_path(struct pal_act *act, __u32 start)
{
	PAL_OF_CLASS(pal_match_path, act, start)
}

static __always_inline int pal_match_endpoint(struct pal_act *act)
{
	PAL_OF_CLASS(pal_match_endpoint, act)
}

/*
 * Judges the domain name that the caller has written to scratch->path from `start` to PAL_PATH_SIZE, in lower case and as a path
 * from its last label (/com/example/www), a label's own slash or NUL as 0xff. After pal_find_source, which needs the room as well.
 */
static __always_inline int pal_match_name(struct pal_act *act, __u32 start)
{
	PAL_OF_CLASS(pal_match_name, act, start)
}

/* After pal_find_source. Numbers that no table has decide nothing: the row of 0. */
static __always_inline int pal_match_accept(struct pal_act *act, __u32 accept)
{
	PAL_OF_CLASS(pal_match_accept, act, accept)
}

#ifdef PAL_JUDGES_MOVES
#define PAL_BELOW_STATE(below) ((__u32)((below) >> 32))
#define PAL_BELOW_ACCEPT(below) ((__u32)(below))

/* Of the directory in scratch->path from `start`. After pal_find_source. */
static __always_inline __u64 pal_match_below(struct pal_act *act, __u32 start)
{
	PAL_OF_CLASS(pal_match_below, act, start)
}
#endif

static __always_inline int pal_match_capability(struct pal_act *act, __u32 number)
{
	return pal_match_accept(act, number < PAL_CAPABILITY_ACCEPTS - 1 ? number + 1 : 0);
}

static __always_inline int pal_match_syscall(struct pal_act *act, __u32 number, bool compat)
{
	__u32 accept = compat ? PAL_SYSCALL_ACCEPT_COMPAT(number) : PAL_SYSCALL_ACCEPT(number);

	return pal_match_accept(act, number < PAL_SYSCALLS ? accept : 0);
}

static __always_inline int pal_match_preset(struct pal_act *act, enum pal_preset preset)
{
	return pal_match_accept(act, preset);
}

/*
 * The alternatives of act->word's argument set, a bit each, that hold the argument which the caller has written to scratch->path
 * from `start` to PAL_PATH_SIZE (at the end itself: the empty argument). The caller begins with all bits, takes the AND over every
 * argument after argv[0], and the arguments meet the set if there is one and a bit is left; then pal_settle_arguments. act->word must
 * name a set.
 */
static __always_inline __u32 pal_match_argument(struct pal_act *act, __u32 start)
{
	PAL_OF_CLASS(pal_match_argument, act, start)
}

/*
 * Finds act->source. 0: there is no blob to find it by. The executable is named by addresses, for it is named once in a program's life, and
 * so the verifier walks through it once.
 */
pal_function int pal_find_source(struct pal_act *act)
{
	__u32 state = pal_recall_source(act);
	struct task_struct *actor = act->actor;
	struct file *executable;
	__u64 naming;

	if (state == PAL_SOURCE_NO_BLOB)
		return 0;
	if (state == PAL_SOURCE_KNOWN)
		return 1;
	executable = BPF_CORE_READ(actor, mm, exe_file);
	pal_put_place(act->scratch, (__u64)BPF_CORE_READ(executable, f_path.mnt), (__u64)BPF_CORE_READ(executable, f_path.dentry));
	naming = pal_name_place(act->scratch, act->subject->slot, act->subject->flags & PAL_SLOT_MOUNTS_LEARNT);
	pal_match_source(act, PAL_NAMING_END(naming), PAL_NAMING_START(naming));
	return 1;
}

/* Judges act->object by its path; the result is act->word. */
static __always_inline void pal_judge_file(struct pal_act *act)
{
	__u32 start = pal_veiled(PAL_PATH_SIZE);

	if (act->scratch) {
		if (pal_find_source(act))
			act->naming = pal_veiled(pal_name_judged(act, &start));
		else
			act->naming = pal_veiled(PAL_NO_BLOB);
		if (act->naming == PAL_NAMED) {
			act->start = start;
			pal_match_path(act, start);
		}
	}
	pal_settle(act);
}

/* Judges what has a number by its accept id (blob.h); the result is act->word. */
static __always_inline void pal_judge_number(struct pal_act *act, __u32 accept)
{
	if (act->scratch) {
		act->naming = pal_veiled(pal_find_source(act) ? PAL_NAMED : PAL_NO_BLOB);
		if (act->naming == PAL_NAMED)
			pal_match_accept(act, accept);
	}
	pal_settle(act);
}

/* The stricter of two presets; 0: none. Their source is found once. */
static __always_inline void pal_judge_presets(struct pal_act *act, __u32 one, __u32 other)
{
	__u32 word;

	if (act->scratch) {
		act->naming = pal_veiled(pal_find_source(act) ? PAL_NAMED : PAL_NO_BLOB);
		if (act->naming == PAL_NAMED) {
			pal_match_accept(act, other);
			word = act->word;
			pal_match_accept(act, one);
			if ((word & PAL_DECISION_EFFECT_MASK) > (act->word & PAL_DECISION_EFFECT_MASK))
				act->word = word;
		}
	}
	pal_settle(act);
}

/* Judges scratch->endpoint; the result is act->word. */
static __always_inline void pal_judge_endpoint(struct pal_act *act)
{
	if (act->scratch) {
		act->naming = pal_veiled(pal_find_source(act) ? PAL_NAMED : PAL_NO_BLOB);
		if (act->naming == PAL_NAMED)
			pal_match_endpoint(act);
	}
	pal_settle(act);
}

/* Does the word wait for the arguments? It is no verdict before pal_settle_arguments. */
static __always_inline bool pal_awaits_arguments(const struct pal_act *act)
{
	return PAL_DECISION_ARGUMENTS(act->word);
}

/* Makes act->word the verdict, once it is known whether the arguments meet its set. */
static __always_inline void pal_settle_arguments(struct pal_act *act, bool met)
{
	__u32 rule = act->word & PAL_DECISION_RULE_MASK << PAL_DECISION_RULE_SHIFT;

	if (met)
		act->word = rule | PAL_EFFECT_PERMIT;
	else if (act->word & PAL_DECISION_BY_POSTURE)
		act->word &= PAL_DECISION_EFFECT_MASK | PAL_DECISION_BY_POSTURE;
	else
		act->word &= ~(PAL_DECISION_ARGUMENTS_MASK << PAL_DECISION_ARGUMENTS_SHIFT);
}

static __always_inline __u32 pal_effect(const struct pal_act *act)
{
	return act->word & PAL_DECISION_EFFECT_MASK;
}

/* Why the fail mode decided, in the record's terms. */
static __always_inline __u8 pal_fail_reason(const struct pal_act *act)
{
	switch (act->naming) {
	case PAL_NAMED:
		return PAL_FAIL_NONE;
	case PAL_NAME_TOO_LONG:
		return PAL_FAIL_PATH_TOO_LONG;
	case PAL_NAME_TOO_DEEP:
		return PAL_FAIL_TOO_DEEP;
	case PAL_NO_SCRATCH:
		return PAL_FAIL_NO_SCRATCH;
	case PAL_UNREADABLE:
		return PAL_FAIL_UNREADABLE;
	default:
		return pal_is_beyond_rules(act) ? PAL_FAIL_NONE : PAL_FAIL_UNKNOWN_MOUNT;
	}
}

/*
 * The endpoint that the network automaton judges (messages/kernel-abi/src/blob/endpoint.rs says why): the address's own domain;
 * an IPv4-mapped address is IPv4; the unspecified address is loopback; the protocol is its number's low byte.
 */
static __always_inline void pal_endpoint_begin(struct pal_act *act, __u32 domain, __u32 type, __u32 protocol)
{
	__u8 *bytes = act->scratch->endpoint;

	bytes[0] = domain;
	bytes[1] = type;
	bytes[2] = protocol;
	act->endpoint_length = pal_veiled(PAL_ENDPOINT_BYTES_SOCKET);
}

static __always_inline void pal_endpoint_v4(struct pal_act *act, __be16 port, __be32 address)
{
	__u8 *bytes = act->scratch->endpoint;

	if (!address)
		address = bpf_htonl(0x7f000001);
	bytes[0] = PAL_AF_INET;
	__builtin_memcpy(bytes + 3, &port, sizeof(port));
	__builtin_memcpy(bytes + 5, &address, sizeof(address));
	act->endpoint_length = pal_veiled(PAL_ENDPOINT_BYTES_V4);
}

static __always_inline void pal_endpoint_v6(struct pal_act *act, __be16 port, const __be32 address[4])
{
	__u8 *bytes = act->scratch->endpoint;
	__be32 last = address[3];

	if (!address[0] && !address[1] && address[2] == bpf_htonl(0xffff)) {
		pal_endpoint_v4(act, port, last);
		return;
	}
	if (!address[0] && !address[1] && !address[2] && !last)
		last = bpf_htonl(1);
	bytes[0] = PAL_AF_INET6;
	__builtin_memcpy(bytes + 3, &port, sizeof(port));
	__builtin_memcpy(bytes + 5, address, 12);
	__builtin_memcpy(bytes + 17, &last, sizeof(last));
	act->endpoint_length = pal_veiled(PAL_ENDPOINT_BYTES_V6);
}

/* What the automaton judges for an endpoint as records carry it. */
static __always_inline void pal_endpoint_canonical(struct pal_act *act, const struct pal_endpoint *endpoint)
{
	__be32 address[4];
	__be16 port;

	pal_endpoint_begin(act, endpoint->bytes[0], endpoint->bytes[1], endpoint->bytes[2]);
	if (endpoint->len == PAL_ENDPOINT_LEN_SOCKET)
		return;
	__builtin_memcpy(&port, endpoint->bytes + 3, sizeof(port));
	__builtin_memcpy(address, endpoint->bytes + 5, sizeof(address));
	if (endpoint->len == PAL_ENDPOINT_LEN_V4)
		pal_endpoint_v4(act, port, address[0]);
	else
		pal_endpoint_v6(act, port, address);
}

#endif

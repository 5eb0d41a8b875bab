/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What is Palisade's own, and whom it is kept from: maps, programs, links and processes by what the kernel calls them, the places of
 * the pins, and the node's cgroups.
 *
 * Kept from workloads, whatever rights they have, and from nobody else: who is root on the host may do all of it. The container
 * runtime's own code is no workload, nor is whatever is in the node's own container. Who is unknown is held off where the node is a
 * process of the host. Where it is a container it is not: the next node begins as an unknown container, among those that may be
 * anything, and must reach what this one has left.
 *
 * The map is pinned with the others, so that all of it stands while no node runs. A process is named by its number and its start: a
 * number that the kernel gives again protects nobody. Not task storage, because 6.1 answers that there is none while another
 * program, preempted on the CPU, is busy with any.
 */
#ifndef PALISADE_GUARD_H
#define PALISADE_GUARD_H

#include "report.h"

/* Maps of blobs are the most: as many as there are slots, and as many again until those that are gone are forgotten, at the next attachment. */
#define PAL_GUARDED_MAX 16384

enum pal_guarded_kind {
	PAL_GUARDED_MAP = 1,     /* by the kernel's ids, as the next two; the values are 1 */
	PAL_GUARDED_PROGRAM = 2,
	PAL_GUARDED_LINK = 3,
	PAL_GUARDED_PROCESS = 4, /* by its tgid; the value is its leader's start_boottime */
	PAL_GUARDED_PLACE = 5,   /* by its inode number and file system; the value is enum pal_guarded_place */
	PAL_GUARDED_CGROUP = 6,  /* by its id: the node's, and what is above it but for the root; the value is 1 */
	PAL_GUARDED_HOME = 7,    /* no id: the value is the id of the node's cgroup */
	PAL_GUARDED_UNKNOWN = 8, /* no id: there where who is unknown is held off, too */
};

enum pal_guarded_place {
	PAL_PLACE_ABOVE = 1, /* a directory on the way to the pins: it is not moved */
	PAL_PLACE_PINS = 2,  /* the pins' directory: nor is anything below it */
};

struct pal_guarded {
	__u64 id;
	__u32 kind; /* enum pal_guarded_kind */
	__u32 device; /* of a place its file system's s_dev; else 0 */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PAL_GUARDED_MAX);
	__type(key, struct pal_guarded);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} guarded SEC(".maps");

/* 0: it is not Palisade's. */
static __always_inline __u64 pal_guarded_value(__u32 kind, __u64 id)
{
	struct pal_guarded key = { .id = id, .kind = kind };
	__u64 *value = bpf_map_lookup_elem(&guarded, &key);

	return value ? *value : 0;
}

static __always_inline bool pal_is_own_process(struct task_struct *task)
{
	__u64 start = pal_guarded_value(PAL_GUARDED_PROCESS, task->tgid);

	return start && start == task->group_leader->start_boottime;
}

/* Whether the acting task is of a workload from which Palisade is kept; asked last, where the object has been found to be its own. */
static __always_inline bool pal_is_held_off(struct pal_subject *subject)
{
	__u64 home;

	pal_identify(subject);
	if (!subject->slot || subject->phase == PAL_PHASE_RUNTIME)
		return false;
	if (subject->slot == PAL_SLOT_UNKNOWN)
		return pal_guarded_value(PAL_GUARDED_UNKNOWN, 0);
	home = pal_guarded_value(PAL_GUARDED_HOME, 0);
	return !home || pal_slot_of_cgroup(home) != subject->slot;
}

/* Out of line, for programs that judge by policies besides. */
pal_function bool pal_holds_off(struct pal_subject *subject)
{
	return pal_is_held_off(subject);
}

/* ---- places ---- */

#define PAL_BPF_FS_MAGIC 0xcafe4a11ul
#define PAL_CGROUP2_MAGIC 0x63677270ul
#define PAL_PLACES_CLIMBED 4 /* pins are two names below the root of all of them, at most */

static __always_inline __u64 pal_place_value(__u64 dentry)
{
	struct inode *inode = BPF_CORE_READ((struct dentry *)dentry, d_inode);
	struct pal_guarded key = { .kind = PAL_GUARDED_PLACE };
	__u64 *value;

	if (!inode)
		return 0;
	key.id = BPF_CORE_READ(inode, i_ino);
	key.device = BPF_CORE_READ(inode, i_sb, s_dev);
	value = bpf_map_lookup_elem(&guarded, &key);
	return value ? *value : 0;
}

/* Whether the name is one of the pins, their directory, or above it; by the dentry's address. A name that is not there yet is below. */
pal_function int pal_is_guarded_place(__u64 dentry)
{
	__u64 parent;

	if (pal_place_value(dentry))
		return 1;
	for (__u32 i = 0; i < PAL_PLACES_CLIMBED; i++) {
		parent = (__u64)BPF_CORE_READ((struct dentry *)dentry, d_parent);
		if (parent == dentry)
			return 0;
		if (pal_place_value(parent) == PAL_PLACE_PINS)
			return 1;
		dentry = parent;
	}
	return 0;
}

/*
 * Whether who acts is kept from what the dentry names. Everybody's changes of names come by here: the file system is asked first, and
 * what it says of others is all that they pay.
 */
#define pal_keeps_place(file_system, dentry, subject)                                                                      \
	((file_system)->s_magic == PAL_BPF_FS_MAGIC && pal_is_guarded_place((__u64)(dentry)) && pal_holds_off(subject))

/* A judgement (report_change.h) that is no policy's. */
#define PAL_JUDGED_OWN ((__u64)PAL_FAIL_SELF_PROTECTION << 32 | PAL_EFFECT_BLOCK)

/* No rule's decision: the reason says whose it was. */
static __always_inline void pal_guard_verdict(struct pal_verdict *verdict, __u8 family)
{
	verdict->word = PAL_EFFECT_BLOCK;
	verdict->tier = pal_hook_tier;
	verdict->outcome = PAL_OUTCOME_DENIED;
	verdict->fail_reason = PAL_FAIL_SELF_PROTECTION;
	verdict->family = family;
}

static __always_inline int pal_guard_answer(void)
{
	pal_count(PAL_COUNTER_DENIED);
	return -PAL_EPERM;
}

#endif

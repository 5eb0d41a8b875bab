/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Whom what is Palisade's own (guarded.h) is kept from.
 *
 * Kept from workloads, whatever rights they have, and from nobody else: who is root on the host may do all of it. The container
 * runtime's own code is no workload, nor is whatever is in the node's own container. Who is unknown is held off where the node is a
 * process of the host. Where it is a container it is not: the next node begins as an unknown container, among those that may be
 * anything, and must reach what this one has left.
 */
#ifndef PALISADE_GUARD_H
#define PALISADE_GUARD_H

#include "guarded.h"
#include "report.h"

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

/* ---- cgroups ---- */

static __always_inline __u64 pal_id_of_cgroup(__u64 directory)
{
	struct kernfs_node *node = (struct kernfs_node *)BPF_CORE_READ((struct dentry *)directory, d_inode, i_private);

	return BPF_CORE_READ(node, id);
}

/*
 * Whether the directory is the node's cgroup or below it, by the dentry's address. What another workload is in is that one's business,
 * also where the node runs in a cgroup above all of them. A root has nothing above it here, and is nobody's.
 */
pal_function int pal_is_below_home(__u64 directory)
{
	__u64 home = pal_guarded_value(PAL_GUARDED_HOME, 0), id = pal_id_of_cgroup(directory), parent;
	__u32 slot = pal_slot_of_cgroup(id);

	if (!home || (slot && slot != pal_slot_of_cgroup(home)))
		return 0;
	for (__u32 i = 0; i < PAL_CGROUP_ANCESTORS; i++) {
		parent = (__u64)BPF_CORE_READ((struct dentry *)directory, d_parent);
		if (parent == directory)
			return 0;
		if (id == home)
			return 1;
		directory = parent;
		id = pal_id_of_cgroup(directory);
	}
	return 0;
}

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

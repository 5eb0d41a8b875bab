/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What is Palisade's own, as the kernel calls it: maps, programs, links and processes, the places of the pins, and the node's cgroups.
 * guard.h says whom it is kept from.
 *
 * The map is pinned with the others, so that all of it stands while no node runs. A process is named by its number and its start: a
 * number that the kernel gives again protects nobody. Not task storage, because 6.1 answers that there is none while another
 * program, preempted on the CPU, is busy with any.
 */
#ifndef PALISADE_GUARDED_H
#define PALISADE_GUARDED_H

#include "identity.h"

/* Maps of blobs are the most: as many as there are slots, and as many again until those that are gone are forgotten, at the next attachment. */
#define PAL_GUARDED_MAX 16384

enum pal_guarded_kind {
	PAL_GUARDED_MAP = 1,     /* by the kernel's ids, as the next two; the values are 1 */
	PAL_GUARDED_PROGRAM = 2,
	PAL_GUARDED_LINK = 3,
	PAL_GUARDED_PROCESS = 4, /* by its tgid; the value is its leader's start_boottime */
	PAL_GUARDED_PLACE = 5,   /* by its inode number and file system; the value is enum pal_guarded_place */
	PAL_GUARDED_CGROUP = 6,  /* by its id: where the node is or was, and what is above that but for the root; the value is 1 */
	PAL_GUARDED_HOME = 7,    /* no id: the value is the id of the node's cgroup */
	PAL_GUARDED_UNKNOWN = 8, /* no id: there where who is unknown is held off, too */
	PAL_GUARDED_MOUNTS = 9,  /* by the inode number of a mount namespace in which the pins stay in sight; the value is 1 */
};

enum pal_guarded_place {
	PAL_PLACE_ABOVE = 1, /* a directory on the way to the pins: it is not moved */
	PAL_PLACE_PINS = 2,  /* the pins' directory: nor is anything below it */
	PAL_PLACE_UNDER = 3, /* a directory of another file system that theirs is mounted below: it is not covered, nor its mount taken away */
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

/* The process's cgroup and those above it, but for the root: whoever writes their files moves, freezes or kills it. */
static __always_inline int pal_remember_cgroups(struct task_struct *task)
{
	struct cgroup *cgroup = task->cgroups->dfl_cgrp;
	__u64 value = 1;

	for (__u32 i = 0; i < PAL_CGROUP_ANCESTORS; i++) {
		struct cgroup_subsys_state *css = BPF_CORE_READ(cgroup, self.parent);
		struct pal_guarded key = { .kind = PAL_GUARDED_CGROUP };

		if (!css)
			return 0;
		key.id = BPF_CORE_READ(cgroup, kn, id);
		if (bpf_map_update_elem(&guarded, &key, &value, BPF_ANY))
			return -PAL_ENOSPC;
		cgroup = BPF_CORE_READ(css, cgroup);
	}
	return 0;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Whose act is this? The unified cgroup names the workload, and once there it sticks to the task.
 *
 * A task keeps (cgroup, slot) in task storage. While it is in that cgroup the pair is its identity; if it is found in
 * another one, a registered cgroup renames it and an unregistered one does not, so that leaving an enforced subtree is
 * pointless. Without task storage (exhausted, or a program type that has no access) the cgroup alone decides.
 * Namespaces play no part: unshare and setns change nothing. bpf/identity.bpf.c keeps the storage up to date.
 */
#ifndef PALISADE_IDENTITY_H
#define PALISADE_IDENTITY_H

#include "maps.h"

/* The acting task as decisions see it. Plain values: nothing in it can go stale during one run. */
struct pal_subject {
	struct pal_task *kept; /* NULL: nothing is kept for this task */
	__u64 cgroup;
	__u32 slot;            /* 0: the host */
	__u32 phase;           /* enum pal_phase */
	__u32 policy;          /* PAL_POLICY_NONE: nothing is decided */
	__u32 generation;
	__u32 flags;           /* of the slot: PAL_SLOT_* */
	__u32 visibility;
};

/* 0 on a cgroup that belongs to no admitted workload. */
static __always_inline __u32 pal_slot_of_cgroup(__u64 cgroup)
{
	__u32 *slot = bpf_map_lookup_elem(&cgroup_slots, &cgroup);

	return slot ? *slot : 0;
}

static __always_inline __u32 pal_incarnation(__u32 slot)
{
	struct pal_slot *entry = bpf_map_lookup_elem(&slots, &slot);

	return entry ? entry->incarnation : 0;
}

/* What was kept means nothing once its slot was released. */
static __always_inline bool pal_kept_is_valid(const struct pal_task *kept)
{
	return kept->slot && pal_incarnation(kept->slot) == kept->incarnation;
}

/* Unified cgroup of a task that is a typed pointer (current, or a BTF argument): direct loads, no helper. */
#define pal_cgroup_of_task(task) ((task)->cgroups->dfl_cgrp->kn->id)

/* Reads the slot once, by one load of the word that a swap stores. */
static __always_inline void pal_subject_load_slot(struct pal_subject *subject)
{
	struct pal_slot *entry = bpf_map_lookup_elem(&slots, &subject->slot);
	__u64 installed = 0;

	subject->flags = 0;
	subject->visibility = 0;
	if (entry) {
		installed = *(volatile __u64 *)&entry->installed;
		subject->flags = entry->flags;
		subject->visibility = entry->visibility;
	}
	subject->policy = (__u32)installed;
	subject->generation = installed >> 32;
}

/* A first act inside an admitted cgroup: keep the identity from here on. */
static __always_inline struct pal_task *pal_keep(struct task_struct *task, __u64 cgroup, __u32 slot, __u32 phase)
{
	struct pal_task *kept = bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!kept) {
		pal_count(PAL_COUNTER_TASK_STORAGE_FULL);
		return NULL;
	}
	kept->cgroup = cgroup;
	kept->slot = slot;
	kept->incarnation = pal_incarnation(slot);
	kept->phase = phase;
	kept->source_digest = 0;
	return kept;
}

/* Slot, phase and what is kept; not the slot's policy. `task` must be a typed pointer that bpf_task_storage_get takes. */
static __always_inline void pal_identify_slot(struct task_struct *task, struct pal_subject *subject)
{
	struct pal_task *kept = bpf_task_storage_get(&tasks, task, NULL, 0);
	__u64 cgroup = pal_cgroup_of_task(task);
	bool valid = kept && pal_kept_is_valid(kept);
	__u32 slot;

	subject->cgroup = cgroup;
	subject->kept = kept;
	if (valid && kept->cgroup == cgroup) {
		subject->slot = kept->slot;
		subject->phase = kept->phase;
		return;
	}
	slot = pal_slot_of_cgroup(cgroup);
	if (slot && !(valid && kept->slot == slot)) {
		subject->kept = pal_keep(task, cgroup, slot, PAL_PHASE_WORKLOAD);
		subject->slot = slot;
		subject->phase = pal_veiled(PAL_PHASE_WORKLOAD);
	} else if (valid) {
		subject->slot = kept->slot;
		subject->phase = kept->phase;
	} else {
		subject->kept = NULL;
		subject->slot = pal_veiled(0);
		subject->phase = pal_veiled(PAL_PHASE_NONE);
	}
}

/* The current task, for programs with access to task storage (lsm, tp_btf, raw_tp). */
static __always_inline void pal_identify(struct pal_subject *subject)
{
	pal_identify_slot(bpf_get_current_task_btf(), subject);
	pal_subject_load_slot(subject);
}

/* By a cgroup alone, for programs without task storage (cgroup programs: `cgroup` is then the socket's). */
static __always_inline void pal_identify_cgroup(__u64 cgroup, struct pal_subject *subject)
{
	subject->kept = NULL;
	subject->cgroup = cgroup;
	subject->slot = pal_slot_of_cgroup(cgroup);
	subject->phase = pal_veiled(subject->slot ? PAL_PHASE_WORKLOAD : PAL_PHASE_NONE);
	pal_subject_load_slot(subject);
}

/*
 * Is the file on a mount of the task's own mount namespace, and is that not the host's? Then it is the container's file:
 * a runtime's own binary is on the host's mounts, or nameless (memfd).
 */
static __always_inline bool pal_is_of_own_mounts(struct task_struct *task, struct file *file, __u32 host_mnt_ns)
{
	struct mnt_namespace *own = task->nsproxy->mnt_ns;
	struct vfsmount *vfsmount = file->f_path.mnt;
	struct mount *mount = (void *)((__u64)vfsmount - bpf_core_field_offset(struct mount, mnt));

	if (own->ns.inum == host_mnt_ns)
		return false;
	return (__u64)BPF_CORE_READ(mount, mnt_ns) == (__u64)own;
}

#endif

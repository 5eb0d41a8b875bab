/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Whose act is this? The unified cgroup names the workload, and once there it sticks to the task.
 *
 * A task keeps (cgroup, slot) in task storage. While it is in that cgroup the pair is its identity; if it is found in
 * another one it stays what it was, with a policy and without, so that leaving is pointless; only who moves it from outside, of
 * the host, renames it (identity.bpf.c). A thread that keeps nothing is what its process's leader is. Without task storage (exhausted, or
 * a program type that has no access) the cgroup alone decides.
 * Namespaces play no part: unshare and setns change nothing. bpf/identity.bpf.c keeps the storage up to date.
 *
 * Who is in a place of containers and was not admitted is of PAL_SLOT_UNKNOWN. That slot sticks like another with one difference: it
 * says nothing of who the task is, so what is kept is the cgroup, and its slot is looked up at each act. Once that cgroup is
 * admitted all of its tasks are the workload's, also those that were there before and those that have left it meanwhile. And
 * an unknown cgroup makes nobody unknown who was known.
 *
 * A task is in its new cgroup some microseconds before it is told that it was moved there, and acts on another CPU meanwhile. Who
 * is met in a cgroup that was empty at first is on its way in.
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
	__u64 visibility;      /* bit n: records of kind n are wanted */
};

/* 0 on a cgroup that belongs to no workload. */
static __always_inline __u32 pal_slot_of_cgroup(__u64 cgroup)
{
	__u32 *slot = bpf_map_lookup_elem(&cgroup_slots, &cgroup);

	return slot ? *slot & PAL_CGROUP_SLOT : 0;
}

static __always_inline bool pal_is_hex(char letter)
{
	return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'f');
}

static __always_inline bool pal_begins_with(const char *name, const char *prefix, __u32 length)
{
#pragma unroll
	for (__u32 i = 0; i < length; i++)
		if (name[i] != prefix[i])
			return false;
	return true;
}

#define PAL_SCOPE_NAME 24 /* of a cgroup's name: `cri-containerd-` and the beginning of an id */

/*
 * Is the directory named as container runtimes name a container's: `docker-<id>.scope`, or the bare id? Two digits of the id
 * tell it from a monitor's (`crio-conmon-<id>.scope`). By the address of its struct kernfs_node.
 */
pal_global int pal_is_named_as_container(__u64 node)
{
	char name[PAL_SCOPE_NAME] = {};
	const char *from = BPF_CORE_READ((struct kernfs_node *)node, name);

	bpf_probe_read_kernel_str(name, sizeof(name), from);
	if (pal_begins_with(name, "docker-", 7) || pal_begins_with(name, "libpod-", 7))
		return pal_is_hex(name[7]) && pal_is_hex(name[8]);
	if (pal_begins_with(name, "crio-", 5))
		return pal_is_hex(name[5]) && pal_is_hex(name[6]);
	if (pal_begins_with(name, "cri-containerd-", 15))
		return pal_is_hex(name[15]) && pal_is_hex(name[16]);
	for (__u32 at = 0; at < 12; at++)
		if (!pal_is_hex(name[at]))
			return 0;
	return 1;
}

/* Whose a new cgroup below one of this value is. */
static __always_inline __u32 pal_slot_below(__u32 value, __u64 child)
{
	if (value & PAL_CGROUP_MIXED)
		return pal_is_named_as_container(child) ? PAL_SLOT_UNKNOWN : 0;
	return value & PAL_CGROUP_SLOT;
}

/*
 * Of a cgroup that is not registered although it may have had to be: whose its nearest registered ancestor says it is. By the
 * address of its struct cgroup.
 */
pal_global __u32 pal_slot_by_ancestors(__u64 address)
{
	struct cgroup *cgroup = (struct cgroup *)address;

	for (int i = 0; i < PAL_CGROUP_ANCESTORS; i++) {
		struct cgroup_subsys_state *css = BPF_CORE_READ(cgroup, self.parent);
		__u64 child = (__u64)BPF_CORE_READ(cgroup, kn), id;
		__u32 *value;

		if (!css)
			return 0;
		cgroup = BPF_CORE_READ(css, cgroup);
		id = BPF_CORE_READ(cgroup, kn, id);
		value = bpf_map_lookup_elem(&cgroup_slots, &id);
		if (value)
			return pal_slot_below(*value, child);
	}
	return 0;
}

#define PAL_ASK_ANCESTORS (-1)

/* The slot of a registered cgroup, 0, or PAL_ASK_ANCESTORS. Like what else is asked of every act, verified once. */
pal_global int pal_slot_or_ask(__u64 id)
{
	__u32 *value = bpf_map_lookup_elem(&cgroup_slots, &id);
	struct pal_attendance *attendance;

	if (value)
		return *value & PAL_CGROUP_SLOT;
	attendance = pal_attendance();
	return attendance && *(volatile __u64 *)&attendance->unregistered ? PAL_ASK_ANCESTORS : 0;
}

/* The same as pal_slot_of_cgroup, where the cgroup itself is at hand: a full table makes nobody the host's. */
static __always_inline __u32 pal_slot_of(struct cgroup *cgroup, __u64 id)
{
	int slot = pal_slot_or_ask(id);

	/* Its own field says where it is: an address that is no pointer for the verifier. */
	return slot == PAL_ASK_ANCESTORS ? pal_slot_by_ancestors((__u64)BPF_CORE_READ(cgroup, self.cgroup)) : (__u32)slot;
}

/* The same of a task's, whose cgroup is looked for only where it has to be: see pal_describe_task (emit.h). */
static __always_inline __u32 pal_slot_of_task(struct task_struct *task, __u64 id)
{
	int slot = pal_slot_or_ask(id);

	return slot == PAL_ASK_ANCESTORS ? pal_slot_by_ancestors((__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp)) : (__u32)slot;
}

/* All bits where a policy stands, none where it has lapsed. */
pal_global int pal_standing(void)
{
	if (!pal_has_lapsed())
		return -1;
	pal_count(PAL_COUNTER_LAPSED);
	return 0;
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

/* Reads the slot's entry once, by one load of the word that a swap stores. */
static __always_inline void pal_subject_load_entry(struct pal_subject *subject, struct pal_slot *entry)
{
	__u64 installed = 0;

	subject->flags = 0;
	subject->visibility = 0;
	if (entry) {
		installed = *(volatile __u64 *)&entry->installed;
		subject->flags = entry->flags;
		subject->visibility = entry->visibility;
	}
	if ((__u32)installed != PAL_POLICY_NONE)
		installed &= (__u64)(__s64)pal_standing();
	subject->policy = (__u32)installed;
	subject->generation = installed >> 32;
}

static __always_inline void pal_subject_load_slot(struct pal_subject *subject)
{
	pal_subject_load_entry(subject, bpf_map_lookup_elem(&slots, &subject->slot));
}

/* The host's, though a workload has put it into that cgroup (identity.bpf.c). */
static __always_inline bool pal_is_kept_as_hosts(const struct pal_task *kept, __u64 cgroup)
{
	return kept && !kept->slot && kept->cgroup == cgroup;
}

/*
 * Who was unknown is of the workload that its cgroup has been admitted for since, and as far in its life as it was: else whatever
 * began before the admission would stay unknown for ever.
 */
pal_global int pal_recognize(struct pal_task *kept)
{
	__u32 slot;

	if (!kept || kept->slot != PAL_SLOT_UNKNOWN)
		return 0;
	slot = pal_slot_of_cgroup(kept->cgroup);
	if (!slot || slot == PAL_SLOT_UNKNOWN)
		return 0;
	kept->incarnation = pal_incarnation(slot);
	kept->slot = slot;
	kept->source_digest = 0;
	return 0;
}

/* Where it was found, but for one that is unknown: that stays what the cgroup is that it was unknown in. */
static __always_inline void pal_found_in(struct pal_task *kept, __u64 cgroup, __u32 slot)
{
	if (kept->slot != PAL_SLOT_UNKNOWN || slot == PAL_SLOT_UNKNOWN)
		kept->cgroup = cgroup;
}

static __always_inline struct pal_task *pal_kept_anew(struct task_struct *task)
{
	struct pal_task *kept = bpf_task_storage_get(&tasks, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (!kept)
		pal_count(PAL_COUNTER_TASK_STORAGE_FULL);
	return kept;
}

static __always_inline void pal_keep_in(struct pal_task *kept, __u64 cgroup, __u32 slot, __u32 phase)
{
	kept->cgroup = cgroup;
	kept->slot = slot;
	kept->incarnation = pal_incarnation(slot);
	kept->phase = phase;
	kept->runtime_mnt_ns = 0;
	kept->entered = 0;
	kept->source_digest = 0;
	kept->found_ns = 0;
}

/* Keep this identity from here on, whatever was kept before. */
static __always_inline struct pal_task *pal_keep(struct task_struct *task, __u64 cgroup, __u32 slot, __u32 phase)
{
	struct pal_task *kept = pal_kept_anew(task);

	if (kept)
		pal_keep_in(kept, cgroup, slot, phase);
	return kept;
}

/*
 * What the leader of the task's process keeps, if that is valid in its cgroup. A move of a whole process is told of its leader alone,
 * and io_uring's workers are born without a word: both are what their leader is.
 */
static __always_inline struct pal_task *pal_kept_of_leader(struct task_struct *task)
{
	struct task_struct *leader = task->group_leader;
	struct pal_task *kept;

	if (!leader || task->pid == task->tgid)
		return NULL;
	kept = bpf_task_storage_get(&tasks, leader, NULL, 0);
	if (kept)
		pal_recognize(kept);
	return kept && (pal_kept_is_valid(kept) || pal_is_kept_as_hosts(kept, pal_cgroup_of_task(task))) ? kept : NULL;
}

/*
 * A task that keeps nothing, in a cgroup where everybody was seen to come: is a runtime's process being moved in right now? It is
 * in the mount namespace of who started it, who is not of the workload; whom a workload bears is not. By the addresses of who started
 * it and of its own namespace.
 */
pal_global int pal_is_arriving(__u64 parent, __u64 mnt_ns, __u64 cgroup, __u32 slot)
{
	struct task_struct *starter = (struct task_struct *)parent;
	__u32 *value = bpf_map_lookup_elem(&cgroup_slots, &cgroup);

	if (!value || !(*value & PAL_CGROUP_SEEN))
		return 0;
	return (__u64)BPF_CORE_READ(starter, nsproxy, mnt_ns) == mnt_ns &&
	       pal_slot_of_cgroup(BPF_CORE_READ(starter, cgroups, dfl_cgrp, kn, id)) != slot;
}

/*
 * What who started the task keeps, if it is in the runtime's phase of the slot: a child of which nothing could be kept at its birth is,
 * too. A workload's task has no such parent, for the last of that phase executes and bears nobody after.
 */
static __always_inline struct pal_task *pal_kept_of_runtime(struct task_struct *task, __u32 slot)
{
	struct task_struct *starter = task->real_parent;
	struct pal_task *kept;

	if (!starter)
		return NULL;
	kept = bpf_task_storage_get(&tasks, starter, NULL, 0);
	return kept && kept->slot == slot && kept->phase == PAL_PHASE_RUNTIME && pal_kept_is_valid(kept) ? kept : NULL;
}

/*
 * The task keeps nothing, or was found in another cgroup than before. The storage is asked again and not written over: 6.1
 * answers that there is none while another program, which was preempted on this CPU, is busy with any task's.
 */
pal_function int pal_identify_anew(struct task_struct *task, struct pal_task *kept, struct pal_subject *subject)
{
	struct pal_task *leader = pal_kept_of_leader(task);
	__u64 cgroup = subject->cgroup;
	__u32 slot = pal_slot_of_task(task, cgroup);
	__u32 phase = pal_veiled(slot ? PAL_PHASE_WORKLOAD : PAL_PHASE_NONE);

	/* What a thread itself keeps of the host does not stand against its leader. */
	if (pal_is_kept_as_hosts(leader ? leader : kept, cgroup)) {
		subject->kept = NULL;
		subject->slot = 0;
		subject->phase = pal_veiled(PAL_PHASE_NONE);
		return 0;
	}
	if (!kept && (slot || leader))
		kept = pal_kept_anew(task);
	else if (kept)
		pal_recognize(kept);
	if (kept && pal_kept_is_valid(kept) && !(leader && leader->cgroup == cgroup)) {
		pal_found_in(kept, cgroup, slot);
		slot = kept->slot;
		phase = kept->phase;
	} else if (leader) {
		slot = leader->slot;
		phase = leader->phase;
		if (kept) {
			pal_keep_in(kept, slot == PAL_SLOT_UNKNOWN ? leader->cgroup : cgroup, slot, phase);
			kept->entered = leader->entered;
		}
	} else if (kept && slot &&
		   pal_is_arriving((__u64)BPF_CORE_READ(task, real_parent), (__u64)BPF_CORE_READ(task, nsproxy, mnt_ns), cgroup, slot)) {
		/* What it is will be told and kept in a moment. Without storage it is judged as what is there. */
		phase = PAL_PHASE_RUNTIME;
		kept = NULL;
	} else if (kept && slot) {
		struct pal_task *runtime = pal_kept_of_runtime(task, slot);

		if (runtime)
			phase = PAL_PHASE_RUNTIME;
		pal_keep_in(kept, cgroup, slot, phase);
		if (runtime)
			kept->runtime_mnt_ns = runtime->runtime_mnt_ns;
		kept->found_ns = bpf_ktime_get_boot_ns();
	}
	subject->kept = slot ? kept : NULL;
	subject->slot = slot;
	subject->phase = phase;
	return 0;
}

/* `task` must be a typed pointer that bpf_task_storage_get takes. What is kept is found valid and the policy is found by one look. */
static __always_inline void pal_identify_task(struct task_struct *task, struct pal_subject *subject)
{
	struct pal_task *kept = bpf_task_storage_get(&tasks, task, NULL, 0);
	__u64 cgroup = pal_cgroup_of_task(task);
	struct pal_slot *entry;

	subject->cgroup = cgroup;
	if (kept && kept->cgroup == cgroup && kept->slot && kept->slot != PAL_SLOT_UNKNOWN) {
		/* Once: whoever moves the task from outside may write it meanwhile. */
		subject->slot = *(volatile __u32 *)&kept->slot;
		entry = bpf_map_lookup_elem(&slots, &subject->slot);
		if (entry && entry->incarnation == kept->incarnation) {
			subject->kept = kept;
			subject->phase = kept->phase;
			pal_subject_load_entry(subject, entry);
			return;
		}
	}
	pal_identify_anew(task, kept, subject);
	pal_subject_load_slot(subject);
}

/* The current task, for programs with access to task storage (lsm, tp_btf, raw_tp). */
static __always_inline void pal_identify(struct pal_subject *subject)
{
	pal_identify_task(bpf_get_current_task_btf(), subject);
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

static __always_inline __u32 pal_mnt_ns_of(struct task_struct *task)
{
	return task->nsproxy->mnt_ns->ns.inum;
}

/*
 * The runtime's phase ends with the first exec inside the container: in a mount namespace that is neither the host's nor that
 * of whoever moved the task in. Which file it is does not matter: there the runtime's own binary (by /proc/self/exe, as in
 * CVE-2019-5736) or a memfd runs for the container and with its libraries.
 */
static __always_inline bool pal_executes_inside(struct task_struct *task, const struct pal_task *kept, __u32 host_mnt_ns)
{
	__u32 own = pal_mnt_ns_of(task);

	return own != host_mnt_ns && (!kept || own != kept->runtime_mnt_ns);
}

#endif

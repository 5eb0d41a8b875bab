// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Keeps identity up to date: cgroups inherit their parent's slot, tasks their parent's identity, and a task knows whether it
 * is still the container runtime's code or already the workload's.
 *
 * Phases: a task group that an outside mover, of the host and of no workload, puts into a workload's cgroup is the runtime's
 * (runc's init works inside the cgroup, for exec even inside the container's root), through its forks, until it executes anything
 * in a mount namespace that is neither the host's nor the mover's. Cgroup and root alone cannot tell the two apart.
 *
 * Unknown workloads: the node registers the places in which container runtimes make containers, and what is made there is of
 * PAL_SLOT_UNKNOWN until it is admitted, whether or not a node runs then. Whoever acts from such a place in the host's mount
 * namespace, or in the runtime's phase, is a runtime (a shim in its pod's cgroup) and counts as an outside mover.
 *
 * What a task does between its move into a running container's cgroup and the tracepoint, some microseconds, is judged as the workload's.
 *
 * Of who is in a cgroup when it is admitted something is kept by then (runtime/kernel/src/members.rs): of whom nothing is kept is the host's.
 *
 * Gaps: a container that shares the host's mount namespace never leaves the runtime's phase. Who was in a place of containers before
 * the first node, and has done nothing since that any program saw, is the host's if he is moved before his container is admitted. A
 * workload that makes more than PAL_CGROUPS_MADE cgroups at a time has the others unregistered, and counted: tasks that are in them
 * keep their slot, and who is put into one from outside is not taken in. Where the table itself is full, the nearest of
 * PAL_CGROUP_ANCESTORS ancestors says whose a cgroup is; the kernels whose cgroup programs have no task storage know it by its id
 * alone there, and take it for the host's, but for packets.
 *
 * Needs Linux 5.17; without these programs children and leavers are judged by their cgroup alone, and every task of a
 * workload counts as workload.
 */
#include "conditions.h"
#include "guarded.h"

char LICENSE[] SEC("license") = "GPL";

/* Inode number of the host's mount namespace. Set before loading. */
const volatile __u32 pal_host_mnt_ns = 0;

/*
 * A hybrid host has several hierarchies, and these tracepoints fire for each. The unified one is numbered 0 in all kernels.
 */
static __always_inline bool pal_is_unified(struct cgroup *cgroup)
{
	return BPF_CORE_READ(cgroup, root, hierarchy_id) == 0;
}

/* From now on whoever misses asks its ancestors. */
static __always_inline void pal_found_no_room(void)
{
	struct pal_attendance *attendance = pal_attendance();

	if (attendance)
		*(volatile __u64 *)&attendance->unregistered = 1;
	pal_count(PAL_COUNTER_CGROUPS_FULL);
}

static __always_inline void pal_register_made(__u64 id, __u32 slot)
{
	__s32 *made = bpf_map_lookup_elem(&cgroups_made, &slot);
	__u32 value = slot | PAL_CGROUP_MADE | PAL_CGROUP_SEEN;

	if (!made)
		return;
	if (__sync_fetch_and_add(made, 1) >= PAL_CGROUPS_MADE)
		pal_count(PAL_COUNTER_CGROUPS_FULL);
	else if (bpf_map_update_elem(&cgroup_slots, &id, &value, BPF_ANY))
		pal_found_no_room();
	else
		return;
	__sync_fetch_and_add(made, -1);
}

/* Runtimes make these, and remove them: they are not counted against anybody. */
static __always_inline void pal_register_unknown(__u64 id)
{
	__u32 value = PAL_SLOT_UNKNOWN | PAL_CGROUP_SEEN;

	if (bpf_map_update_elem(&cgroup_slots, &id, &value, BPF_ANY))
		pal_found_no_room();
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(inherit_cgroup, struct cgroup *cgroup, const char *path)
{
	struct cgroup_subsys_state *parent = BPF_CORE_READ(cgroup, self.parent);
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	__u32 *value, slot;
	__u64 parent_id;

	if (!pal_is_unified(cgroup) || !parent)
		return 0;
	parent_id = BPF_CORE_READ(parent, cgroup, kn, id);
	value = bpf_map_lookup_elem(&cgroup_slots, &parent_id);
	slot = value ? pal_slot_below(*value, (__u64)BPF_CORE_READ(cgroup, kn)) : pal_slot_of(BPF_CORE_READ(parent, cgroup), parent_id);
	if (slot == PAL_SLOT_UNKNOWN)
		pal_register_unknown(id);
	else if (slot)
		pal_register_made(id, slot);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(forget_cgroup, struct cgroup *cgroup, const char *path)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	/* Where the node has been; nobody else is there under the name. */
	struct pal_guarded of_node = { .id = id, .kind = PAL_GUARDED_CGROUP };
	__u32 *value, slot;
	__s32 *made;

	if (!pal_is_unified(cgroup))
		return 0;
	bpf_map_delete_elem(&guarded, &of_node);
	value = bpf_map_lookup_elem(&cgroup_slots, &id);
	if (!value)
		return 0;
	slot = *value;
	bpf_map_delete_elem(&cgroup_slots, &id);
	if (slot & PAL_CGROUP_MADE) {
		slot &= PAL_CGROUP_SLOT;
		made = bpf_map_lookup_elem(&cgroups_made, &slot);
		if (made)
			__sync_fetch_and_add(made, -1);
	}
	return 0;
}

/* Is it a container runtime's, though in a place of containers? */
static __always_inline bool pal_is_runtime(struct task_struct *task, const struct pal_task *kept)
{
	return (kept && kept->phase == PAL_PHASE_RUNTIME) || pal_mnt_ns_of(task) == pal_host_mnt_ns;
}

/* Slot by which the current task acts; 0 for a runtime that is in a place of containers. */
static __always_inline __u32 pal_current_slot(void)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct pal_task *kept = bpf_task_storage_get(&tasks, current, NULL, 0);
	__u32 slot;

	if (kept)
		pal_recognize(kept);
	if (pal_is_kept_as_hosts(kept, pal_cgroup_of_task(current)))
		return 0;
	if (!kept || !pal_kept_is_valid(kept))
		kept = pal_kept_of_leader(current);
	slot = kept ? kept->slot : pal_slot_of_task(current, pal_cgroup_of_task(current));
	return slot == PAL_SLOT_UNKNOWN && pal_is_runtime(current, kept) ? 0 : slot;
}

static __always_inline bool pal_moves_itself(struct task_struct *task)
{
	return task->tgid == bpf_get_current_pid_tgid() >> 32;
}

/* What a host's process puts in is the runtime's; what is in, or puts itself in, is the workload's. */
static __always_inline void pal_move_in(struct task_struct *task, __u64 cgroup, __u32 slot, bool by_itself)
{
	struct pal_task *kept = pal_keep(task, cgroup, slot, by_itself ? PAL_PHASE_WORKLOAD : PAL_PHASE_RUNTIME);

	if (kept)
		kept->runtime_mnt_ns = pal_mnt_ns_of(bpf_get_current_task_btf());
}

#define PAL_ON_ITS_WAY_NS 1000000000ull

/*
 * It acted between its move and this word of it, and was taken for one that had been there before. Later than a second after its
 * first act it is no more than moved anew to where it is.
 */
static __always_inline bool pal_was_on_its_way(struct task_struct *task, const struct pal_task *kept, __u64 cgroup)
{
	return kept && kept->found_ns && kept->cgroup == cgroup && bpf_ktime_get_boot_ns() - kept->found_ns < PAL_ON_ITS_WAY_NS &&
	       !pal_moves_itself(task) && !pal_current_slot();
}

static __always_inline __u32 pal_slot_of_leader(struct task_struct *task)
{
	struct pal_task *leader = pal_kept_of_leader(task);

	return leader ? leader->slot : 0;
}

/* Of a workload's move of whom nothing is kept: he is the host's, for of all who are in a container something is kept. */
static __always_inline void pal_keep_as_hosts(struct task_struct *task, __u64 cgroup, __u32 mover_slot)
{
	struct pal_task *kept = pal_kept_anew(task);

	if (!kept)
		return;
	/* Of a workload that is gone, or 6.1 answered at first that there is nothing: see pal_identify_anew. */
	if (kept->slot && pal_kept_is_valid(kept))
		return;
	pal_keep_in(kept, cgroup, kept->slot ? mover_slot : 0, kept->slot ? PAL_PHASE_WORKLOAD : PAL_PHASE_NONE);
}

/*
 * After the fact: the task is already in `cgroup`. Only the host's move makes a task another one, and begins a new life; and whoever of
 * the host moves himself in is the workload's. Whoever acts from inside a workload, with a policy or without, takes nobody out of what
 * he is: not to an unregistered cgroup, not to another workload's, not home again, and no process of the host into any. Of a process
 * that moves as a whole only the leader comes by here: its threads follow it (pal_identify_anew).
 */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(attach_task, struct cgroup *cgroup, const char *path, struct task_struct *task, bool threadgroup)
{
	__u64 id = BPF_CORE_READ(cgroup, kn, id);
	struct pal_task *kept;
	__u32 slot, kept_slot, mover_slot;

	if (!pal_is_unified(cgroup))
		return 0;
	/* Where a node is put workloads are kept from what moves, freezes and kills it. */
	if (pal_is_own_process(task) && pal_remember_cgroups(task))
		pal_count(PAL_COUNTER_GUARDED_FULL);
	kept = bpf_task_storage_get(&tasks, task, NULL, 0);
	if (kept)
		pal_recognize(kept);
	kept_slot = kept && pal_kept_is_valid(kept) ? kept->slot : 0;
	/* A thread of whom nothing is kept is what its leader is: one of before the admission, a worker of io_uring. */
	if (!kept_slot)
		kept_slot = pal_slot_of_leader(task);
	slot = pal_slot_of(cgroup, id);
	if (slot == kept_slot && !(slot && pal_was_on_its_way(task, kept, id))) {
		if (kept && slot)
			kept->cgroup = id;
		return 0;
	}
	mover_slot = pal_current_slot();
	if (!slot || (kept_slot && mover_slot)) {
		pal_count(PAL_COUNTER_LEAVERS);
		if (kept)
			pal_found_in(kept, id, slot);
	} else if (!mover_slot || pal_moves_itself(task)) {
		pal_move_in(task, id, slot, pal_moves_itself(task));
	} else {
		pal_keep_as_hosts(task, id, mover_slot);
	}
	return 0;
}

static __always_inline void pal_inherit(struct task_struct *child, __u64 cgroup, __u32 slot, const struct pal_task *kept)
{
	struct pal_task *born = pal_keep(child, cgroup, slot, kept->phase);

	if (!born)
		return;
	born->runtime_mnt_ns = kept->runtime_mnt_ns;
	born->entered = kept->entered;
	born->source = kept->source;
	born->source_digest = kept->source_digest;
}

/* A child of one of whom nothing is kept, or who is unknown: the parent's cgroup and leader are asked. `slot`: of the child's cgroup. */
static __always_inline void pal_bear(struct task_struct *parent, struct task_struct *child, __u64 cgroup, __u32 slot)
{
	struct pal_subject subject;

	pal_identify_task(parent, &subject);
	/* A runtime in a place of containers starts a container: in another cgroup than its own. */
	if (subject.slot == PAL_SLOT_UNKNOWN && slot && slot != PAL_SLOT_UNKNOWN && pal_cgroup_of_task(parent) != cgroup &&
	    pal_is_runtime(parent, subject.kept))
		subject.slot = 0;
	if (!subject.slot) {
		if (slot && pal_cgroup_of_task(parent) == cgroup)
			pal_keep(child, cgroup, 0, PAL_PHASE_NONE); /* a process of the host bears it there */
		else if (slot)
			pal_move_in(child, cgroup, slot, false);
		return;
	}
	if (!subject.kept) {
		pal_keep(child, cgroup, subject.slot, subject.phase);
		return;
	}
	if (subject.slot == PAL_SLOT_UNKNOWN && slot != PAL_SLOT_UNKNOWN)
		cgroup = subject.kept->cgroup;
	pal_inherit(child, cgroup, subject.slot, subject.kept);
}

/*
 * A child is what its parent is, whatever cgroup it is in: nearly always the parent's. clone3 may put it straight into another one:
 * from outside that is a runtime's way to start a container, from inside an attempt to leave.
 */
SEC("tp_btf/sched_process_fork")
int BPF_PROG(inherit_task, struct task_struct *parent, struct task_struct *child)
{
	struct pal_task *kept = bpf_task_storage_get(&tasks, parent, NULL, 0);
	__u64 cgroup = pal_cgroup_of_task(child);
	__u32 kept_slot, slot;

	if (kept)
		pal_recognize(kept);
	kept_slot = kept && pal_kept_is_valid(kept) ? kept->slot : 0;
	if (kept && kept_slot && kept_slot != PAL_SLOT_UNKNOWN) {
		pal_inherit(child, cgroup, kept_slot, kept);
		return 0;
	}
	slot = pal_slot_of_task(child, cgroup);
	/* The host's, but for a thread whose leader may be somebody's. */
	if (!slot && !kept_slot && parent->pid == parent->tgid && pal_cgroup_of_task(parent) == cgroup)
		return 0;
	pal_bear(parent, child, cgroup, slot);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(begin_image, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct pal_task *kept = bpf_task_storage_get(&tasks, task, NULL, 0);

	if (!kept)
		return 0;
	kept->source_digest = 0;
	if (kept->phase == PAL_PHASE_RUNTIME && pal_executes_inside(task, kept, pal_host_mnt_ns)) {
		kept->entered = !pal_is_first_process(task);
		kept->phase = PAL_PHASE_WORKLOAD;
	}
	return 0;
}

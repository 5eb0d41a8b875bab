// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Learns a workload's mount table. Never attached: user space opens each mount point inside the workload's mount namespace
 * (O_PATH) and runs this by BPF_PROG_TEST_RUN with (descriptor, slot); it climbs from the opened mount to the top of the
 * tree and writes each crossing. The kernel's own pointers go straight into the map and user space never sees or invents one.
 *
 * The crossing below the tree's top mount is the workload's root: pivot_root leaves the container's root mounted there.
 *
 * Needs Linux 5.17; without it paths are named by the climb alone.
 */
#include "own_file.h"
#include "walk.h"

char LICENSE[] SEC("license") = "GPL";

struct pal_lesson {
	__u64 mount;
	__u32 slot;
	__s32 result; /* 0 while it goes on, then how many crossings were written, or a negative errno */
	__u32 crossings;
};

/* Puts it where there is room. False: both buckets are full. */
static __always_inline bool pal_write_crossing(const struct pal_crossing *crossing, __u64 last)
{
	for (__u32 choice = 0; choice < 2; choice++) {
		struct pal_mounts *bucket = bpf_map_lookup_elem(&mounts, &crossing->buckets[choice]);

		if (!bucket)
			return false;
		for (__u32 i = 0; i < PAL_MOUNT_BUCKET; i++)
			if (!__sync_val_compare_and_swap(&bucket->crossings[i], 0, crossing->word | last))
				return true;
	}
	return false;
}

static long pal_learn_crossing(__u32 index, void *context)
{
	struct pal_lesson *lesson = context;
	struct pal_mount_head head, parent;
	struct pal_crossing crossing;
	__u32 last;

	if (!pal_read_mount(lesson->mount, &head) || !pal_read_mount(head.parent, &parent)) {
		lesson->result = -PAL_EINVAL;
		return 1;
	}
	last = head.parent == lesson->mount || parent.parent == head.parent;
	pal_look_for_crossing(&crossing, &head, &parent, lesson->slot);
	if (!pal_find_crossing(crossing.word, crossing.buckets[0], crossing.buckets[1]) &&
	    !pal_write_crossing(&crossing, last ? PAL_MOUNT_LAST : 0)) {
		lesson->result = -PAL_ENOSPC;
		return 1;
	}
	lesson->crossings++;
	lesson->mount = head.parent;
	if (last)
		lesson->result = lesson->crossings;
	return last;
}

SEC("raw_tp/sys_enter")
int learn_mount(struct bpf_raw_tracepoint_args *context)
{
	struct file *file = (struct file *)pal_own_file(context->args[0]);
	__u32 slot = context->args[1];
	struct pal_lesson lesson;

	if (!file)
		return -PAL_EBADF;
	lesson.mount = (__u64)BPF_CORE_READ(file, f_path.mnt) - bpf_core_field_offset(struct mount, mnt);
	lesson.slot = slot;
	/* What the callback changes must not start as a constant (walk.h). */
	lesson.result = pal_veiled(0);
	lesson.crossings = pal_veiled(0);
	bpf_loop(PAL_CROSSINGS_MAX, pal_learn_crossing, &lesson, 0);
	return lesson.result ? lesson.result : -PAL_ELOOP;
}

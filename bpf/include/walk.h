/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * From a struct path to the bytes that rules name: the path as the workload saw it at its start.
 *
 * Climbs dentries towards the root and writes the components right-aligned into scratch->path. Inside the first mount the
 * pointers are typed and loaded directly; past it, where the kernel's struct mount is not typed for us, one 24-byte read
 * brings what a step needs. Each mount crossing is looked up in the workload's mount table once that was learnt: the pair
 * (mount root, covered dentry) is a mount's identity, a crossing is the pairs of a mount and of its parent. Unshared copies
 * of a mount pass, binds elsewhere, moves and new mounts do not.
 *
 * The names can change while we climb. rename_lock's sequence, where the kernel shows its address, tells that none did.
 * Otherwise we climb again, a bounded number of times, until two climbs in a row agree: the sequence is the whole machine's,
 * so that a storm of renames in one container must not make paths of all others unnameable.
 * That names agree would be no proof: a component that is renamed forth and back can garble two climbs alike. So each dentry's
 * own sequence (d_seq) is seen before and after its name: where two climbs saw the same ones, no name changed between the
 * first climb's look at it and the second's, and at the moment between the two all of them stood together.
 *
 * By plain addresses alone the same climb is a global function, which the verifier walks through once for each object. So is what every climb
 * asks of the table: walked through for each way that led to it, the climbs of executables were most of what a node's start took.
 *
 * Invariant: never a wrong answer without a word. A path too long or too deep, or by a mount that is not of the table, is
 * reported by a reason, and the caller takes the fail mode.
 *
 * The trap of 6.1: its verifier checks a bpf_loop callback as if it ran once, and then removes branches that the first
 * run's constants do not take. So every field that a callback changes starts from a value that it cannot know (PAL_ZERO).
 *
 * Needs Linux 5.17 (bpf_loop).
 */
#ifndef PALISADE_WALK_H
#define PALISADE_WALK_H

#include "maps.h"

#define PAL_COMPONENTS_MAX 128 /* at least so many are climbed in each mount, and again in all mounts above it */
#define PAL_CROSSINGS_MAX 64
#define PAL_CLIMB_ATTEMPTS 3

/* Address of rename_lock, whose first word is the sequence; 0 where the kernel does not show it. Set before loading. */
const volatile __u64 pal_rename_lock = 0;

#define PAL_ZERO(slot) (*(volatile __u32 *)&(slot)->zero)

/* How a climb ended. */
enum pal_naming {
	PAL_NAMING = 0, /* not yet */
	PAL_NAMED = 1,
	PAL_NAME_UNKNOWN_MOUNT = 2,
	PAL_NAME_TOO_LONG = 3,
	PAL_NAME_TOO_DEEP = 4,
	PAL_NAME_MOVED = 5,    /* renames went on during every attempt */
	PAL_NAMELESS = 6,      /* on a file system of the kernel's own (pipes, memfd): no path rule can mean it */
	PAL_NAME_STACKED = 7,  /* on a layer that a stacked file system opened for itself: judged above already */
};

struct pal_climb {
	struct dentry *typed; /* inside the first mount */
	struct dentry *typed_root;
	__u64 dentry;         /* past the first mount: plain addresses */
	__u64 mount;          /* that `dentry` is in */
	struct pal_mount_head head; /* of that mount */
	struct pal_scratch *scratch;
	__u32 start;          /* of the path in scratch->path, which ends at PAL_PATH_SIZE */
	__u32 slot;
	__u32 checked;        /* crossings are looked up */
	__u32 end;            /* enum pal_naming */
};

static __always_inline bool pal_dentry_is_compact(void)
{
	return bpf_core_field_offset(struct dentry, d_name.hash) == bpf_core_field_offset(struct dentry, d_parent) + 8 &&
	       bpf_core_field_offset(struct dentry, d_name.len) == bpf_core_field_offset(struct dentry, d_parent) + 12 &&
	       bpf_core_field_offset(struct dentry, d_name.name) == bpf_core_field_offset(struct dentry, d_parent) + 16;
}

static __always_inline bool pal_mount_is_compact(void)
{
	return bpf_core_field_offset(struct mount, mnt_mountpoint) == bpf_core_field_offset(struct mount, mnt_parent) + 8 &&
	       bpf_core_field_offset(struct mount, mnt.mnt_root) == bpf_core_field_offset(struct mount, mnt_parent) + 16;
}

static __always_inline bool pal_read_dentry(__u64 address, struct pal_dentry_head *head)
{
	struct dentry *dentry = (struct dentry *)address;

	if (pal_dentry_is_compact())
		return !bpf_probe_read_kernel(head, sizeof(*head), (void *)address + bpf_core_field_offset(struct dentry, d_parent));
	head->parent = (__u64)BPF_CORE_READ(dentry, d_parent);
	head->hash = BPF_CORE_READ(dentry, d_name.hash);
	head->length = BPF_CORE_READ(dentry, d_name.len);
	head->name = (__u64)BPF_CORE_READ(dentry, d_name.name);
	return head->parent != 0;
}

static __always_inline bool pal_read_mount(__u64 address, struct pal_mount_head *head)
{
	struct mount *mount = (struct mount *)address;

	if (pal_mount_is_compact())
		return !bpf_probe_read_kernel(head, sizeof(*head), (void *)address + bpf_core_field_offset(struct mount, mnt_parent));
	head->parent = (__u64)BPF_CORE_READ(mount, mnt_parent);
	head->mountpoint = (__u64)BPF_CORE_READ(mount, mnt_mountpoint);
	head->root = (__u64)BPF_CORE_READ(mount, mnt.mnt_root);
	return head->parent != 0;
}

/* Writes "/name" before what is there. False: it does not fit. */
static __always_inline bool pal_put_name(struct pal_climb *climb, const void *name, __u32 length)
{
	__u32 start = climb->start;

	if (length > PAL_NAME_MAX || start <= length)
		return false;
	start -= length;
	pal_opaque(start);
	if (start >= PAL_PATH_SIZE)
		return false;
	bpf_probe_read_kernel(climb->scratch->path + start, length, name);
	start -= 1;
	pal_opaque(start);
	if (start >= PAL_PATH_SIZE)
		return false;
	climb->scratch->path[start] = '/';
	climb->start = start;
	return true;
}

/*
 * A mount without a parent of its own: the tree's top, a mount of the kernel's own (some are in no namespace at all, as those
 * of POSIX message queues), or one that was taken off the tree and has no path any more.
 */
static __always_inline __u32 pal_name_of_parentless(__u64 address)
{
	struct mount *mount = (struct mount *)address;
	__u64 ns = (__u64)BPF_CORE_READ(mount, mnt_ns);

	if (ns && ns != PAL_MNT_NS_INTERNAL)
		return PAL_NAMED;
	if (BPF_CORE_READ(mount, mnt.mnt_sb, s_flags) & PAL_SB_KERNMOUNT)
		return PAL_NAMELESS;
	return ns ? PAL_NAME_STACKED : PAL_NAME_UNKNOWN_MOUNT;
}

/* What is not of the workload's tree: perhaps of none. */
static __always_inline __u32 pal_name_off_tree(__u64 mount)
{
	__u32 parentless = pal_name_of_parentless(mount);

	return parentless == PAL_NAMED ? PAL_NAME_UNKNOWN_MOUNT : parentless;
}

/* A rename changes it of the dentry that it moves, and it is odd meanwhile. */
static __always_inline void pal_see_sequence(const struct pal_climb *climb, __u32 sequence)
{
	climb->scratch->seen += sequence;
	climb->scratch->unsettled |= sequence;
}

static __always_inline void pal_see_sequence_at(const struct pal_climb *climb, __u64 address)
{
	struct dentry *dentry = (struct dentry *)address;

	if (climb->scratch->sequenced)
		pal_see_sequence(climb, BPF_CORE_READ(dentry, d_seq.seqcount.sequence));
}

static __always_inline void pal_see_sequence_of(const struct pal_climb *climb, const struct dentry *dentry)
{
	if (climb->scratch->sequenced)
		pal_see_sequence(climb, dentry->d_seq.seqcount.sequence);
}

static long pal_climb_typed(__u32 index, void *context)
{
	struct pal_climb *climb = context;
	struct dentry *dentry = climb->typed;
	struct dentry *parent;
	__u64 step;

	if (dentry == climb->typed_root) {
		climb->end = PAL_NAMED;
		return 1;
	}
	pal_see_sequence_of(climb, dentry);
	parent = dentry->d_parent;
	if (parent == dentry) {
		climb->end = pal_name_off_tree(climb->mount);
		return 1;
	}
	if (!pal_put_name(climb, dentry->d_name.name, dentry->d_name.len)) {
		climb->end = PAL_NAME_TOO_LONG;
		return 1;
	}
	climb->typed = parent;
	/* The verifier takes a difference of pointers for a number, but not a sum. */
	step = (__u64)parent - (__u64)climb->typed_root;
	pal_opaque(step);
	climb->scratch->seen += step + dentry->d_name.hash;
	pal_see_sequence_of(climb, dentry);
	return 0;
}

static __always_inline __u64 pal_mount_mix(__u64 sum, __u64 word)
{
	sum = (sum ^ word) * 0x9e3779b97f4a7c15ull;
	return sum ^ sum >> 32;
}

/* The mount of `head`, on the mount of `parent`. */
static __always_inline void pal_look_for_crossing(struct pal_crossing *crossing, const struct pal_mount_head *head,
						  const struct pal_mount_head *parent, __u32 slot)
{
	__u64 digest = pal_mount_mix(pal_mount_mix(slot + 1, head->root), head->mountpoint);

	digest = pal_mount_mix(pal_mount_mix(digest, parent->root), parent->mountpoint);
	crossing->buckets[0] = digest & (PAL_MOUNT_BUCKETS - 1);
	crossing->buckets[1] = digest >> 32 & (PAL_MOUNT_BUCKETS - 1);
	crossing->word = (digest & ~(PAL_MOUNT_SLOT | PAL_MOUNT_LAST)) | PAL_MOUNT_TAKEN | (slot & PAL_MOUNT_SLOT);
}

/*
 * The crossing's word in the table, or 0: it is not of the slot's. A global function, for every step of a climb leads here: each cell that is
 * looked at is one more way to go on, and the verifier would walk through all that comes after for each of them. By values: 6.1 looks
 * nothing up by a key that a global function was given the address of.
 */
pal_global __u64 pal_find_crossing(__u64 wanted, __u32 first, __u32 second)
{
#pragma unroll
	for (__u32 choice = 0; choice < 2; choice++) {
		__u32 key = choice ? second : first;
		struct pal_mounts *bucket = bpf_map_lookup_elem(&mounts, &key);

		if (!bucket)
			return 0;
#pragma unroll
		for (__u32 i = 0; i < PAL_MOUNT_BUCKET; i++) {
			__u64 word = *(volatile __u64 *)&bucket->crossings[i];

			if ((word & ~PAL_MOUNT_LAST) == wanted)
				return word;
		}
	}
	return 0;
}

/*
 * At a mount's root: to the dentry that the mount covers, or the end. This is where the stack is deepest: 6.1 gives a whole
 * chain of calls 512 bytes, so that what is read lies in the scratch slot; and no chain has more than eight calls, so that this is none.
 */
static __always_inline void pal_cross_mount(struct pal_climb *climb)
{
	struct pal_mount_head *parent = &climb->scratch->mount;
	struct pal_crossing *wanted = &climb->scratch->crossing;
	__u64 crossing;

	if (!pal_read_mount(climb->head.parent, parent)) {
		climb->end = PAL_NAME_UNKNOWN_MOUNT;
		return;
	}
	if (climb->checked) {
		pal_look_for_crossing(wanted, &climb->head, parent, climb->slot);
		crossing = pal_find_crossing(wanted->word, wanted->buckets[0], wanted->buckets[1]);
		if (!crossing)
			climb->end = pal_name_off_tree(climb->mount);
		else if (crossing & PAL_MOUNT_LAST)
			climb->end = PAL_NAMED;
	} else if (climb->head.parent == climb->mount) {
		climb->end = pal_name_of_parentless(climb->mount);
	}
	climb->dentry = climb->head.mountpoint;
	climb->mount = climb->head.parent;
	climb->head = *parent;
	climb->scratch->seen += climb->mount;
}

static long pal_climb_untyped(__u32 index, void *context)
{
	struct pal_climb *climb = context;
	struct pal_dentry_head *head = &climb->scratch->dentry;

	if (climb->dentry == climb->head.root) {
		pal_cross_mount(climb);
		return climb->end != PAL_NAMING;
	}
	pal_see_sequence_at(climb, climb->dentry);
	if (!pal_read_dentry(climb->dentry, head) || head->parent == climb->dentry) {
		climb->end = pal_name_off_tree(climb->mount);
		return 1;
	}
	if (!pal_put_name(climb, (void *)head->name, head->length)) {
		climb->end = PAL_NAME_TOO_LONG;
		return 1;
	}
	climb->scratch->seen += head->parent + head->hash;
	pal_see_sequence_at(climb, climb->dentry);
	climb->dentry = head->parent;
	return 0;
}

/* Starts in a mount. What a callback changes must not start as a constant. */
static __always_inline void pal_climb_begin(struct pal_climb *climb, __u64 vfsmount, struct pal_scratch *scratch, __u32 slot,
					    __u32 checked)
{
	__u32 zero = PAL_ZERO(scratch);

	climb->scratch = scratch;
	climb->start = PAL_PATH_SIZE + zero;
	climb->slot = slot;
	climb->checked = checked + zero;
	climb->end = PAL_NAMING + zero;
	climb->scratch->seen = 1 + zero;
	climb->scratch->unsettled = zero;
	climb->mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	if (!pal_read_mount(climb->mount, &climb->head))
		climb->end = PAL_NAME_UNKNOWN_MOUNT;
}

/* `components`: of all mounts that are left, the first one's among them where that was not climbed by typed pointers. */
static __always_inline void pal_climb_above(struct pal_climb *climb, __u32 components)
{
	if (climb->end == PAL_NAMING)
		bpf_loop(components + PAL_CROSSINGS_MAX, pal_climb_untyped, climb, 0);
	if (climb->end == PAL_NAMING)
		climb->end = PAL_NAME_TOO_DEEP;
}

/* The root directory itself has no component. */
static __always_inline void pal_name_root(struct pal_climb *climb)
{
	if (climb->end == PAL_NAMED && climb->start == PAL_PATH_SIZE) {
		climb->scratch->path[PAL_PATH_SIZE - 1] = '/';
		climb->start = PAL_PATH_SIZE - 1;
	}
}

/* One climb by typed pointers: `dentry` and `mnt` are BTF pointers of the program. */
static __always_inline void pal_climb_path(struct pal_climb *climb, struct vfsmount *mnt, struct dentry *dentry,
					   struct pal_scratch *scratch, __u32 slot, __u32 checked)
{
	pal_climb_begin(climb, (__u64)mnt, scratch, slot, checked);
	climb->typed = dentry;
	climb->typed_root = mnt->mnt_root;
	if (climb->end == PAL_NAMING)
		bpf_loop(PAL_COMPONENTS_MAX + 1, pal_climb_typed, climb, 0);
	if (climb->end == PAL_NAMED) {
		climb->end = PAL_NAMING + PAL_ZERO(scratch);
		pal_cross_mount(climb);
		pal_climb_above(climb, PAL_COMPONENTS_MAX);
	} else if (climb->end == PAL_NAMING) {
		climb->end = PAL_NAME_TOO_DEEP;
	}
	pal_name_root(climb);
}

/* The same by plain addresses, where no typed pointer can be had. */
static __always_inline void pal_climb_addresses(struct pal_climb *climb, __u64 vfsmount, __u64 dentry,
						struct pal_scratch *scratch, __u32 slot, __u32 checked)
{
	pal_climb_begin(climb, vfsmount, scratch, slot, checked);
	climb->typed = NULL;
	climb->typed_root = NULL;
	climb->dentry = dentry;
	pal_climb_above(climb, 2 * PAL_COMPONENTS_MAX);
	pal_name_root(climb);
}

static __always_inline __u32 pal_rename_sequence(void)
{
	__u32 sequence = 1; /* odd: never stable */

	if (pal_rename_lock)
		bpf_probe_read_kernel(&sequence, sizeof(sequence), (void *)pal_rename_lock);
	return sequence;
}

/* No name changed during the climb, or between its look at each and the look of the climb before it. */
static __always_inline bool pal_climb_is_stable(const struct pal_climb *climb, __u32 sequence)
{
	struct pal_scratch *scratch = climb->scratch;
	__u64 before = scratch->seen_before;

	if (!(sequence & 1) && pal_rename_sequence() == sequence)
		return true;
	scratch->seen_before = scratch->seen + climb->end;
	return scratch->seen_before == before && !(scratch->unsettled & 1);
}

static __always_inline void pal_count_naming(__u32 end)
{
	if (end == PAL_NAME_UNKNOWN_MOUNT)
		pal_count(PAL_COUNTER_UNKNOWN_MOUNT);
	else if (end == PAL_NAME_TOO_LONG)
		pal_count(PAL_COUNTER_PATH_TOO_LONG);
	else if (end == PAL_NAME_TOO_DEEP)
		pal_count(PAL_COUNTER_PATH_TOO_DEEP);
	else if (end == PAL_NAME_MOVED)
		pal_count(PAL_COUNTER_PATH_MOVED);
}

/* A struct path by typed pointers. */
struct pal_object {
	struct vfsmount *mount;
	struct dentry *dentry;
};

/* Names the object; returns enum pal_naming and, where it is PAL_NAMED, the path's first byte in scratch->path by `start`. */
pal_function __u32 pal_name_object(const struct pal_object *object, struct pal_scratch *scratch, __u32 slot, __u32 checked,
				   __u32 *start)
{
	struct pal_climb climb;

	scratch->seen_before = 0;
	for (__u32 attempt = 0; attempt < PAL_CLIMB_ATTEMPTS; attempt++) {
		__u32 sequence = pal_rename_sequence();

		scratch->sequenced = !pal_rename_lock || attempt;
		pal_climb_path(&climb, object->mount, object->dentry, scratch, slot, checked);
		if (pal_climb_is_stable(&climb, sequence)) {
			if (climb.end == PAL_NAMED)
				*start = climb.start;
			else
				pal_count_naming(climb.end);
			return climb.end;
		}
	}
	pal_count(PAL_COUNTER_PATH_MOVED);
	return PAL_NAME_MOVED;
}

/* A struct path by its addresses. */
struct pal_place {
	__u64 vfsmount;
	__u64 dentry;
};

/* A path's end and its first byte in scratch->path, in one word: global functions give no more. */
#define PAL_NAMING_OF(end, start) ((__u64)(start) << 32 | (end))
#define PAL_NAMING_END(naming) ((__u32)(naming))
#define PAL_NAMING_START(naming) ((__u32)((naming) >> 32))

/*
 * Hands a place to the global functions below. By way of the scratch slot: what comes from there is a plain address for the verifier,
 * whatever it was. The climb's own reads come to the same place later.
 */
static __always_inline void pal_put_place(struct pal_scratch *scratch, __u64 vfsmount, __u64 dentry)
{
	scratch->mount.parent = vfsmount;
	scratch->mount.mountpoint = dentry;
}

/*
 * The same for the path that was put: PAL_NAMING_OF its enum pal_naming and where it starts. A global function can be given no typed
 * pointers, and the verifier walks through it once for each object, and not for every way that leads to it.
 */
pal_global __u64 pal_name_place(struct pal_scratch *scratch, __u32 slot, __u32 checked)
{
	struct pal_climb climb;
	__u64 vfsmount, dentry;

	if (!scratch)
		return PAL_NAMING_OF(PAL_NAME_MOVED, PAL_PATH_SIZE);
	vfsmount = scratch->mount.parent;
	dentry = scratch->mount.mountpoint;
	scratch->seen_before = 0;
	for (__u32 attempt = 0; attempt < PAL_CLIMB_ATTEMPTS; attempt++) {
		__u32 sequence = pal_rename_sequence();

		scratch->sequenced = !pal_rename_lock || attempt;
		pal_climb_addresses(&climb, vfsmount, dentry, scratch, slot, checked);
		if (pal_climb_is_stable(&climb, sequence)) {
			if (climb.end == PAL_NAMED)
				return PAL_NAMING_OF(PAL_NAMED, climb.start);
			pal_count_naming(climb.end);
			return PAL_NAMING_OF(climb.end, PAL_PATH_SIZE);
		}
	}
	pal_count(PAL_COUNTER_PATH_MOVED);
	return PAL_NAMING_OF(PAL_NAME_MOVED, PAL_PATH_SIZE);
}

#endif

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Mounts on BPF LSM hooks: a file is hidden, or shown in another place, without any change of it; lsm.h says what they need and what
 * happens without.
 *
 * The act is a write to the mount point, by its name as the workload saw it at its start: what is mounted over, moved, taken away, or
 * pivoted to. Mounts are made by fsmount(2) and open_tree(2) in no place: they are judged when move_mount(2) puts them into one.
 *
 * Before policies it is asked whether the pins are to be hidden, or taken away (guard.h): in the node's mount namespace and the host's,
 * also by what is above their file system; and from where it would spread to others. What a workload does with what its own namespace
 * shows it of them is its own affair.
 *
 * A mount that was made since has no name in the workload's table, but what it covers has: a root is named by that.
 *
 * Gaps (matrix/families.rs says the same): mount_setattr(2) has no hook; mounts that propagate from elsewhere are nobody's act; a
 * mount over a directory above a named file is judged by that directory's name. What is opened through it then crosses a mount that
 * the workload did not have at its start, and takes the fail mode.
 */
#define PAL_OBJECT_BY_ADDRESS
#include "report_change.h"

char LICENSE[] SEC("license") = "GPL";

#define PAL_MS_REMOUNT 32ul
#define PAL_MS_BIND 4096ul
#define PAL_MS_MOVE 8192ul
#define PAL_MS_PROPAGATION (1ul << 17 | 1ul << 18 | 1ul << 19 | 1ul << 20) /* MS_UNBINDABLE, _PRIVATE, _SLAVE, _SHARED */

/* ---- the pins stay in sight ---- */

static __always_inline bool pal_is_kept_namespace(__u64 namespace)
{
	return pal_guarded_value(PAL_GUARDED_MOUNTS, BPF_CORE_READ((struct mnt_namespace *)namespace, ns.inum));
}

/* Whoever acts there moves the node's own root, or the host's. */
static __always_inline bool pal_acts_in_kept_namespace(void)
{
	return pal_is_kept_namespace((__u64)bpf_get_current_task_btf()->nsproxy->mnt_ns);
}

static __always_inline __u64 pal_mount_around(__u64 vfsmount)
{
	return vfsmount - bpf_core_field_offset(struct mount, mnt);
}

/* Whether what is done on it spreads to who shares it. By its address. */
static __noinline bool pal_is_shared(__u64 mount)
{
	if (bpf_core_field_exists(struct mount, mnt_t_flags))
		return BPF_CORE_READ((struct mount *)mount, mnt_t_flags) & PAL_T_SHARED;
	return BPF_CORE_READ((struct mount *)mount, mnt.mnt_flags) & PAL_MNT_SHARED;
}

/* Whether what is done on the mount is done to the node's namespace or the host's, or spreads to who shares it. By its address. */
static __always_inline bool pal_reaches_kept(__u64 mount)
{
	return pal_is_shared(mount) || pal_is_kept_namespace((__u64)BPF_CORE_READ((struct mount *)mount, mnt_ns));
}

/* Whether the dentry is of the pins, or leads to them: by its address. */
static __noinline int pal_leads_to_pins(__u64 dentry)
{
	if (BPF_CORE_READ((struct dentry *)dentry, d_sb, s_magic) == PAL_BPF_FS_MAGIC)
		return pal_is_guarded_place(dentry);
	return pal_place_value(dentry) == PAL_PLACE_UNDER;
}

/* Whether who acts is kept from putting something over the place. */
static __noinline bool pal_keeps_uncovered(__u64 vfsmount, __u64 dentry, struct pal_subject *subject)
{
	return pal_leads_to_pins(dentry) && pal_reaches_kept(pal_mount_around(vfsmount)) && pal_holds_off(subject);
}

/* Whether who acts is kept from taking the mount away: it goes from where the one that it is on goes to. */
static __noinline bool pal_keeps_mounted(__u64 vfsmount, __u64 root, struct pal_subject *subject)
{
	__u64 mount = pal_mount_around(vfsmount);

	return pal_leads_to_pins(root) &&
	       (pal_is_kept_namespace((__u64)BPF_CORE_READ((struct mount *)mount, mnt_ns)) ||
		pal_reaches_kept((__u64)BPF_CORE_READ((struct mount *)mount, mnt_parent))) &&
	       pal_holds_off(subject);
}

/*
 * mount(2). What it moves it names by a text, which may lead anywhere: in these namespaces no workload moves any. Flags and
 * propagation are of the one mount, and of the pins' file system alone do they matter; the file system's own have a hook (lsm_guard.bpf.c).
 */
static __noinline bool pal_keeps_from_mount(const struct path *path, unsigned long flags, struct pal_subject *subject)
{
	__u64 vfsmount = (__u64)path->mnt, dentry = (__u64)path->dentry;

	/* In the order in which the kernel asks for the flags. */
	if (flags & PAL_MS_REMOUNT || (!(flags & PAL_MS_BIND) && flags & PAL_MS_PROPAGATION))
		return path->dentry->d_sb->s_magic == PAL_BPF_FS_MAGIC && pal_is_guarded_place(dentry) &&
		       pal_acts_in_kept_namespace() && pal_holds_off(subject);
	if (!(flags & PAL_MS_BIND) && flags & PAL_MS_MOVE && pal_acts_in_kept_namespace() && pal_holds_off(subject))
		return true;
	return pal_keeps_uncovered(vfsmount, dentry, subject);
}

/* ---- acts ---- */

#define PAL_COVERS_MAX 4 /* mounts upon each other */

/* What the mount covers, where the dentry is its root. */
static __always_inline bool pal_uncover(struct pal_place *place)
{
	__u64 mount = pal_mount_around(place->vfsmount);
	__u64 parent = (__u64)BPF_CORE_READ((struct mount *)mount, mnt_parent);

	if ((__u64)BPF_CORE_READ((struct mount *)mount, mnt.mnt_root) != place->dentry || parent == mount)
		return false;
	place->dentry = (__u64)BPF_CORE_READ((struct mount *)mount, mnt_mountpoint);
	place->vfsmount = parent + bpf_core_field_offset(struct mount, mnt);
	return true;
}

/* Above the task's own root is nothing that its rules name: what that covers is the namespace's, not the workload's. */
static __always_inline bool pal_is_own_root(const struct pal_place *place)
{
	struct fs_struct *fs = bpf_get_current_task_btf()->fs;

	return fs && (__u64)fs->root.mnt == place->vfsmount && (__u64)fs->root.dentry == place->dentry;
}

static __noinline pal_judgement pal_judge_place(struct pal_subject *subject, __u64 vfsmount, __u64 dentry)
{
	struct pal_place place = { .vfsmount = vfsmount, .dentry = dentry };

	for (__u32 i = 0; i < PAL_COVERS_MAX && !pal_is_own_root(&place) && pal_uncover(&place); i++)
		;
	return pal_judge_name_veiled(subject, place.vfsmount, place.dentry, pal_owner_of(place.dentry));
}

/* A mount before it is made. Addresses; 0: there is none. */
struct pal_mounting {
	__u64 mount;
	__u64 dentry;
	__u64 source_mount;
	__u64 source_dentry;
	__u64 source;     /* text */
	__u64 filesystem; /* text */
	__u64 flags;
	__u32 operation;  /* enum pal_mount_operation */
};

static __always_inline void pal_append_text(struct pal_record_buffer *buffer, struct pal_span *span, __u64 text)
{
	if (text)
		pal_append_kernel_string(buffer, span, (const void *)text, PAL_STRING_MAX);
	else
		pal_span_set(span, 0, 0, 0);
}

static __noinline void pal_emit_mounting(const struct pal_subject *subject, const struct pal_mounting *mounting,
					 pal_judgement judgement)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_MOUNT, sizeof(struct pal_record_mount));
	struct pal_record_mount *body;
	struct pal_verdict verdict;

	if (!buffer)
		return;
	pal_judged_verdict(judgement, PAL_FAMILY_FILE, &verdict);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_MOUNT, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, &verdict);
	body = pal_record_body_of(buffer);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = mounting->operation;
	body->flags = mounting->flags;
	body->result = pal_judged_result(judgement);
	pal_append_place(buffer, &body->target, mounting->mount, mounting->dentry);
	if (mounting->source_dentry)
		pal_append_path(buffer, &body->source, mounting->source_mount, mounting->source_dentry);
	else
		pal_append_text(buffer, &body->source, mounting->source);
	if (buffer->at <= PAL_RECORD_MAX - PAL_STRING_MAX - PAL_RECORD_ALIGN)
		pal_append_text(buffer, &body->filesystem, mounting->filesystem);
	pal_record_send(buffer);
}

static __noinline int pal_tell_mount(unsigned long long *ctx, struct pal_subject *subject, pal_judgement judgement)
{
	const struct path *path = (const struct path *)ctx[1];
	struct pal_mounting mounting = {
		.operation = PAL_MOUNT_MOUNT,
		.source = ctx[0],
		.mount = (__u64)path->mnt,
		.dentry = (__u64)path->dentry,
		.filesystem = ctx[2],
		.flags = ctx[3],
	};

	pal_emit_mounting(subject, &mounting, judgement);
	return 0;
}

/* mount(2): new mounts, binds, moves, remounts, changes of propagation. A move's source is judged by its name, which is not known here. */
SEC("lsm/sb_mount")
int BPF_PROG(judge_mount, const char *source, const struct path *path, const char *filesystem, unsigned long flags, void *options,
	     int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_from_mount(path, flags, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_place(&subject, (__u64)path->mnt, (__u64)path->dentry);
	}
	if (!pal_permits(judgement))
		pal_tell_mount(ctx, &subject, judgement);
	return pal_answer(judgement);
}

static __noinline int pal_tell_two(unsigned long long *ctx, struct pal_subject *subject, __u32 operation, pal_judgement judgement)
{
	const struct path *first = (const struct path *)ctx[0], *second = (const struct path *)ctx[1];
	struct pal_mounting mounting = { .operation = operation };

	/* move_mount(from, to), pivot_root(where the old root goes, the new root) */
	if (operation == PAL_MOUNT_MOVE_MOUNT) {
		mounting.source_mount = (__u64)first->mnt;
		mounting.source_dentry = (__u64)first->dentry;
		mounting.mount = (__u64)second->mnt;
		mounting.dentry = (__u64)second->dentry;
	} else {
		mounting.source_mount = (__u64)second->mnt;
		mounting.source_dentry = (__u64)second->dentry;
		mounting.mount = (__u64)first->mnt;
		mounting.dentry = (__u64)first->dentry;
	}
	pal_emit_mounting(subject, &mounting, judgement);
	return 0;
}

/* Whether the mount is in some place, and not one that open_tree(2) or fsmount(2) has just made. */
static __always_inline bool pal_is_attached(__u64 vfsmount)
{
	__u64 mount = pal_mount_around(vfsmount);

	return (__u64)BPF_CORE_READ((struct mount *)mount, mnt_parent) != mount;
}

/*
 * What was moved from is judged where it has a name: a mount that fsmount(2) or open_tree(2) has just made has none, and says nothing
 * about the place that it comes to.
 */
SEC("lsm/move_mount")
int BPF_PROG(judge_move_mount, const struct path *from, const struct path *to, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement, other;

	if (earlier)
		return earlier;
	if (pal_keeps_uncovered((__u64)to->mnt, (__u64)to->dentry, &subject) ||
	    (pal_is_attached((__u64)from->mnt) && pal_keeps_mounted((__u64)from->mnt, (__u64)from->dentry, &subject))) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_place(&subject, (__u64)to->mnt, (__u64)to->dentry);
		if (!pal_blocks(judgement)) {
			other = pal_judge_place(&subject, (__u64)from->mnt, (__u64)from->dentry);
			if (pal_judgement_fail_reason(other) == PAL_FAIL_NONE)
				judgement = pal_stricter(judgement, other);
		}
	}
	if (!pal_permits(judgement))
		pal_tell_two(ctx, &subject, PAL_MOUNT_MOVE_MOUNT, judgement);
	return pal_answer(judgement);
}

SEC("lsm/sb_pivotroot")
int BPF_PROG(judge_pivot_root, const struct path *old_goes, const struct path *fresh, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_acts_in_kept_namespace() && pal_holds_off(&subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_place(&subject, (__u64)old_goes->mnt, (__u64)old_goes->dentry);
		if (!pal_blocks(judgement))
			judgement = pal_stricter(judgement,
						 pal_judge_place(&subject, (__u64)fresh->mnt, (__u64)fresh->dentry));
	}
	if (!pal_permits(judgement))
		pal_tell_two(ctx, &subject, PAL_MOUNT_PIVOT_ROOT, judgement);
	return pal_answer(judgement);
}

static __noinline int pal_tell_umount(unsigned long long *ctx, struct pal_subject *subject, pal_judgement judgement)
{
	struct vfsmount *mount = (struct vfsmount *)ctx[0];
	struct pal_mounting mounting = {
		.operation = PAL_MOUNT_UMOUNT,
		.mount = (__u64)mount,
		.dentry = (__u64)mount->mnt_root,
		.flags = (__u32)ctx[1],
	};

	pal_emit_mounting(subject, &mounting, judgement);
	return 0;
}

SEC("lsm/sb_umount")
int BPF_PROG(judge_umount, struct vfsmount *mount, int flags, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_mounted((__u64)mount, (__u64)mount->mnt_root, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_place(&subject, (__u64)mount, (__u64)mount->mnt_root);
	}
	if (!pal_permits(judgement))
		pal_tell_umount(ctx, &subject, judgement);
	return pal_answer(judgement);
}

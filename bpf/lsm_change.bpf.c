// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Changes of names, and of what inodes say of themselves, on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * The hooks on paths are asked by system calls, io_uring and file servers, and not by a stacked file system for its layers: one
 * act is one record. They need CONFIG_SECURITY_PATH, and path_rename Linux 5.19.
 *
 * Before policies it is asked whether the name is one of the pins (guard.h): here, and not by programs of its own, because to call
 * another one costs more than to ask.
 *
 * Extended attributes have no hook with a mount: a file is named by the mount of the task's root or working directory that is of
 * the same file system. A file of another one cannot be named, and a layer's below a stacked file system is to be left alone: neither
 * is judged.
 *
 * A directory that is moved takes what is denied below it along, under names that no rule has: it is asked for as well (pal_judge_move).
 *
 * Gap (matrix/families.rs says the same): extended attributes as above.
 */
#define PAL_JUDGES_MOVES
#include "report_change.h"
#include "registers.h"

char LICENSE[] SEC("license") = "GPL";

/* ---- names ---- */

static __noinline int pal_tell_name(struct pal_subject *subject, __u32 operation, const struct path *directory, struct dentry *dentry,
				    pal_judgement judgement)
{
	struct pal_change change;

	pal_change_begin(&change, operation);
	change.mount = (__u64)directory->mnt;
	change.dentry = (__u64)dentry;
	pal_emit_change(subject, &change, judgement);
	return 0;
}

static __always_inline int pal_judge_removal(const struct path *directory, struct dentry *dentry, __u32 operation)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (pal_keeps_place(directory->dentry->d_sb, dentry, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_name(&subject, directory->mnt, dentry, pal_owner_of(dentry));
	}
	if (!pal_permits(judgement))
		pal_tell_name(&subject, operation, directory, dentry, judgement);
	return pal_answer(judgement);
}

SEC("lsm/path_unlink")
int BPF_PROG(judge_unlink, const struct path *directory, struct dentry *dentry, int earlier)
{
	return earlier ? earlier : pal_judge_removal(directory, dentry, PAL_FILE_UNLINK);
}

SEC("lsm/path_rmdir")
int BPF_PROG(judge_rmdir, const struct path *directory, struct dentry *dentry, int earlier)
{
	return earlier ? earlier : pal_judge_removal(directory, dentry, PAL_FILE_RMDIR);
}

/* Functions that tell take the program's context where its arguments are more than a call has room for. */
static __noinline int pal_tell_mkdir(unsigned long long *ctx, struct pal_subject *subject, pal_judgement judgement)
{
	const struct path *directory = (const struct path *)ctx[0];
	struct pal_change change;

	pal_change_begin(&change, PAL_FILE_MKDIR);
	change.mount = (__u64)directory->mnt;
	change.dentry = ctx[1];
	change.mode = ctx[2];
	pal_emit_change(subject, &change, judgement);
	return 0;
}

/* A cgroup below the node's own: who may fill it spends what the node has. */
static __always_inline bool pal_keeps_cgroup(struct dentry *directory, struct pal_subject *subject)
{
	return directory->d_sb->s_magic == PAL_CGROUP2_MAGIC && pal_is_below_home((__u64)directory) && pal_holds_off(subject);
}

SEC("lsm/path_mkdir")
int BPF_PROG(judge_mkdir, const struct path *directory, struct dentry *dentry, __u16 mode, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_place(directory->dentry->d_sb, dentry, &subject) || pal_keeps_cgroup(directory->dentry, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_name(&subject, directory->mnt, dentry, PAL_MODIFIER_OWNER);
	}
	if (!pal_permits(judgement))
		pal_tell_mkdir(ctx, &subject, judgement);
	return pal_answer(judgement);
}

/* What a link leads to is only text: whoever follows it opens another file, by that one's own name. */
static __noinline int pal_tell_symlink(unsigned long long *ctx, struct pal_subject *subject, pal_judgement judgement)
{
	const struct path *directory = (const struct path *)ctx[0];
	struct pal_change change;

	pal_change_begin(&change, PAL_FILE_SYMLINK);
	change.new_mount = (__u64)directory->mnt;
	change.new_dentry = ctx[1];
	change.text = ctx[2];
	pal_emit_change(subject, &change, judgement);
	return 0;
}

SEC("lsm/path_symlink")
int BPF_PROG(judge_symlink, const struct path *directory, struct dentry *dentry, const char *text, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_place(directory->dentry->d_sb, dentry, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_name(&subject, directory->mnt, dentry, PAL_MODIFIER_OWNER);
	}
	if (!pal_permits(judgement))
		pal_tell_symlink(ctx, &subject, judgement);
	return pal_answer(judgement);
}

/* Both names are of one mount: the kernel has looked. */
static __noinline int pal_tell_link(unsigned long long *ctx, struct pal_subject *subject, pal_judgement judgement)
{
	const struct path *directory = (const struct path *)ctx[1];
	struct pal_change change;

	pal_change_begin(&change, PAL_FILE_LINK);
	change.mount = (__u64)directory->mnt;
	change.dentry = ctx[0];
	change.new_mount = (__u64)directory->mnt;
	change.new_dentry = ctx[2];
	pal_emit_change(subject, &change, judgement);
	return 0;
}

SEC("lsm/path_link")
int BPF_PROG(judge_link, struct dentry *from, const struct path *directory, struct dentry *to, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;
	__u32 owner;

	if (earlier)
		return earlier;
	if (pal_keeps_place(directory->dentry->d_sb, to, &subject) ||
	    pal_keeps_place(directory->dentry->d_sb, from, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		owner = pal_veiled(pal_owner_of(from));
		judgement = pal_judge_name_veiled(&subject, directory->mnt, from, owner);
		if (!pal_blocks(judgement))
			judgement = pal_stricter(judgement, pal_judge_name_veiled(&subject, directory->mnt, to, owner));
	}
	if (!pal_permits(judgement))
		pal_tell_link(ctx, &subject, judgement);
	return pal_answer(judgement);
}

static __always_inline __u32 pal_mode_of(struct dentry *dentry)
{
	__u64 inode = (__u64)BPF_CORE_READ(dentry, d_inode);

	return inode ? BPF_CORE_READ((struct inode *)inode, i_mode) : 0;
}

static __noinline int pal_tell_rename(unsigned long long *ctx, struct pal_subject *subject, pal_judgement judgement)
{
	const struct path *from = (const struct path *)ctx[0], *to = (const struct path *)ctx[2];
	struct pal_change change;

	pal_change_begin(&change, PAL_FILE_RENAME);
	change.mount = (__u64)from->mnt;
	change.dentry = ctx[1];
	change.new_mount = (__u64)to->mnt;
	change.new_dentry = ctx[3];
	change.flags = ctx[4];
	change.mode = pal_mode_of((struct dentry *)ctx[1]);
	pal_emit_change(subject, &change, judgement);
	return 0;
}

/* Where what is below the directory would be; its state and accept id in `below`. By addresses: see pal_name_place. */
static __always_inline bool pal_find_below(struct pal_act *act, struct vfsmount *mount, struct dentry *directory, __u64 *below)
{
	__u64 naming;

	pal_put_place(act->scratch, (__u64)mount, (__u64)directory);
	naming = pal_name_place(act->scratch, act->subject->slot, act->subject->flags & PAL_SLOT_MOUNTS_LEARNT);
	act->naming = pal_veiled(PAL_NAMING_END(naming));
	if (act->naming != PAL_NAMED)
		return false;
	*below = pal_match_below(act, PAL_NAMING_START(naming));
	return true;
}

/*
 * A move of the directory, for what is below it (messages/kernel-abi/src/blob/moves.rs): in circumstances that no rule leaves out. The two
 * names are of one mount.
 */
static __noinline pal_judgement pal_judge_move(struct pal_subject *subject, struct vfsmount *mount, struct dentry *from, struct dentry *to)
{
	__u64 here = 0, there = 0;
	pal_judgement judgement;
	struct pal_act act;

	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	act.modifiers = PAL_MODIFIER_WRITE | PAL_MODIFIER_TTY;
	if (act.scratch) {
		if (!pal_find_source(&act))
			act.naming = pal_veiled(PAL_NO_BLOB);
		else if (pal_find_below(&act, mount, from, &here) && pal_find_below(&act, mount, to, &there) &&
			 PAL_BELOW_STATE(here) != PAL_BELOW_STATE(there))
			pal_match_accept(&act, PAL_BELOW_ACCEPT(here));
	}
	pal_settle(&act);
	judgement = act.word | (__u64)pal_fail_reason(&act) << 32;
	pal_act_end(&act);
	return pal_veiled_judgement(judgement);
}

static __always_inline bool pal_is_directory(struct dentry *dentry)
{
	return (pal_mode_of(dentry) & PAL_S_IFMT) == PAL_S_IFDIR;
}

/* Directories that go from one name to the other: both of an exchange. */
static __always_inline pal_judgement pal_judge_moves(struct pal_subject *subject, struct vfsmount *mount, struct dentry *from,
						     struct dentry *to, __u32 flags)
{
	pal_judgement judgement = PAL_EFFECT_PERMIT;

	if (pal_is_directory(from))
		judgement = pal_judge_move(subject, mount, from, to);
	if (flags & PAL_RENAME_EXCHANGE && !pal_blocks(judgement) && pal_is_directory(to))
		judgement = pal_stricter(judgement, pal_judge_move(subject, mount, to, from));
	return judgement;
}

static __always_inline __u32 pal_owner_of_target(struct dentry *to, struct dentry *from)
{
	return BPF_CORE_READ(to, d_inode) ? pal_owner_of(to) : pal_owner_of(from);
}

/* Whoever is there already at the new name is replaced, or goes to the old one: it is that file's owner who counts there. */
SEC("lsm/path_rename")
int BPF_PROG(judge_rename, const struct path *from_directory, struct dentry *from, const struct path *to_directory, struct dentry *to,
	     unsigned int flags, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_place(from_directory->dentry->d_sb, from, &subject) ||
	    pal_keeps_place(to_directory->dentry->d_sb, to, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_name_veiled(&subject, from_directory->mnt, from, pal_owner_of(from));
		if (!pal_blocks(judgement))
			judgement = pal_stricter(judgement,
						 pal_judge_name_veiled(&subject, to_directory->mnt, to, pal_owner_of_target(to, from)));
		if (!pal_blocks(judgement))
			judgement = pal_stricter(judgement, pal_judge_moves(&subject, from_directory->mnt, from, to, flags));
	}
	if (!pal_permits(judgement))
		pal_tell_rename(ctx, &subject, judgement);
	return pal_answer(judgement);
}

/* ---- inodes ---- */

static __noinline int pal_tell_inode(unsigned long long *ctx, struct pal_subject *subject, __u32 operation, pal_judgement judgement)
{
	const struct path *path = (const struct path *)ctx[0];
	struct pal_change change;

	pal_change_begin(&change, operation);
	change.mount = (__u64)path->mnt;
	change.dentry = (__u64)path->dentry;
	if (operation == PAL_FILE_CHMOD)
		change.mode = (__u16)ctx[1];
	if (operation == PAL_FILE_CHOWN) {
		change.uid = ctx[1];
		change.gid = ctx[2];
	}
	pal_emit_change(subject, &change, judgement);
	return 0;
}

SEC("lsm/path_chmod")
int BPF_PROG(judge_chmod, const struct path *path, __u16 mode, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_place(path->dentry->d_sb, path->dentry, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_name(&subject, path->mnt, path->dentry, pal_owner_of(path->dentry));
	}
	if (!pal_permits(judgement))
		pal_tell_inode(ctx, &subject, PAL_FILE_CHMOD, judgement);
	return pal_answer(judgement);
}

/* The owners are structures of one word each, in a register as numbers are. */
SEC("lsm/path_chown")
int BPF_PROG(judge_chown, const struct path *path, __u64 uid, __u64 gid, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier)
		return earlier;
	if (pal_keeps_place(path->dentry->d_sb, path->dentry, &subject)) {
		judgement = PAL_JUDGED_OWN;
	} else {
		if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
			return 0;
		judgement = pal_judge_name(&subject, path->mnt, path->dentry, pal_owner_of(path->dentry));
	}
	if (!pal_permits(judgement))
		pal_tell_inode(ctx, &subject, PAL_FILE_CHOWN, judgement);
	return pal_answer(judgement);
}

/*
 * An open with O_TRUNC comes by here too, and was judged, by the same name and as a write, and told at the open itself. What is
 * denied is always told: it was not denied there.
 */
static __always_inline bool pal_truncates_by_itself(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	bool compat = pal_in_compat();
	__u64 number = pal_call_number(regs, compat);

	if (compat)
		return number == 92 || number == 93 || number == 193 || number == 194;
#if defined(__TARGET_ARCH_x86)
	return number == 76 || number == 77;
#else
	return number == 45 || number == 46;
#endif
}

/* Until 6.1 of ftruncate(2) and opens, too; from 6.2 on those ask file_truncate. */
SEC("lsm/path_truncate")
int BPF_PROG(judge_truncate, const struct path *path, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	judgement = pal_judge_name(&subject, path->mnt, path->dentry, pal_owner_of(path->dentry));
	if (pal_blocks(judgement) || (!pal_permits(judgement) && pal_truncates_by_itself()))
		pal_tell_inode(ctx, &subject, PAL_FILE_TRUNCATE, judgement);
	return pal_answer(judgement);
}

SEC("lsm/file_truncate")
int BPF_PROG(judge_file_truncate, struct file *file, int earlier)
{
	struct pal_subject subject;
	pal_judgement judgement;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || pal_is_inner_open(file) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	judgement = pal_judge_name(&subject, file->f_path.mnt, file->f_path.dentry, pal_owner_modifier(file->f_inode));
	if (pal_blocks(judgement) || (!pal_permits(judgement) && pal_truncates_by_itself()))
		pal_tell_file(&subject, file, PAL_FILE_TRUNCATE, judgement);
	return pal_answer(judgement);
}

/* ---- extended attributes ---- */

/* A mount that the dentry may be named by; NULL: none is known. */
static __always_inline struct vfsmount *pal_mount_of(struct dentry *dentry)
{
	struct fs_struct *fs = bpf_get_current_task_btf()->fs;
	struct vfsmount *mount;

	if (!fs)
		return NULL;
	mount = fs->root.mnt;
	if (mount->mnt_sb == dentry->d_sb)
		return mount;
	mount = fs->pwd.mnt;
	return mount->mnt_sb == dentry->d_sb ? mount : NULL;
}

static __noinline int pal_tell_attribute(struct pal_subject *subject, struct dentry *dentry, __u32 operation, pal_judgement judgement)
{
	struct pal_change change;

	pal_change_begin(&change, operation);
	change.mount = (__u64)pal_mount_of(dentry);
	change.dentry = (__u64)dentry;
	pal_emit_change(subject, &change, judgement);
	return 0;
}

static __always_inline int pal_judge_attribute(struct pal_subject *subject, struct dentry *dentry, __u32 operation)
{
	struct vfsmount *mount = pal_mount_of(dentry);
	pal_judgement judgement;

	if (!mount)
		return 0;
	judgement = pal_judge_name(subject, mount, dentry, pal_owner_of(dentry));
	/* It is not below this mount: it has been named by none. */
	if (pal_permits(judgement) || pal_judgement_fail_reason(judgement) == PAL_FAIL_UNKNOWN_MOUNT)
		return 0;
	pal_tell_attribute(subject, dentry, operation, judgement);
	return pal_answer(judgement);
}

/* The first argument is a user namespace, from 6.3 on an idmapping. */
SEC("lsm/inode_setxattr")
int BPF_PROG(judge_set_attribute, void *idmap, struct dentry *dentry, const char *name, const void *value, __u64 size, int flags,
	     int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	return pal_judge_attribute(&subject, dentry, PAL_FILE_SETXATTR);
}

SEC("lsm/inode_removexattr")
int BPF_PROG(judge_remove_attribute, void *idmap, struct dentry *dentry, const char *name, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	return pal_judge_attribute(&subject, dentry, PAL_FILE_REMOVEXATTR);
}

/* Access lists are extended attributes with a hook of their own from 6.2 on. */
SEC("lsm/inode_set_acl")
int BPF_PROG(judge_set_acl, void *idmap, struct dentry *dentry, const char *name, void *acl, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	return pal_judge_attribute(&subject, dentry, PAL_FILE_SETXATTR);
}

SEC("lsm/inode_remove_acl")
int BPF_PROG(judge_remove_acl, void *idmap, struct dentry *dentry, const char *name, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	return pal_judge_attribute(&subject, dentry, PAL_FILE_REMOVEXATTR);
}

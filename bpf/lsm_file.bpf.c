// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Opens, and the making of files, on BPF LSM hooks; lsm.h says what they need and what happens without.
 *
 * A descriptor that is passed in (SCM_RIGHTS, pidfd_getfd(2)) is an open of its file by the modes that it has.
 *
 * Gaps (matrix/families.rs says the same): a file is judged by the name that it is opened by, so that one which was hard-linked before
 * the policy has another; reads through descriptors that were open already. An owner is the inode's raw user, on idmapped mounts too.
 *
 * Not among them: flags that a caller invents. open(2), openat2(2), open_by_handle_at(2) and io_uring mask or refuse all bits
 * but O_*, so that __FMODE_EXEC in f_flags is the kernel's (XFS_IOC_OPEN_BY_HANDLE does not, and needs CAP_SYS_ADMIN on the
 * host), and FMODE_NOACCOUNT in f_mode cannot be asked for at all.
 */
#include "report_change.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline __u32 pal_write_modifier(struct file *file)
{
	bool writes = file->f_mode & PAL_FMODE_WRITE || file->f_flags & (PAL_O_CREAT | PAL_O_TRUNC);

	return writes ? PAL_MODIFIER_WRITE : 0;
}

static __always_inline void pal_report_open(const struct pal_act *act, __u32 open_flags)
{
	struct pal_verdict verdict;
	struct pal_text path;

	pal_lsm_verdict(act, &verdict);
	pal_judged_path(act, &path);
	pal_emit_open(act->subject, &path, open_flags, pal_is_denied(act) ? -PAL_EACCES : 0, &verdict);
}

static __noinline int pal_judge_open(struct file *file, struct pal_subject *subject)
{
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	pal_act_on(&act, file);
	act.modifiers = pal_owner_modifier(file->f_inode) | pal_write_modifier(file) | pal_terminal_modifier();
	pal_judge_file(&act);
	if (pal_effect(&act) != PAL_EFFECT_PERMIT)
		pal_report_open(&act, file->f_flags);
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

static __noinline int pal_protect_open(struct file *file)
{
	struct pal_presets presets;
	struct pal_verdict verdict;
	struct pal_subject subject;
	int result;

	if (!pal_is_judged(&subject, PAL_FAMILY_PRESET))
		return 0;
	presets = pal_presets_of_open((__u64)file);
	if (!presets.one)
		return 0;
	result = pal_protect(&subject, presets, &verdict);
	if (pal_is_told(&verdict))
		pal_emit_open_of(&subject, (__u64)file, file->f_flags, result, &verdict);
	return result;
}

/*
 * Files of the node's cgroups, which move, freeze and kill who is in them, are written by no workload that sees them (guard.h). By the
 * directory: below it each file is of that cgroup. Who opens one to write is looked at anyway, so that whoever is about to move himself
 * is known by where he was.
 */
static __noinline int pal_guard_cgroup(struct file *file)
{
	__u64 directory = (__u64)BPF_CORE_READ(file, f_path.dentry, d_parent);
	struct pal_verdict verdict;
	struct pal_subject subject;

	if (!(file->f_mode & PAL_FMODE_WRITE) || !pal_holds_off(&subject) ||
	    (!pal_guarded_value(PAL_GUARDED_CGROUP, pal_id_of_cgroup(directory)) && !pal_is_below_home(directory)))
		return 0;
	pal_guard_verdict(&verdict, PAL_FAMILY_FILE);
	pal_emit_open_of(&subject, (__u64)file, file->f_flags, -PAL_EPERM, &verdict);
	return pal_guard_answer();
}

/*
 * The pins' directories are opened by no workload: whoever has one open may lock it, which is how a node says that it runs. Pins themselves
 * are no files that open.
 */
static __noinline int pal_guard_pins(struct file *file)
{
	__u64 dentry = (__u64)BPF_CORE_READ(file, f_path.dentry);
	struct pal_verdict verdict;
	struct pal_subject subject;

	if (pal_place_value(dentry) != PAL_PLACE_PINS || !pal_holds_off(&subject))
		return 0;
	pal_guard_verdict(&verdict, PAL_FAMILY_FILE);
	pal_emit_open_of(&subject, (__u64)file, file->f_flags, -PAL_EPERM, &verdict);
	return pal_guard_answer();
}

/*
 * Protections are judged here and not by a program of their own: being called a second time is half of what an open costs that
 * nobody decides.
 */
SEC("lsm/file_open")
int BPF_PROG(judge_open, struct file *file, int earlier)
{
	struct pal_subject subject;
	unsigned long magic;
	__u32 idle;
	int result;

	if (earlier)
		return earlier;
	idle = pal_idle_families();
	magic = file->f_inode->i_sb->s_magic;
	if (magic == PAL_CGROUP2_MAGIC) {
		result = pal_guard_cgroup(file);
		if (result)
			return result;
	}
	if (magic == PAL_BPF_FS_MAGIC) {
		result = pal_guard_pins(file);
		if (result)
			return result;
	}
	if (!(idle >> PAL_FAMILY_PRESET & 1) && magic == PAL_PROC_MAGIC) {
		result = pal_protect_open(file);
		if (result)
			return result;
	}
	/* The inner open before the identity: on overlayfs it is half of all calls. */
	if (idle >> PAL_FAMILY_FILE & 1 || pal_is_inner_open(file) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return 0;
	return pal_judge_open(file, &subject);
}

/*
 * A file is made before it is opened: denied at the open alone, an empty one would stay behind. The maker will own it. What
 * is only audited is reported by the open that follows; `alone`: none does.
 */
static __noinline int pal_judge_create(const struct path *directory, struct dentry *dentry, struct pal_subject *subject,
				       bool alone)
{
	struct pal_act act;
	int result;

	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	act.object.mount = directory->mnt;
	act.object.dentry = dentry;
	act.modifiers = PAL_MODIFIER_OWNER | PAL_MODIFIER_WRITE | pal_terminal_modifier();
	pal_judge_file(&act);
	if (alone ? pal_effect(&act) != PAL_EFFECT_PERMIT : pal_is_denied(&act))
		pal_report_open(&act, PAL_O_CREAT);
	result = pal_errno(&act, PAL_EACCES);
	pal_act_end(&act);
	return result;
}

/*
 * open(2) asks with S_IFREG, whatever its caller says, and nothing else opens what it makes: FIFOs, devices and sockets come
 * from mknod(2) and bind(2), and so does a mode without a type, by which mknod(2) makes a regular file. By S_IFREG it makes
 * one too, which cannot be told from an open here: that one is audited when it is opened.
 */
static __always_inline bool pal_is_made_alone(__u16 mode)
{
	return (mode & PAL_S_IFMT) != PAL_S_IFREG;
}

/* What BPF_OBJ_PIN makes. */
static __noinline int pal_refuse_pin(const struct path *directory, struct dentry *dentry, struct pal_subject *subject)
{
	struct pal_change change;

	pal_change_begin(&change, PAL_FILE_MKNOD);
	change.mount = (__u64)directory->mnt;
	change.dentry = (__u64)dentry;
	pal_emit_change(subject, &change, PAL_JUDGED_OWN);
	return pal_answer(PAL_JUDGED_OWN);
}

SEC("lsm/path_mknod")
int BPF_PROG(judge_create, const struct path *directory, struct dentry *dentry, __u16 mode, unsigned int device, int earlier)
{
	struct pal_subject subject;

	if (earlier)
		return earlier;
	if (pal_keeps_place(directory->dentry->d_sb, dentry, &subject))
		return pal_refuse_pin(directory, dentry, &subject);
	if (pal_is_idle(PAL_FAMILY_FILE) || !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return 0;
	return pal_judge_create(directory, dentry, &subject, pal_is_made_alone(mode));
}

/* A socket or pipe is no file that has a name. */
SEC("lsm/file_receive")
int BPF_PROG(judge_receive, struct file *file, int earlier)
{
	struct pal_subject subject;

	if (earlier || pal_is_idle(PAL_FAMILY_FILE) || file->f_inode->i_sb->s_flags & PAL_SB_KERNMOUNT ||
	    !pal_is_judged(&subject, PAL_FAMILY_FILE))
		return earlier;
	return pal_judge_open(file, &subject);
}

// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Writes that no open was judged for, on BPF LSM hooks: through a descriptor that was inherited, passed in, or open before the
 * policy, and through shared mappings; lsm.h says what they need and what happens without.
 *
 * Attached while some policy in force denies writing of what it permits to be read (runtime/kernel/src/writes.rs), and then asked for
 * the workloads of such policies alone: of all others a write costs nothing, or the look whose it is.
 *
 * Only what a rule or posture blocks is denied here. What is only audited was told when it was opened, and would be told again with
 * every write. A file that cannot be named was opened where the workload could not have: somebody else gave it, and its own open was judged.
 */
#define PAL_OBJECT_BY_ADDRESS
#include "report_change.h"

char LICENSE[] SEC("license") = "GPL";

#define PAL_MAY_WRITE 2

/* Pipes, sockets and devices are no files that rules protect from writing once they are open. */
static __always_inline bool pal_holds_bytes(struct file *file)
{
	return (file->f_inode->i_mode & PAL_S_IFMT) == PAL_S_IFREG;
}

static __always_inline bool pal_writes_are_judged(struct pal_subject *subject)
{
	return !pal_is_idle(PAL_FAMILY_WRITES) && pal_is_judged(subject, PAL_FAMILY_WRITES);
}

static __noinline int pal_tell_write(struct pal_subject *subject, const struct pal_place *place, __u32 operation,
				     pal_judgement judgement)
{
	struct pal_change change;

	pal_change_begin(&change, operation);
	change.mount = place->vfsmount;
	change.dentry = place->dentry;
	pal_emit_change(subject, &change, judgement);
	return 0;
}

/* Inlined, and told apart: both need the stack. */
static __always_inline int pal_judge_write(struct pal_subject *subject, struct file *file, __u32 operation)
{
	pal_judgement judgement;
	struct pal_place place;

	pal_place_of_mapped(file, &place);
	judgement = pal_judge_name(subject, place.vfsmount, place.dentry, pal_owner_modifier(file->f_inode));
	if (!pal_blocks(judgement) || pal_judgement_fail_reason(judgement) != PAL_FAIL_NONE)
		return 0;
	pal_tell_write(subject, &place, operation, judgement);
	return pal_answer(judgement);
}

/* Asked at every read and write. */
SEC("lsm/file_permission")
int BPF_PROG(judge_write, struct file *file, int mask, int earlier)
{
	struct pal_subject subject;

	/* A layer's own write was judged above. */
	if (earlier || !(mask & PAL_MAY_WRITE) || file->f_mode & PAL_FMODE_NOACCOUNT || !pal_holds_bytes(file) ||
	    !pal_writes_are_judged(&subject))
		return earlier;
	return pal_judge_write(&subject, file, PAL_FILE_WRITE);
}

static __always_inline int pal_judge_map_write(unsigned long long *ctx, struct file *file, unsigned long protection, unsigned long flags)
{
	struct pal_subject subject;

	if (!(protection & PAL_PROT_WRITE) || flags & PAL_MAP_ANONYMOUS || (flags & PAL_MAP_TYPE) == PAL_MAP_PRIVATE)
		return 0;
	if (!file || !pal_has_first_argument(ctx) || file->f_mode & PAL_FMODE_NOACCOUNT || !pal_holds_bytes(file) || !pal_writes_are_judged(&subject))
		return 0;
	return pal_judge_write(&subject, file, PAL_FILE_MAP_WRITE);
}

SEC("lsm/mmap_file")
int BPF_PROG(judge_map_write, struct file *file, unsigned long asked, unsigned long protection, unsigned long flags, int earlier)
{
	return earlier ? earlier : pal_judge_map_write(ctx, file, protection, flags);
}

/* Before security_mmap_file(): see pal_mapped_protection, which changes nothing about writing. */
SEC("fentry/security_mmap_file")
int BPF_PROG(judge_map_write_asked, struct file *file, unsigned long asked, unsigned long flags, int earlier)
{
	return earlier ? earlier : pal_judge_map_write(ctx, file, asked, flags);
}

/* A shared mapping that was only to be read, and is to be written from now on. */
SEC("lsm/file_mprotect")
int BPF_PROG(judge_protect_write, struct vm_area_struct *area, unsigned long asked, unsigned long protection, int earlier)
{
	struct file *file = area->vm_file;
	struct pal_subject subject;

	if (earlier || !file || !(protection & PAL_PROT_WRITE) || !(area->vm_flags & PAL_VM_SHARED))
		return earlier;
	if (!pal_holds_bytes(file) || !pal_writes_are_judged(&subject))
		return 0;
	return pal_judge_write(&subject, file, PAL_FILE_MAP_WRITE);
}

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Judging acts that change files by their names, and saying what was decided: for hooks that come before the act.
 *
 * Each is an act of the file family that writes. Where it has two names both are judged, and the stricter word is the act's: one
 * record. What was judged is a word by value and not a struct pal_act of the program, for 6.1 gives a whole chain of calls 512 bytes,
 * and the climb needs most of them.
 */
#ifndef PALISADE_REPORT_CHANGE_H
#define PALISADE_REPORT_CHANGE_H

#include "guard.h"
#include "lsm.h"

/* A decision word, and above it why the fail mode decided. */
typedef __u64 pal_judgement;

static __always_inline bool pal_blocks(pal_judgement judgement)
{
	return ((__u32)judgement & PAL_DECISION_EFFECT_MASK) == PAL_EFFECT_BLOCK;
}

static __always_inline bool pal_permits(pal_judgement judgement)
{
	return ((__u32)judgement & PAL_DECISION_EFFECT_MASK) == PAL_EFFECT_PERMIT;
}

static __always_inline __u8 pal_judgement_fail_reason(pal_judgement judgement)
{
	return judgement >> 32;
}

static __always_inline pal_judgement pal_stricter(pal_judgement one, pal_judgement other)
{
	return ((__u32)other & PAL_DECISION_EFFECT_MASK) > ((__u32)one & PAL_DECISION_EFFECT_MASK) ? other : one;
}

/*
 * What is made will be its maker's. Read by addresses: the verifier of 6.12 takes every dentry for one that has an inode, drops the
 * question, and would load from 0.
 */
static __always_inline __u32 pal_owner_of(pal_dentry_reference dentry)
{
	__u64 inode = (__u64)BPF_CORE_READ((struct dentry *)dentry, d_inode);

	if (!inode)
		return PAL_MODIFIER_OWNER;
	return BPF_CORE_READ((struct inode *)inode, i_uid.val) == bpf_get_current_task_btf()->cred->fsuid.val ? PAL_MODIFIER_OWNER : 0;
}

/* `modifiers` beside that it writes, and the terminal. */
static __noinline pal_judgement pal_judge_name(struct pal_subject *subject, pal_mount_reference mount, pal_dentry_reference dentry,
					       __u32 modifiers)
{
	pal_judgement judgement;
	struct pal_act act;

	pal_act_begin(&act, subject, PAL_FAMILY_FILE);
	act.object.PAL_OBJECT_MOUNT = mount;
	act.object.dentry = dentry;
	act.modifiers = modifiers | PAL_MODIFIER_WRITE | pal_terminal_modifier();
	pal_judge_file(&act);
	judgement = act.word | (__u64)pal_fail_reason(&act) << 32;
	pal_act_end(&act);
	return judgement;
}

/*
 * The same, where another judgement follows: nothing is known of the answer, for else the verifier would walk through what follows once for
 * each way in which this one can end.
 */
static __always_inline pal_judgement pal_judge_name_veiled(struct pal_subject *subject, pal_mount_reference mount,
								 pal_dentry_reference dentry, __u32 modifiers)
{
	__u64 zero = pal_unknown_zero;

	return pal_judge_name(subject, mount, dentry, modifiers) + (zero | zero << 32);
}

static __always_inline void pal_judged_verdict(pal_judgement judgement, __u8 family, struct pal_verdict *verdict)
{
	verdict->word = judgement;
	verdict->tier = pal_hook_tier;
	verdict->outcome = pal_blocks(judgement) ? PAL_OUTCOME_DENIED : PAL_OUTCOME_OBSERVED;
	verdict->fail_reason = pal_judgement_fail_reason(judgement);
	verdict->family = family;
}

/* What policies deny is EACCES; what is Palisade's own is nobody's to do. */
static __always_inline __s32 pal_judged_result(pal_judgement judgement)
{
	if (!pal_blocks(judgement))
		return 0;
	return pal_judgement_fail_reason(judgement) == PAL_FAIL_SELF_PROTECTION ? -PAL_EPERM : -PAL_EACCES;
}

/* What the hook answers. */
static __always_inline int pal_answer(pal_judgement judgement)
{
	if (!pal_blocks(judgement))
		return 0;
	pal_count(PAL_COUNTER_DENIED);
	return pal_judged_result(judgement);
}

/* A change before it is made. Addresses; 0: there is none. */
struct pal_change {
	__u64 mount;
	__u64 dentry;
	__u64 new_mount;
	__u64 new_dentry;
	__u64 text; /* of a symbolic link */
	__u64 size;
	__u32 operation; /* enum pal_file_operation */
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 flags;
};

static __always_inline void pal_change_begin(struct pal_change *change, __u32 operation)
{
	__builtin_memset(change, 0, sizeof(*change));
	change->operation = operation;
	change->uid = ~0u;
	change->gid = ~0u;
}

static __always_inline void pal_append_place(struct pal_record_buffer *buffer, struct pal_span *span, __u64 mount, __u64 dentry)
{
	if (dentry)
		pal_append_path(buffer, span, mount, dentry);
	else
		pal_span_set(span, 0, 0, 0);
}

pal_function void pal_emit_change(const struct pal_subject *subject, const struct pal_change *change, pal_judgement judgement)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_FILE_CHANGE, sizeof(struct pal_record_file_change));
	struct pal_record_file_change *body;
	struct pal_verdict verdict;

	if (!buffer)
		return;
	pal_judged_verdict(judgement, PAL_FAMILY_FILE, &verdict);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_FILE_CHANGE, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, &verdict);
	body = pal_record_body_of(buffer);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = change->operation;
	body->size = change->size;
	body->mode = change->mode;
	body->uid = change->uid;
	body->gid = change->gid;
	body->flags = change->flags;
	body->result = pal_judged_result(judgement);
	if (change->text)
		pal_append_kernel_string(buffer, &body->path, (const void *)change->text, PAL_STRING_MAX);
	else
		pal_append_place(buffer, &body->path, change->mount, change->dentry);
	pal_append_place(buffer, &body->new_path, change->new_mount, change->new_dentry);
	pal_record_send(buffer);
}

pal_function int pal_tell_file(struct pal_subject *subject, struct file *file, __u32 operation, pal_judgement judgement)
{
	struct pal_change change;

	pal_change_begin(&change, operation);
	change.mount = (__u64)file->f_path.mnt;
	change.dentry = (__u64)file->f_path.dentry;
	pal_emit_change(subject, &change, judgement);
	return 0;
}

#endif

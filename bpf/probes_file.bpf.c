// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * Observation of files: opens, what changes names and inodes, files without a name. See probes.bpf.c for how calls come here
 * and record.h for where each field comes from. What each needs and what is missing without it is in probes.rs.
 *
 * Not seen: changes by io_uring but as a request (probes_kernel.bpf.c), by a kernel thread, and through a writable mapping.
 */
#include "emit_calls.h"
#include "fold.h"
#include "observe.h"

char _license[] SEC("license") = "GPL";

#define PAL_AT_REMOVEDIR 0x200
#define PAL_AT_EMPTY_PATH 0x1000
#define PAL_NONE 7 /* the call has no such argument */

/* Where the arguments of a change stand. */
struct pal_file_form {
	__u8 operation;
	__u8 descriptor; /* names the object itself */
	__u8 directory;
	__u8 path;
	__u8 new_directory;
	__u8 new_path;
	__u8 mode;
	__u8 owner;      /* the group is the next one */
	__u8 flags;
	__u8 size;
	__u8 size_high;  /* 32 bit: upper half of the size */
	__u8 ids_16;     /* the owner and the group have 16 bits */
};

#define PAL_FORM(...)                                                                                                         \
	{ .descriptor = PAL_NONE, .directory = PAL_NONE, .path = PAL_NONE, .new_directory = PAL_NONE, .new_path = PAL_NONE,   \
	  .mode = PAL_NONE, .owner = PAL_NONE, .flags = PAL_NONE, .size = PAL_NONE, .size_high = PAL_NONE, __VA_ARGS__ }

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winitializer-overrides"
static const struct pal_file_form pal_file_forms[PAL_SHAPES] = {
	[PAL_SHAPE_UNLINK] = PAL_FORM(.operation = PAL_FILE_UNLINK, .path = 0),
	[PAL_SHAPE_UNLINKAT] = PAL_FORM(.operation = PAL_FILE_UNLINK, .directory = 0, .path = 1, .flags = 2),
	[PAL_SHAPE_RMDIR] = PAL_FORM(.operation = PAL_FILE_RMDIR, .path = 0),
	[PAL_SHAPE_RENAME] = PAL_FORM(.operation = PAL_FILE_RENAME, .path = 0, .new_path = 1),
	[PAL_SHAPE_RENAMEAT] = PAL_FORM(.operation = PAL_FILE_RENAME, .directory = 0, .path = 1, .new_directory = 2,
					.new_path = 3),
	[PAL_SHAPE_RENAMEAT2] = PAL_FORM(.operation = PAL_FILE_RENAME, .directory = 0, .path = 1, .new_directory = 2,
					 .new_path = 3, .flags = 4),
	[PAL_SHAPE_LINK] = PAL_FORM(.operation = PAL_FILE_LINK, .path = 0, .new_path = 1),
	[PAL_SHAPE_LINKAT] = PAL_FORM(.operation = PAL_FILE_LINK, .directory = 0, .path = 1, .new_directory = 2, .new_path = 3,
				      .flags = 4),
	[PAL_SHAPE_SYMLINK] = PAL_FORM(.operation = PAL_FILE_SYMLINK, .path = 0, .new_path = 1),
	[PAL_SHAPE_SYMLINKAT] = PAL_FORM(.operation = PAL_FILE_SYMLINK, .path = 0, .new_directory = 1, .new_path = 2),
	[PAL_SHAPE_MKDIR] = PAL_FORM(.operation = PAL_FILE_MKDIR, .path = 0, .mode = 1),
	[PAL_SHAPE_MKDIRAT] = PAL_FORM(.operation = PAL_FILE_MKDIR, .directory = 0, .path = 1, .mode = 2),
	[PAL_SHAPE_MKNOD] = PAL_FORM(.operation = PAL_FILE_MKNOD, .path = 0, .mode = 1, .size = 2),
	[PAL_SHAPE_MKNODAT] = PAL_FORM(.operation = PAL_FILE_MKNOD, .directory = 0, .path = 1, .mode = 2, .size = 3),
	[PAL_SHAPE_CHMOD] = PAL_FORM(.operation = PAL_FILE_CHMOD, .path = 0, .mode = 1),
	[PAL_SHAPE_FCHMOD] = PAL_FORM(.operation = PAL_FILE_CHMOD, .descriptor = 0, .mode = 1),
	[PAL_SHAPE_FCHMODAT] = PAL_FORM(.operation = PAL_FILE_CHMOD, .directory = 0, .path = 1, .mode = 2),
	[PAL_SHAPE_FCHMODAT2] = PAL_FORM(.operation = PAL_FILE_CHMOD, .directory = 0, .path = 1, .mode = 2, .flags = 3),
	[PAL_SHAPE_CHOWN] = PAL_FORM(.operation = PAL_FILE_CHOWN, .path = 0, .owner = 1),
	[PAL_SHAPE_FCHOWN] = PAL_FORM(.operation = PAL_FILE_CHOWN, .descriptor = 0, .owner = 1),
	[PAL_SHAPE_FCHOWNAT] = PAL_FORM(.operation = PAL_FILE_CHOWN, .directory = 0, .path = 1, .owner = 2, .flags = 4),
	[PAL_SHAPE_CHOWN16] = PAL_FORM(.operation = PAL_FILE_CHOWN, .path = 0, .owner = 1, .ids_16 = 1),
	[PAL_SHAPE_FCHOWN16] = PAL_FORM(.operation = PAL_FILE_CHOWN, .descriptor = 0, .owner = 1, .ids_16 = 1),
	[PAL_SHAPE_TRUNCATE] = PAL_FORM(.operation = PAL_FILE_TRUNCATE, .path = 0, .size = 1),
	[PAL_SHAPE_FTRUNCATE] = PAL_FORM(.operation = PAL_FILE_TRUNCATE, .descriptor = 0, .size = 1),
	[PAL_SHAPE_TRUNCATE64] = PAL_FORM(.operation = PAL_FILE_TRUNCATE, .path = 0, .size = 1, .size_high = 2),
	[PAL_SHAPE_FTRUNCATE64] = PAL_FORM(.operation = PAL_FILE_TRUNCATE, .descriptor = 0, .size = 1, .size_high = 2),
	[PAL_SHAPE_TRUNCATE64_EVEN] = PAL_FORM(.operation = PAL_FILE_TRUNCATE, .path = 0, .size = 2, .size_high = 3),
	[PAL_SHAPE_FTRUNCATE64_EVEN] = PAL_FORM(.operation = PAL_FILE_TRUNCATE, .descriptor = 0, .size = 2, .size_high = 3),
};
#pragma clang diagnostic pop

/* ---- opens ---- */

/* Equal opens: the same call on the same name of the same object by the same mount with the same flags. Asked before the path is climbed. */
static __noinline __u64 pal_digest_of_open(__u64 address, __u32 flags, __u32 call)
{
	const struct pal_observation *settings = pal_observation_of();
	struct file *file = (struct file *)address;
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct pal_digest digest;

	if (!settings || !settings->fold_window_ns)
		return 0;
	pal_digest_begin(&digest, settings, PAL_RECORD_OPEN);
	pal_digest_word(&digest, (__u64)dentry);
	pal_digest_word(&digest, (__u64)BPF_CORE_READ(file, f_path.mnt));
	pal_digest_word(&digest, (__u64)BPF_CORE_READ(dentry, d_seq.seqcount.sequence) << 32 | BPF_CORE_READ(dentry, d_name.hash));
	pal_digest_word(&digest, (__u64)inode);
	pal_digest_word(&digest, BPF_CORE_READ(inode, i_ino) ^ (__u64)call << 48);
	pal_digest_word(&digest, (__u64)BPF_CORE_READ(inode, i_generation) << 32 | flags);
	return pal_digest_end(&digest);
}

static __noinline void pal_observe_opened(const struct pal_subject *subject, const struct pal_call *call, struct pt_regs *regs,
					__u64 file)
{
	struct pal_record_buffer *buffer;
	struct pal_record_open *body;
	__u32 flags = pal_open_flags_of(call);
	__u64 now = bpf_ktime_get_boot_ns();

	if (!pal_admit(subject, PAL_RECORD_OPEN, pal_digest_of_open(file, flags, call->variant), now))
		return;
	buffer = pal_record_take(PAL_RECORD_OPEN, sizeof(*body));
	if (!buffer)
		return;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_OPEN, subject);
	pal_record_head_of(buffer)->boot_ns = now;
	pal_describe_call(pal_record_head_of(buffer), regs);
	body->flags = flags;
	body->result = call->result;
	pal_append_file(buffer, &body->path, file);
	pal_record_send(buffer);
}

/* It failed, or another thread has closed the descriptor again: there is no object to name. */
static __noinline void pal_observe_unopened(const struct pal_subject *subject, const struct pal_call *call, struct pt_regs *regs)
{
	struct pal_record_buffer *buffer;
	struct pal_record_open *body;

	if (pal_is_spent(subject, PAL_RECORD_OPEN))
		return;
	buffer = pal_record_take(PAL_RECORD_OPEN, sizeof(*body));
	if (!buffer)
		return;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_OPEN, subject);
	pal_describe_call(pal_record_head_of(buffer), regs);
	body->flags = pal_open_flags_of(call);
	body->result = call->result;
	pal_append_user_string(buffer, &body->path, (const void *)pal_open_name_of(call));
	pal_observed(buffer, subject, PAL_RECORD_OPEN);
}

static __noinline void pal_observe_created(const struct pal_subject *subject, const struct pal_call *call, __u64 address)
{
	struct file *file = (struct file *)address;
	struct pal_record_buffer *buffer;
	struct pal_record_file_change *body;

	if (!pal_within_rate(subject->slot, PAL_RECORD_FILE_CHANGE))
		return;
	buffer = pal_record_take(PAL_RECORD_FILE_CHANGE, sizeof(*body));
	if (!buffer)
		return;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_FILE_CHANGE, subject);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = PAL_FILE_CREATE;
	body->mode = BPF_CORE_READ(file, f_inode, i_mode);
	body->uid = ~0u;
	body->gid = ~0u;
	body->flags = pal_open_flags_of(call);
	body->result = call->result;
	pal_append_file(buffer, &body->path, address);
	pal_record_send(buffer);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_open, struct pt_regs *regs, long result)
{
	struct pal_subject subject;
	struct pal_call call;
	__u64 file;

	pal_identify(&subject);
	if (!(subject.visibility & (1ull << PAL_RECORD_OPEN | 1ull << PAL_RECORD_FILE_CHANGE)))
		return 0;
	pal_call_read(&call, regs, result);
	file = result >= 0 ? pal_file_of_descriptor(bpf_get_current_task_btf(), result) : 0;
	if (file && pal_wanted(&subject, PAL_RECORD_FILE_CHANGE) &&
	    BPF_CORE_READ((struct file *)file, f_mode) & PAL_FMODE_CREATED)
		pal_observe_created(&subject, &call, file);
	if (!pal_wanted(&subject, PAL_RECORD_OPEN))
		return 0;
	if (file)
		pal_observe_opened(&subject, &call, regs, file);
	else
		pal_observe_unopened(&subject, &call, regs);
	return 0;
}

/* ---- changes ---- */

static __always_inline __u32 pal_id_of(__u64 id, bool is_16)
{
	if (!is_16)
		return id;
	return (__u16)id == 0xffff ? ~0u : (__u16)id;
}

/* Of an index that only the form knows: the verifier looks at it once, and not at each of the ways of each that it is asked for. */
pal_global __u64 pal_argument_of(const struct pal_call *call, __u32 index, __u64 otherwise)
{
	return call ? pal_argument(call, index, otherwise) : otherwise;
}

static __always_inline void pal_change_numbers(struct pal_record_file_change *body, const struct pal_call *call,
					       const struct pal_file_form *form)
{
	__u32 group = form->owner == PAL_NONE ? PAL_NONE : form->owner + 1;

	body->operation = form->operation;
	__builtin_memset(body->reserved, 0, sizeof(body->reserved));
	body->mode = pal_argument_of(call, form->mode, 0);
	body->uid = pal_id_of(pal_argument_of(call, form->owner, ~0ull), form->ids_16);
	body->gid = pal_id_of(pal_argument_of(call, group, ~0ull), form->ids_16);
	body->flags = pal_argument_of(call, form->flags, 0);
	body->size = pal_argument_of(call, form->size, 0) | pal_argument_of(call, form->size_high, 0) << 32;
	body->result = call->result;
	if (form->operation == PAL_FILE_UNLINK && body->flags & PAL_AT_REMOVEDIR)
		body->operation = PAL_FILE_RMDIR;
}

/* The object that a descriptor names: by itself, or as the directory of an empty path. */
static __noinline void pal_append_descriptor(struct pal_record_buffer *buffer, struct pal_span *span, __u64 descriptor)
{
	__u64 file = pal_file_of_descriptor(bpf_get_current_task_btf(), descriptor);

	if (file)
		pal_append_file(buffer, span, file);
	else
		pal_span_set(span, 0, 0, PAL_SPAN_UNREADABLE);
}

static __noinline void pal_change_path(struct pal_record_buffer *buffer, struct pal_record_file_change *body,
				       const struct pal_call *call, const struct pal_file_form *form)
{
	__u64 directory = pal_argument_of(call, form->directory, (__u64)PAL_AT_FDCWD);

	pal_span_set(&body->base, 0, 0, 0);
	if (form->descriptor != PAL_NONE) {
		pal_append_descriptor(buffer, &body->path, pal_argument_of(call, form->descriptor, ~0ull));
		return;
	}
	pal_append_name(buffer, &body->path, pal_argument_of(call, form->path, 0));
	if (form->operation == PAL_FILE_SYMLINK)
		return; /* the text of a link starts from nowhere */
	if (!body->path.len && !(body->path.flags & PAL_SPAN_UNREADABLE) && form->flags != PAL_NONE &&
	    body->flags & PAL_AT_EMPTY_PATH) {
		/* The kernel's name of it, but that the path was empty says the caller's memory. */
		pal_append_descriptor(buffer, &body->path, directory);
		body->path.flags |= PAL_SPAN_USER;
	} else {
		pal_append_base(buffer, &body->base, &body->path, directory);
	}
}

static __noinline void pal_change_new_path(struct pal_record_buffer *buffer, struct pal_record_file_change *body,
					   const struct pal_call *call, const struct pal_file_form *form)
{
	pal_span_set(&body->new_path, 0, 0, 0);
	pal_span_set(&body->new_base, 0, 0, 0);
	if (form->new_path == PAL_NONE)
		return;
	pal_append_name(buffer, &body->new_path, pal_argument_of(call, form->new_path, 0));
	pal_append_base(buffer, &body->new_base, &body->new_path,
			pal_argument_of(call, form->new_directory, (__u64)PAL_AT_FDCWD));
}

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_file_change, struct pt_regs *regs, long result)
{
	const struct pal_file_form *form;
	struct pal_record_file_change *body;
	struct pal_record_buffer *buffer;
	struct pal_subject subject;
	struct pal_call call;

	if (!pal_observes(&subject, PAL_RECORD_FILE_CHANGE))
		return 0;
	pal_call_read(&call, regs, result);
	form = &pal_file_forms[call.variant & (PAL_SHAPES - 1)];
	buffer = pal_record_take(PAL_RECORD_FILE_CHANGE, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_FILE_CHANGE, &subject);
	pal_describe_call(pal_record_head_of(buffer), regs);
	pal_change_numbers(body, &call, form);
	pal_change_path(buffer, body, &call, form);
	pal_change_new_path(buffer, body, &call, form);
	pal_observed(buffer, &subject, PAL_RECORD_FILE_CHANGE);
	return 0;
}

/* ---- files without a name ---- */

SEC("tp_btf/sys_exit")
int BPF_PROG(observe_memfd, struct pt_regs *regs, long result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_record_buffer *buffer;
	struct pal_record_memfd *body;
	struct pal_subject subject;
	struct dentry *dentry;
	struct pal_call call;
	__u64 file;

	if (!pal_observes(&subject, PAL_RECORD_MEMFD) || !pal_within_rate(subject.slot, PAL_RECORD_MEMFD))
		return 0;
	pal_call_read(&call, regs, result);
	buffer = pal_record_take(PAL_RECORD_MEMFD, sizeof(*body));
	if (!buffer)
		return 0;
	body = pal_record_body_of(buffer);
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_MEMFD, &subject);
	body->flags = call.variant == PAL_VARIANT_SECRET ? call.arguments[0] : call.arguments[1];
	body->result = result;
	file = result >= 0 ? pal_file_of_descriptor(task, result) : 0;
	if (file) {
		dentry = BPF_CORE_READ((struct file *)file, f_path.dentry);
		pal_append_kernel(buffer, &body->name, BPF_CORE_READ(dentry, d_name.name), BPF_CORE_READ(dentry, d_name.len), 0);
	} else {
		pal_append_name(buffer, &body->name, call.variant == PAL_VARIANT_SECRET ? 0 : call.arguments[0]);
	}
	pal_record_send(buffer);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Records of decisions that are not about the path which was judged: protections by name, arguments, names that are asked for.
 */
#ifndef PALISADE_REPORT_ACTS_H
#define PALISADE_REPORT_ACTS_H

#include "observe.h"

/* Of an execution whose arguments are not laid out yet. */
pal_function void pal_emit_exec_of(const struct pal_subject *subject, struct linux_binprm *bprm, const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_EXEC, sizeof(struct pal_record_exec));
	struct pal_record_exec *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_EXEC, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	body->argument_count = bprm->argc;
	body->tty = pal_tty_of(bpf_get_current_task_btf());
	pal_append_file(buffer, &body->path, (__u64)bprm->file);
	pal_span_set(&body->cwd, 0, 0, PAL_SPAN_UNREADABLE);
	pal_span_set(&body->arguments, 0, 0, PAL_SPAN_USER | PAL_SPAN_UNREADABLE);
	pal_append_asked(buffer, body, bprm, false);
	pal_record_send(buffer);
}

/* Of an execution whose new image is set up: with its arguments. */
pal_function void pal_emit_executed(const struct pal_subject *subject, struct linux_binprm *bprm, const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_EXEC, sizeof(struct pal_record_exec));
	struct task_struct *task = bpf_get_current_task_btf();
	struct pal_record_exec *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_EXEC, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	body->argument_count = bprm->argc;
	body->tty = pal_tty_of(task);
	pal_append_path(buffer, &body->path, (__u64)bprm->file->f_path.mnt, (__u64)bprm->file->f_path.dentry);
	pal_span_set(&body->cwd, 0, 0, PAL_SPAN_UNREADABLE);
	pal_append_arguments(buffer, &body->arguments, task);
	pal_append_asked(buffer, body, bprm, false);
	pal_record_send(buffer);
}

/* Of code that is mapped from a file, which nobody executes by its name: `number` of the call in the head says so. */
pal_function void pal_emit_code(const struct pal_subject *subject, const struct pal_place *place, __u32 number, const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_EXEC, sizeof(struct pal_record_exec));
	struct pal_record_exec *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_EXEC, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	pal_record_head_of(buffer)->call = PAL_RECORD_CALL(number, 0);
	body = pal_record_body_of(buffer);
	__builtin_memset(body, 0, sizeof(*body));
	pal_append_path(buffer, &body->path, place->vfsmount, place->dentry);
	pal_span_set(&body->cwd, 0, 0, PAL_SPAN_UNREADABLE);
	pal_span_set(&body->arguments, 0, 0, PAL_SPAN_USER | PAL_SPAN_UNREADABLE);
	pal_record_send(buffer);
}

/* `result`: 0, or a negative errno. */
pal_function void pal_emit_open_of(const struct pal_subject *subject, __u64 file, __u32 open_flags, __s32 result,
				   const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_OPEN, sizeof(struct pal_record_open));
	struct pal_record_open *body;

	if (!buffer)
		return;
	pal_describe(pal_record_head_of(buffer), PAL_RECORD_OPEN, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	body->flags = open_flags;
	body->result = result;
	pal_append_file(buffer, &body->path, file);
	pal_record_send(buffer);
}

struct pal_memory_record {
	struct pal_record_head head;
	struct pal_record_syscall body;
};

/* mmap(2) or mprotect(2) by its number on x86-64; the address and the size are not known where it is decided. */
pal_function void pal_emit_memory(const struct pal_subject *subject, __u32 number, __u64 protection, __s32 result,
				  const struct pal_verdict *verdict)
{
	struct pal_memory_record *record;
	struct pal_ticket ticket;

	record = pal_reserve(&ticket, PAL_RECORD_SYSCALL, sizeof(*record));
	if (!record)
		return;
	pal_describe(&record->head, PAL_RECORD_SYSCALL, subject);
	pal_describe_verdict(&record->head, subject, verdict);
	__builtin_memset(&record->body, 0, sizeof(record->body));
	record->body.number = number;
	record->body.arguments[2] = protection;
	record->body.result = result;
	pal_submit(&ticket, &record->head, sizeof(*record));
}

/* A question that was decided. */
struct pal_asked_name {
	struct pal_endpoint server;
	const void *from; /* the dotted name, in the case that was sent */
	__u32 length;
	__u16 query_type;
	__u16 id;
	__u8 transport;
	__u8 known;       /* the current task is the one that asks */
};

/* Of a packet that the kernel sends for a task which waits: its workload alone. */
static __always_inline void pal_describe_slot(struct pal_record_head *head, __u16 kind, const struct pal_subject *subject)
{
	__builtin_memset(head, 0, sizeof(*head));
	head->kind = kind;
	head->version = PAL_RECORD_VERSION;
	head->slot = subject->slot;
	head->boot_ns = bpf_ktime_get_boot_ns();
	head->cgroup_id = subject->cgroup;
	head->phase = subject->phase;
}

pal_function void pal_emit_question(const struct pal_subject *subject, const struct pal_asked_name *name,
				    const struct pal_verdict *verdict)
{
	struct pal_record_buffer *buffer = pal_record_take(PAL_RECORD_DNS, sizeof(struct pal_record_dns));
	struct pal_record_dns *body;

	if (!buffer)
		return;
	if (name->known)
		pal_describe(pal_record_head_of(buffer), PAL_RECORD_DNS, subject);
	else
		pal_describe_slot(pal_record_head_of(buffer), PAL_RECORD_DNS, subject);
	pal_describe_verdict(pal_record_head_of(buffer), subject, verdict);
	body = pal_record_body_of(buffer);
	__builtin_memset(body, 0, sizeof(*body));
	body->operation = PAL_DNS_QUESTION;
	body->transport = name->transport;
	body->endpoint_len = name->server.len;
	body->query_type = name->query_type;
	body->id = name->id;
	body->flags = name->known ? 0 : PAL_DNS_NO_TASK;
	__builtin_memcpy(body->endpoint, name->server.bytes, sizeof(body->endpoint));
	pal_append_kernel(buffer, &body->name, name->from, name->length, name->from ? 0 : PAL_SPAN_UNREADABLE);
	pal_span_set(&body->addresses, 0, 0, 0);
	pal_record_send(buffer);
}

#endif

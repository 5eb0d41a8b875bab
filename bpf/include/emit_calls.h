/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Records that observation and decisions both make: DNS messages, capabilities, any system call. `verdict` is NULL for a
 * record without a decision, which alone is limited and folded, by the caller (limit.h).
 */
#ifndef PALISADE_EMIT_CALLS_H
#define PALISADE_EMIT_CALLS_H

#include "emit.h"

struct pal_capability_record {
	struct pal_record_head head;
	struct pal_record_capability body;
};

struct pal_syscall_record {
	struct pal_record_head head;
	struct pal_record_syscall body;
};

/* `result`: 0, or -PAL_EPERM. */
pal_function void pal_emit_capability(const struct pal_subject *subject, __u32 capability, __s32 result,
				      const struct pal_verdict *verdict)
{
	struct pal_capability_record *record;
	struct pal_ticket ticket;

	record = pal_reserve(&ticket, PAL_RECORD_CAPABILITY, sizeof(*record));
	if (!record)
		return;
	pal_describe(&record->head, PAL_RECORD_CAPABILITY, subject, bpf_get_current_task_btf());
	pal_describe_verdict(&record->head, subject, verdict);
	record->body.capability = capability;
	record->body.result = result;
	pal_submit(&ticket, &record->head, sizeof(*record));
}

/* Reads a system call's registers; at its entry or its exit, for the kernel keeps all but the result's. x86-64 only. */
static __always_inline void pal_describe_syscall(struct pal_record_syscall *body, struct pt_regs *regs, bool compat)
{
	__u64 number = regs->orig_ax;

	body->flags = compat ? PAL_SYSCALL_COMPAT : 0;
	if (compat) {
		body->arguments[0] = (__u32)regs->bx;
		body->arguments[1] = (__u32)regs->cx;
		body->arguments[2] = (__u32)regs->dx;
		body->arguments[3] = (__u32)regs->si;
		body->arguments[4] = (__u32)regs->di;
		body->arguments[5] = (__u32)regs->bp;
	} else {
		if (number & PAL_X32_BIT) {
			body->flags = PAL_SYSCALL_X32;
			number &= ~PAL_X32_BIT;
		}
		body->arguments[0] = regs->di;
		body->arguments[1] = regs->si;
		body->arguments[2] = regs->dx;
		body->arguments[3] = regs->r10;
		body->arguments[4] = regs->r8;
		body->arguments[5] = regs->r9;
	}
	body->number = number;
}

/*
 * `result` as the call returned it; 0 where it has not come so far. `now`: the record's boot_ns. `regs` is a typed pointer.
 */
static __always_inline void pal_emit_syscall(const struct pal_subject *subject, struct pt_regs *regs, __s64 result, __u64 now,
					     const struct pal_verdict *verdict)
{
	struct pal_syscall_record *record;
	struct pal_ticket ticket;

	record = pal_reserve(&ticket, PAL_RECORD_SYSCALL, sizeof(*record));
	if (!record)
		return;
	pal_describe(&record->head, PAL_RECORD_SYSCALL, subject, bpf_get_current_task_btf());
	pal_describe_verdict(&record->head, subject, verdict);
	record->head.boot_ns = now;
	pal_describe_syscall(&record->body, regs, bpf_get_current_task_btf()->thread_info.status & PAL_TS_COMPAT);
	record->body.result = result;
	pal_submit(&ticket, &record->head, sizeof(*record));
}

#endif

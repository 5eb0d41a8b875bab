/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Records that observation and decisions both make: DNS messages, capabilities, any system call. `verdict` is NULL for a
 * record without a decision, which alone is limited and folded, by the caller (limit.h).
 */
#ifndef PALISADE_EMIT_CALLS_H
#define PALISADE_EMIT_CALLS_H

#include "emit.h"
#include "registers.h"

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
	pal_describe(&record->head, PAL_RECORD_CAPABILITY, subject);
	pal_describe_verdict(&record->head, subject, verdict);
	record->body.capability = capability;
	record->body.result = result;
	pal_submit(&ticket, &record->head, sizeof(*record));
}

/* Says which system call the record is of, at its exit. What x32 has a number of its own for is told by nobody here. */
static __always_inline void pal_describe_call(struct pal_record_head *head, struct pt_regs *regs)
{
	bool compat = pal_in_compat();

	head->call = PAL_RECORD_CALL(pal_call_number(regs, compat) & (PAL_RECORD_CALL_COMPAT - 1), compat);
}

/* Reads a system call's registers; at its entry or its exit. */
static __always_inline void pal_describe_syscall(struct pal_record_syscall *body, struct pt_regs *regs, bool compat)
{
	body->flags = compat ? PAL_SYSCALL_COMPAT : 0;
	if (!compat && pal_raw_number(regs) & PAL_X32_BIT)
		body->flags = PAL_SYSCALL_X32;
	pal_read_arguments(body->arguments, regs, compat);
	body->number = pal_call_number(regs, compat);
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
	pal_describe(&record->head, PAL_RECORD_SYSCALL, subject);
	pal_describe_verdict(&record->head, subject, verdict);
	record->head.boot_ns = now;
	pal_describe_syscall(&record->body, regs, pal_in_compat());
	record->body.result = result;
	pal_submit(&ticket, &record->head, sizeof(*record));
}

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * A system call's number and arguments as the machine's registers hold them: all that the programs know of an architecture, with
 * the tables of its calls (calls_x86.h, calls_arm64.h).
 *
 * Both have a second entry for 32-bit programs with numbers of its own. On x86-64 a 64-bit task can take it at any time (int 0x80),
 * so that thread_info.status is asked at each call; on arm64 a task is of one kind from its exec on. x32 is x86's alone: its numbers
 * are the 64-bit ones with bit 30.
 *
 * Arguments may be read at the exit of a call: the kernel keeps all but the result's register, which is the first argument's on
 * arm64, where the kernel keeps a copy of it.
 */
#ifndef PALISADE_REGISTERS_H
#define PALISADE_REGISTERS_H

#include "core.h"

#define PAL_CALL_ARGUMENTS 6

#if defined(__TARGET_ARCH_x86)

#define PAL_X32_BIT 0x40000000ul
#define PAL_TS_COMPAT 2u /* thread_info.status: inside a 32-bit system call */

static __always_inline bool pal_in_compat(void)
{
	return bpf_get_current_task_btf()->thread_info.status & PAL_TS_COMPAT;
}

/*
 * x32's bit included; negative outside of a call. `regs` is a typed pointer, here and below. The entry saves the whole register
 * and the kernel acts by its lower half: a caller may write anything above.
 */
static __always_inline __s64 pal_raw_number(struct pt_regs *regs)
{
	return (__s32)regs->orig_ax;
}

static __always_inline __u64 pal_first_argument(struct pt_regs *regs, bool compat)
{
	return compat ? (__u32)regs->bx : regs->di;
}

static __always_inline void pal_read_arguments(__u64 arguments[PAL_CALL_ARGUMENTS], struct pt_regs *regs, bool compat)
{
	if (!compat) {
		arguments[0] = regs->di;
		arguments[1] = regs->si;
		arguments[2] = regs->dx;
		arguments[3] = regs->r10;
		arguments[4] = regs->r8;
		arguments[5] = regs->r9;
		return;
	}
	arguments[0] = (__u32)regs->bx;
	arguments[1] = (__u32)regs->cx;
	arguments[2] = (__u32)regs->dx;
	arguments[3] = (__u32)regs->si;
	arguments[4] = (__u32)regs->di;
	arguments[5] = (__u32)regs->bp;
}

#elif defined(__TARGET_ARCH_arm64)

#define PAL_X32_BIT 0ul
#define PAL_TIF_32BIT 22 /* bit of thread_info.flags */

static __always_inline bool pal_in_compat(void)
{
	return bpf_get_current_task_btf()->thread_info.flags >> PAL_TIF_32BIT & 1;
}

static __always_inline __s64 pal_raw_number(struct pt_regs *regs)
{
	return regs->syscallno;
}

static __always_inline __u64 pal_first_argument(struct pt_regs *regs, bool compat)
{
	return compat ? (__u32)regs->orig_x0 : regs->orig_x0;
}

static __always_inline void pal_read_arguments(__u64 arguments[PAL_CALL_ARGUMENTS], struct pt_regs *regs, bool compat)
{
	const __u64 mask = compat ? 0xffffffffull : ~0ull;

	arguments[0] = regs->orig_x0 & mask;
	arguments[1] = regs->regs[1] & mask;
	arguments[2] = regs->regs[2] & mask;
	arguments[3] = regs->regs[3] & mask;
	arguments[4] = regs->regs[4] & mask;
	arguments[5] = regs->regs[5] & mask;
}

#else
#error "no registers for this architecture: only x86 and arm64 are supported"
#endif

/* Without x32's bit: as the tables have it. */
static __always_inline __u64 pal_call_number(struct pt_regs *regs, bool compat)
{
	__u64 number = pal_raw_number(regs);

	return compat ? number : number & ~PAL_X32_BIT;
}

#endif

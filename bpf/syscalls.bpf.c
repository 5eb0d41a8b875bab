// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * System calls that rules name: seen and reported, never refused.
 *
 * At the entry, so that calls which do not come back (execve, exit) are seen too; what became of it is not known yet. By the
 * numbers of the table that the call is of, the architecture's 64-bit or 32-bit one: on x86-64, x32's own numbers past 511 are those
 * of the plain calls that they are variants of, and int 0x80 takes a 64-bit task to i386's table too.
 *
 * Attached only while a policy in force has rules of the family, for it makes every system call of the machine some 100 ns
 * slower. What else runs without a system call of its own is not seen: what io_uring does, and the vDSO.
 *
 * Minimum kernel 6.1 (tested). Without this program rules of the family are unenforceable.
 */
#include "decide.h"
#include "observe.h"
#include "emit_calls.h"

char _license[] SEC("license") = "GPL";

#define PAL_X32_FIRST 512u
#define PAL_X32_CALLS 36u

/* What x32 numbers from 512 on are variants of. */
static const volatile __u16 pal_x32_calls[64] = {
	13,  15,  16,  19,  20,  45,  46,  47,  59,  101, 127, 128, 129, 131, 222, 244, 246, 247,
	273, 274, 278, 279, 295, 296, 297, 299, 307, 310, 311, 54,  55,  206, 209, 322, 327, 328,
};

static __always_inline __u32 pal_number_of(__u64 number)
{
	__u32 at;

	if (!(number & PAL_X32_BIT))
		return number;
	number &= ~PAL_X32_BIT;
	at = number - PAL_X32_FIRST;
	return at < PAL_X32_CALLS ? pal_x32_calls[at & 63] : (__u32)number;
}

/* Veiled: what follows is verified once, not for each table. */
static __noinline __u32 pal_accept_of_call(__u64 original)
{
	bool compat = pal_in_compat();
	__u32 number = compat ? (__u32)original : pal_number_of(original);

	if (number >= PAL_SYSCALLS)
		return 0;
	return pal_veiled(compat ? PAL_SYSCALL_ACCEPT_COMPAT(number) : PAL_SYSCALL_ACCEPT(number));
}

static __noinline int pal_audit_call(struct pal_subject *subject, struct pt_regs *regs)
{
	struct pal_verdict verdict;
	struct pal_act act;

	pal_act_begin(&act, subject, PAL_FAMILY_SYSCALL);
	pal_judge_number(&act, pal_veiled(pal_accept_of_call(pal_raw_number(regs))));
	if (pal_effect(&act) != PAL_EFFECT_PERMIT) {
		verdict.word = act.word;
		verdict.family = PAL_FAMILY_SYSCALL;
		verdict.fail_reason = pal_fail_reason(&act);
		verdict.tier = PAL_TIER_AUDIT;
		verdict.outcome = pal_effect(&act) == PAL_EFFECT_BLOCK ? PAL_OUTCOME_UNENFORCEABLE : PAL_OUTCOME_OBSERVED;
		pal_emit_syscall(subject, regs, 0, bpf_ktime_get_boot_ns(), &verdict);
	}
	pal_act_end(&act);
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(audit_call, struct pt_regs *regs, long number)
{
	struct pal_subject subject;

	if (pal_is_idle(PAL_FAMILY_SYSCALL))
		return 0;
	pal_identify(&subject);
	if (!pal_decides(&subject, PAL_FAMILY_SYSCALL) || subject.phase == PAL_PHASE_RUNTIME)
		return 0;
	return pal_audit_call(&subject, regs);
}

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What cap_capable (tracepoint, Linux 6.14) tells of as a use of a capability: by the task itself, with its own credentials, and
 * not the question that every taking of memory asks. Decisions and observation ask the same.
 */
#ifndef PALISADE_CAPABILITY_H
#define PALISADE_CAPABILITY_H

#include "calls.h"

#define PAL_CAP_SYS_ADMIN 21

/* Whatever takes memory asks whether it may have the reserve, page faults (of no call) among it: that is no use of sys_admin. */
static __always_inline bool pal_accounts_memory(void)
{
	struct pt_regs *regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	bool compat = pal_in_compat();

	if (pal_raw_number(regs) < 0)
		return true;
	return compat ? pal_accounts_memory_32(pal_call_number(regs, compat)) :
			pal_accounts_memory_64(pal_call_number(regs, compat));
}

/* Neither another task's credentials nor those that it has put on for a while. */
static __always_inline bool pal_is_own(struct task_struct *task, __u64 credentials)
{
	return credentials == (__u64)task->cred && credentials == (__u64)task->real_cred;
}

#endif

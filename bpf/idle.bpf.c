// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * For the benchmark only: programs that do nothing, so that a filter's cost can be told from that of being called at all.
 */
#include "core.h"

char _license[] SEC("license") = "GPL";

SEC("tp_btf/sys_exit")
int BPF_PROG(idle_exit, struct pt_regs *regs, long result)
{
	return 0;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(idle_enter, struct pt_regs *regs, long number)
{
	return 0;
}

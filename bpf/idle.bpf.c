// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
/*
 * For the benchmark only: programs that do nothing, so that a filter's cost can be told from that of being called at all.
 */
#include "core.h"

char _license[] SEC("license") = "GPL";

/* By the probes' own name: the benchmark attaches this object in their place. */
SEC("tp_btf/sys_exit")
int BPF_PROG(observe_call, struct pt_regs *regs, long result)
{
	return 0;
}

/* In the place of judge_open. Minimum kernel as for lsm.h. */
SEC("lsm/file_open")
int BPF_PROG(idle_open, struct file *file, int earlier)
{
	return earlier;
}

/* In the place of any program of an LSM hook, of a tracepoint or of connections: loaded once for each hook. */
SEC("lsm/file_open")
int idle_hook(void *context)
{
	return 0;
}

SEC("tp_btf/sys_exit")
int idle_tracepoint(void *context)
{
	return 0;
}

SEC("cgroup/connect4")
int idle_connect(void *context)
{
	return 1;
}

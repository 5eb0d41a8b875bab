// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Does a denial take effect? Attached for a moment at start, as what the decisions will be attached as: denies the open of one
 * inode to one thread or two.
 *
 * Where `bpf` is not among the active LSMs, lsm programs load and attach and never run; nothing but trying tells.
 */
#include "core.h"

char LICENSE[] SEC("license") = "GPL";

/* Set before loading. */
const volatile __u32 pal_selftest_thread = 0;
const volatile __u32 pal_selftest_rival = 0;
const volatile __u64 pal_selftest_inode = 0;

SEC("lsm/file_open")
int BPF_PROG(deny_selftest, struct file *file, int earlier)
{
	if (earlier || (__u32)bpf_get_current_pid_tgid() != pal_selftest_thread)
		return earlier;
	return file->f_inode->i_ino == pal_selftest_inode ? -PAL_EACCES : 0;
}

/* So long that whoever waits for the CPU would have it: a slice and some ticks of the slowest clock. */
#define PAL_SELFTEST_NS 40000000ull
#define PAL_SELFTEST_TURNS (1u << 23)

static long pal_take_time(__u32 turn, void *context)
{
	return bpf_ktime_get_ns() >= *(__u64 *)context;
}

/*
 * Before security_file_open: the kernel skips a program that runs already on the CPU. So it must not be interrupted there by
 * another task, which would open without being judged. The first thread is kept here, its rival opens on the same CPU; whether
 * the first was interrupted is told by its error.
 */
SEC("lsm/file_open")
int BPF_PROG(deny_slowly, struct file *file, int earlier)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 thread = bpf_get_current_pid_tgid();
	__u64 before, until;

	if (earlier || (thread != pal_selftest_thread && thread != pal_selftest_rival) ||
	    file->f_inode->i_ino != pal_selftest_inode)
		return earlier;
	if (thread == pal_selftest_rival)
		return -PAL_EACCES;
	before = task->nivcsw;
	until = bpf_ktime_get_ns() + PAL_SELFTEST_NS;
	bpf_loop(PAL_SELFTEST_TURNS, pal_take_time, &until, 0);
	return task->nivcsw == before ? -PAL_EACCES : -PAL_EPERM;
}

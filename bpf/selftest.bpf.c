// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * Does a denial by an LSM program take effect? Attached for a moment at start: denies one thread's open of one inode.
 *
 * Where `bpf` is not among the active LSMs, lsm programs load and attach and never run; nothing but trying tells.
 */
#include "core.h"

char LICENSE[] SEC("license") = "GPL";

/* Set before loading. */
const volatile __u32 pal_selftest_thread = 0;
const volatile __u64 pal_selftest_inode = 0;

SEC("lsm/file_open")
int BPF_PROG(deny_selftest, struct file *file, int earlier)
{
	if (earlier || (__u32)bpf_get_current_pid_tgid() != pal_selftest_thread)
		return earlier;
	return file->f_inode->i_ino == pal_selftest_inode ? -PAL_EACCES : 0;
}

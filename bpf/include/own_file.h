/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * For programs that user space drives by BPF_PROG_TEST_RUN: the caller's own open file, as a plain address.
 */
#ifndef PALISADE_OWN_FILE_H
#define PALISADE_OWN_FILE_H

#include "core.h"

static __always_inline __u64 pal_own_file(__u32 descriptor)
{
	struct task_struct *current = bpf_get_current_task_btf();
	struct fdtable *table = current->files->fdt;
	__u64 file = 0;

	if (descriptor < table->max_fds)
		bpf_probe_read_kernel(&file, sizeof(file), (__u64 *)table->fd + descriptor);
	return file;
}

#endif

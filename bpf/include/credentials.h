/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What ids and capabilities a thread had when it was last looked at: for the `before` of PAL_RECORD_CREDENTIALS.
 *
 * Kept with the task at its exec and fork and after each call that is recorded, not read at the call's entry, for a second
 * program on the way in would be paid by every system call of the machine. Only tasks of workloads that want such records
 * keep anything: 56 bytes each.
 */
#ifndef PALISADE_CREDENTIALS_H
#define PALISADE_CREDENTIALS_H

#include "core.h"
#include "record.h"

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pal_credentials);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} credentials SEC(".maps");

/* `task` is a typed pointer. */
static __always_inline void pal_credentials_read(struct pal_credentials *to, struct task_struct *task)
{
	const struct cred *cred = task->cred;

	to->uid = cred->uid.val;
	to->euid = cred->euid.val;
	to->suid = cred->suid.val;
	to->fsuid = cred->fsuid.val;
	to->gid = cred->gid.val;
	to->egid = cred->egid.val;
	to->sgid = cred->sgid.val;
	to->fsgid = cred->fsgid.val;
	bpf_probe_read_kernel(&to->effective, 8, (void *)cred + bpf_core_field_offset(struct cred, cap_effective));
	bpf_probe_read_kernel(&to->permitted, 8, (void *)cred + bpf_core_field_offset(struct cred, cap_permitted));
	bpf_probe_read_kernel(&to->inheritable, 8, (void *)cred + bpf_core_field_offset(struct cred, cap_inheritable));
}

/* Keeps what the task has now. Where no storage can be had it has no `before`. */
static __always_inline void pal_credentials_look(struct task_struct *task)
{
	struct pal_credentials *kept = bpf_task_storage_get(&credentials, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (kept)
		pal_credentials_read(kept, task);
}

#endif

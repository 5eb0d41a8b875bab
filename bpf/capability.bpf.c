// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
/*
 * One tiny program for each thing that a tier stands on, so that `palisade probe` says what this kernel can do because it
 * was tried, not because of a version number. Loaded for a moment at start; nothing of it stays.
 */
#include "core.h"

char LICENSE[] SEC("license") = "GPL";

#define PAL_SIGURG 23 /* ignored by default: harmless to send to oneself */

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} tried_storage SEC(".maps");

/* A tracepoint that fires hardly ever. */
SEC("raw_tp/cgroup_remount")
int try_raw_tracepoint(struct bpf_raw_tracepoint_args *context)
{
	return 0;
}

SEC("tp_btf/cgroup_remount")
int BPF_PROG(try_btf_tracepoint, void *root)
{
	return 0;
}

/* Of tracepoints that only some kernels have: the program ends at once. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(try_prepare_exec, void *task)
{
	return 0;
}

SEC("tp_btf/cap_capable")
int BPF_PROG(try_cap_capable, void *credentials)
{
	return 0;
}

SEC("cgroup_skb/egress")
int try_packet(struct __sk_buff *packet)
{
	__u64 cgroup = bpf_skb_cgroup_id(packet);

	pal_opaque(cgroup);
	return 1;
}

/* Driven: 1 if the storage could be made. */
SEC("raw_tp/sys_enter")
int try_task_storage(struct bpf_raw_tracepoint_args *context)
{
	return bpf_task_storage_get(&tried_storage, bpf_get_current_task_btf(), NULL, BPF_LOCAL_STORAGE_GET_F_CREATE) != NULL;
}

/* Driven: 1 if the signal was sent. */
SEC("raw_tp/sys_enter")
int try_send_signal(struct bpf_raw_tracepoint_args *context)
{
	return bpf_send_signal(PAL_SIGURG) == 0;
}

SEC("cgroup/connect4")
int try_connect(struct bpf_sock_addr *context)
{
	return 1;
}

SEC("cgroup/sock_create")
int try_sock_create(struct bpf_sock *context)
{
	return 1;
}

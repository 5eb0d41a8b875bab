/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The maps that all objects share, by name: each is pinned below the pin root, so that the object which is loaded first
 * makes it and the others find it, and so that policy stands while the runtime restarts.
 *
 * This header is the truth for the layouts; runtime/kernel/src/layout.rs is the twin and a BTF test holds them equal.
 */
#ifndef PALISADE_MAPS_H
#define PALISADE_MAPS_H

#include "core.h"
#include "blob.h"

#define PAL_SLOTS 4096          /* workloads of a node; slot 0 is the host */
#define PAL_SLOT_UNKNOWN (PAL_SLOTS - 1) /* whoever is in a place of containers and is not admitted: no workload gets this number */
#define PAL_CGROUPS 16384       /* cgroups of admitted workloads, children included */
#define PAL_CGROUPS_MADE 1024   /* of those: what one workload's own mkdirs register, so that no workload fills the table */
/* Values of cgroup_slots: the slot, and */
#define PAL_CGROUP_SLOT 0xffffu
#define PAL_CGROUP_MADE 0x80000000u  /* registered by such a mkdir, and counted in cgroups_made */
#define PAL_CGROUP_SEEN 0x20000000u  /* it was empty when it was registered: these programs have seen everybody come */
#define PAL_CGROUP_MIXED 0x40000000u /* containers are made here beside others: a child that is named as one is of PAL_SLOT_UNKNOWN */
#define PAL_CGROUP_ANCESTORS 8       /* looked at where a cgroup could not be registered: kubepods, class, pod, container and four below */
#define PAL_MOUNT_BUCKETS 8192  /* power of two; of 8 crossings, in 64 bytes: 65,536 crossings of all workloads, 4096 workloads x 16 */
#define PAL_MOUNT_BUCKET 8
#define PAL_POLICIES 4096       /* blobs of one size class */
#define PAL_SCRATCH_SLOTS 1024  /* power of two; 4,472 bytes each: 4.6 MB of kernel memory a node */
#define PAL_SCRATCH_STRIDE 8    /* from one CPU's first slot to the next one's: 128 CPUs begin at slots of their own */
#define PAL_SCRATCH_TRIES 64
#define PAL_PATH_SIZE 4096      /* bytes of a path that is judged; a longer one takes the fail mode */
#define PAL_NAME_MAX 255

/*
 * A policy number says where the blob is and what it decides, so that a slot is read by one load and a container whose
 * policy has nothing on files pays nothing for opens: bits 0..2 size class, 3..15 families (PAL_FAMILY_WRITES too), 16..31 one more than the
 * index in that class's outer map.
 */
#define PAL_POLICY_NONE 0u
#define PAL_POLICY_CLASS(policy) ((policy) & 7u)
#define PAL_POLICY_FAMILIES(policy) (((policy) >> 3) & 0x1fffu)
#define PAL_POLICY_INDEX(policy) (((policy) >> 16) - 1u)

/* pal_slot.flags */
#define PAL_SLOT_MOUNTS_LEARNT 1u /* crossings are checked against the mount table */
#define PAL_SLOT_FAIL_BLOCK 2u    /* what cannot be named is denied, otherwise audited */
#define PAL_SLOT_BOUND_BY_PROFILE 4u /* an AppArmor profile denies and tells uses of capabilities */
#define PAL_SLOT_BOUND_BY_USER 8u /* SELinux denies its user those that are blocked, and tells of these alone */

struct pal_slot {
	__u64 installed;   /* generation << 32 | policy: one word, stored at once by user space through its mapping */
	__u32 incarnation; /* grows when the slot is released: what a task kept of an earlier owner is void */
	__u32 flags;       /* PAL_SLOT_* */
	__u64 visibility;  /* bit n: records of kind n are wanted (record.h) */
	__u64 released_ns; /* CLOCK_BOOTTIME of the release, 0: it was never, or is somebody's; no program reads it, the next runtime does */
};

/* Written by user space through its mapping, each word by one store; programs only read. All zero: nothing is limited. */
struct pal_observation {
	__u64 anywhere;       /* bit n: some slot wants records of kind n */
	__u64 interval_ns;    /* between a workload's records at its rate; 0: no limit */
	__u64 tolerance_ns;   /* how far ahead of now a bucket may be: burst x interval */
	__u64 fold_window_ns; /* equal observations within it are sent once; 0: nothing is folded */
	__u64 fold_key[2];    /* of the digest that tells equal ones: random, or a workload could make unequal ones seem equal */
};

/*
 * The node's sign of life, and what is counted from it. Each word is written by one store: by user space through its mapping,
 * but for `unregistered`, which programs set, and which stays until the maps go: nobody knows when what found no room is gone.
 */
struct pal_attendance {
	__u64 deadline_ns;  /* CLOCK_BOOTTIME after which policy lapses; 0: never */
	__u64 beat_ns;      /* CLOCK_BOOTTIME of the last sign; no program reads it, nor the next four: the next node does */
	__u64 span_ns;      /* of `deadline_ns`: how long after the last sign it was */
	__u64 decided;      /* counted by then, all CPUs together */
	__u64 denied;
	__u64 lapsed;
	__u64 unregistered; /* not 0: some cgroup found no room, so that who misses asks its ancestors */
};

/* Where a task is in its container's life. */
enum pal_phase {
	PAL_PHASE_NONE = 0,     /* the host */
	PAL_PHASE_RUNTIME = 1,  /* the container runtime's code inside the container's cgroup: the narrow guard holds */
	PAL_PHASE_WORKLOAD = 2, /* the container's own code: the full policy holds */
};

/* What a task keeps: its identity, so that leaving its cgroup is pointless, and its executable's source id. */
struct pal_task {
	__u64 cgroup;        /* unified cgroup that `slot` was found by */
	__u32 slot;
	__u32 incarnation;   /* of the slot then */
	__u32 phase;         /* enum pal_phase */
	__u32 source;        /* source id, meaningful with the blob of this digest only */
	__u64 source_digest; /* first 8 bytes of that blob's digest; 0: not computed */
	__u32 runtime_mnt_ns; /* inode number of the mount namespace of who moved the task in; meaningful in the RUNTIME phase */
	__u32 entered;       /* 1: it, or who it descends from, came into the running container (`kubectl exec`); from the WORKLOAD phase on */
	__u64 found_ns;      /* since boot: when it was met in the cgroup before anybody had told how it came there; 0: it was told */
};

/*
 * Mount crossings as the workloads saw them at their start, each one word: bits 0..11 the slot, bit 12 the workload's root, where the
 * path begins, bits 13..62 of a digest, bit 63 set. A crossing is a mount, and the mount that it is on, each by the addresses of its
 * root dentry and of the dentry that it covers. Mount ids are no identity: they are reused and change with unshare. The parent is
 * part of it, because a tree that is bound twice has the same mounts in two places.
 *
 * Words in buckets that are there, not elements of a hash that are made: a container has twenty crossings, which were 2 kB of
 * kernel memory for each, and a look here is shorter. Two crossings have the same 50 bits once in 10^14 looks, by accident:
 * addresses of dentries are nothing that a workload knows or chooses.
 */
#define PAL_MOUNT_SLOT 0xfffull
#define PAL_MOUNT_LAST 0x1000ull
#define PAL_MOUNT_TAKEN 0x8000000000000000ull

struct pal_mounts {
	__u64 crossings[PAL_MOUNT_BUCKET]; /* 0: free. Written by exchanges and single stores */
};

/* One that is looked for: it is in the one or in the other bucket. */
struct pal_crossing {
	__u32 buckets[2];
	__u64 word; /* but for PAL_MOUNT_LAST */
};

/* Neighbours in struct dentry and struct mount since long before 5.17: one read instead of three. */
struct pal_dentry_head {
	__u64 parent;
	__u32 hash;
	__u32 length;
	__u64 name;
};

struct pal_mount_head {
	__u64 parent;
	__u64 mountpoint;
	__u64 root;
};

/*
 * Working memory of one run. BPF programs are preemptible, so a per-CPU buffer could be overwritten half way by another
 * task's run on the same CPU; a slot is taken by an atomic exchange instead.
 */
struct pal_scratch {
	__u32 busy;
	__u32 zero; /* always 0, but the verifier cannot know: see PAL_ZERO in walk.h */
	__u8 path[PAL_PATH_SIZE + PAL_NAME_MAX + 1]; /* right-aligned to PAL_PATH_SIZE */
	__u8 endpoint[24];                           /* bytes; the automaton reads each as two symbols */
	struct pal_dentry_head dentry;               /* what a step of the climb has read: not on the stack, see pal_cross_mount */
	struct pal_mount_head mount;
	__u64 seen;        /* sum over a climb's steps: of two the same if they saw the same names and sequences in the same places */
	__u64 seen_before; /* of the climb before, in the same naming */
	__u32 sequenced;   /* the dentries' own sequences are seen too */
	__u32 unsettled;   /* all of a climb's sequences, ORed: odd if one dentry was being renamed */
	struct pal_crossing crossing; /* that is looked for: not on the stack either */
};

enum pal_counter {
	PAL_COUNTER_SCRATCH_EXHAUSTED = 0,
	PAL_COUNTER_TASK_STORAGE_FULL = 1, /* identity fell back to the cgroup */
	PAL_COUNTER_CGROUPS_FULL = 2,      /* a child cgroup was not registered (full, or PAL_CGROUPS_MADE); its tasks keep their parent's slot */
	PAL_COUNTER_UNKNOWN_MOUNT = 3,
	PAL_COUNTER_PATH_TOO_LONG = 4,
	PAL_COUNTER_PATH_TOO_DEEP = 5,
	PAL_COUNTER_PATH_MOVED = 6,        /* renames went on during every climb */
	PAL_COUNTER_NO_BLOB = 7,           /* a slot named a policy that is not there: a bug */
	PAL_COUNTER_LEAVERS = 8,           /* tasks that left an enforced cgroup and kept their slot */
	PAL_COUNTER_DECIDED = 9,
	PAL_COUNTER_DENIED = 10,
	PAL_COUNTER_LAPSED = 11,           /* acts that no policy was asked about, since no node had been there for too long */
	PAL_COUNTER_GUARDED_FULL = 12,     /* something of Palisade's own found no room in `guarded`, and is not kept from workloads */
	PAL_COUNTERS = 16,
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PAL_CGROUPS);
	__type(key, __u64);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cgroup_slots SEC(".maps");

/* By slot: how many cgroups its own mkdirs have registered. Signed: a count that user space resets may be decremented after. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_SLOTS);
	__type(key, __u32);
	__type(value, __s32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} cgroups_made SEC(".maps");

/* Mapped by user space: a swap is one aligned 8-byte store, which no reader sees half done. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_SLOTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pal_slot);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pal_attendance);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} attendance SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pal_observation);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} observation SEC(".maps");

/*
 * Bit n: no policy in force decides family n, so that its hooks may end before they ask whose act it is. The safe value is 0,
 * with which every act is looked at: a bit is set after the last policy of the family is gone and cleared before the first is
 * named by a slot.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} idle_families SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_MOUNT_BUCKETS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct pal_mounts);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} mounts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_SCRATCH_SLOTS);
	__type(key, __u32);
	__type(value, struct pal_scratch);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pal_task);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} tasks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PAL_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

static __always_inline void pal_count(__u32 counter)
{
	__u64 *count = bpf_map_lookup_elem(&counters, &counter);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline struct pal_attendance *pal_attendance(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&attendance, &key);
}

/*
 * No node has been there for longer than policy is to stand without one. Asked only where a policy was found, so that it costs
 * nobody else; by the clock that goes on while the machine sleeps, as the deadline does.
 */
static __always_inline bool pal_has_lapsed(void)
{
	struct pal_attendance *attendance = pal_attendance();
	__u64 deadline = attendance ? *(volatile __u64 *)&attendance->deadline_ns : 0;

	return deadline && bpf_ktime_get_boot_ns() > deadline;
}

/* Bit n: nobody decides family n. One load, for programs that ask about more than one. */
static __always_inline __u32 pal_idle_families(void)
{
	__u32 key = 0;
	__u32 *idle = bpf_map_lookup_elem(&idle_families, &key);

	return idle ? *(volatile __u32 *)idle : 0;
}

static __always_inline bool pal_is_idle(__u32 family)
{
	return pal_idle_families() >> family & 1;
}

/* The slot of that number, if it is free. */
static __always_inline struct pal_scratch *pal_scratch_try(__u32 number)
{
	__u32 key = number & (PAL_SCRATCH_SLOTS - 1);
	struct pal_scratch *slot = bpf_map_lookup_elem(&scratch, &key);

	/* Looked at first: an exchange that fails takes the cache line from whoever is at work in it. */
	if (slot && !*(volatile __u32 *)&slot->busy && __sync_val_compare_and_swap(&slot->busy, 0, 1) == 0)
		return slot;
	return NULL;
}

/*
 * The number of a slot that is taken for the caller, or PAL_SCRATCH_SLOTS. Out of line: it is rarely run, and is not to be part of every
 * program's straight way; and global, for the verifier would walk through what comes after for each slot that is tried.
 */
pal_global __u32 pal_scratch_search(__u32 first)
{
	for (__u32 i = 1; i < PAL_SCRATCH_TRIES; i++) {
		if (pal_scratch_try(first + i))
			return (first + i) & (PAL_SCRATCH_SLOTS - 1);
	}
	pal_count(PAL_COUNTER_SCRATCH_EXHAUSTED);
	return PAL_SCRATCH_SLOTS;
}

/*
 * NULL when every slot that this CPU may try is taken: the caller takes the fail mode. On a fully preemptible kernel each
 * thread that is set aside in the middle of a program keeps its slot until it runs again, however many of them a CPU has.
 * Neighbours' slots are tried as well, so that 64 programs under way on one CPU, or 1,024 in all, are the bound.
 */
static __always_inline struct pal_scratch *pal_scratch_take(void)
{
	__u32 first = bpf_get_smp_processor_id() * PAL_SCRATCH_STRIDE;
	struct pal_scratch *slot = pal_scratch_try(first);
	__u32 found;

	if (slot)
		return slot;
	found = pal_scratch_search(first);
	return bpf_map_lookup_elem(&scratch, &found);
}

/* An exchange and not a store: it orders everything before it, on every architecture. */
static __always_inline void pal_scratch_put(struct pal_scratch *slot)
{
	__sync_lock_test_and_set(&slot->busy, 0);
}

#endif

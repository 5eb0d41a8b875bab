/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What keeps observation within bounds: who is looked at at all, and a token bucket for each workload.
 *
 * A bucket is one word, the time at which it would be full again if nothing more came ("theoretical arrival time"): a record
 * moves it on by the interval of the rate, and is suppressed where it is further ahead of now than the burst allows. One
 * compare-and-exchange, so that no CPU waits for another; of those that lose PAL_LIMIT_TRIES races in a row the record goes
 * through without a token, which is the only way past the rate, by as many records as CPUs race.
 *
 * Exec, fork and exit have a bucket of their own: a flood of opens does not hide what is executed. Decisions never come here.
 * Suppressed records take numbers and are counted by kind (emit.h).
 */
#ifndef PALISADE_LIMIT_H
#define PALISADE_LIMIT_H

#include "emit.h"

#define PAL_LIMIT_TRIES 4

/* A workload's two buckets: when each would be full again, boot-time nanoseconds. */
struct pal_bucket {
	__u64 due[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_SLOTS);
	__type(key, __u32);
	__type(value, struct pal_bucket);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} buckets SEC(".maps");

static __always_inline const struct pal_observation *pal_observation_of(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&observation, &first);
}

static __always_inline bool pal_wanted_anywhere(__u32 kind)
{
	const struct pal_observation *settings = pal_observation_of();

	return settings && *(const volatile __u64 *)&settings->anywhere >> kind & 1;
}

static __always_inline bool pal_makes_chains(__u32 kind)
{
	return kind == PAL_RECORD_EXEC || kind == PAL_RECORD_FORK || kind == PAL_RECORD_EXIT;
}

static __always_inline __u64 *pal_bucket_of(__u32 slot, __u32 kind)
{
	struct pal_bucket *bucket = bpf_map_lookup_elem(&buckets, &slot);

	if (!bucket)
		return NULL;
	return pal_makes_chains(kind) ? &bucket->due[1] : &bucket->due[0];
}

/* Takes a token; false: there is none. */
static __always_inline bool pal_take_token(__u64 *due, __u64 now, const struct pal_observation *settings)
{
	for (int i = 0; i < PAL_LIMIT_TRIES; i++) {
		__u64 was = *(volatile __u64 *)due;
		__u64 from = was > now ? was : now;

		if (from - now > settings->tolerance_ns)
			return false;
		if (__sync_val_compare_and_swap(due, was, from + settings->interval_ns) == was)
			return true;
	}
	return true;
}

/* May the workload's next record be made? False: it is suppressed, and counted. */
pal_global int pal_within_rate(__u32 slot, __u32 kind)
{
	const struct pal_observation *settings = pal_observation_of();
	__u64 *due;

	if (!settings || !settings->interval_ns)
		return 1;
	due = pal_bucket_of(slot, kind);
	if (!due || pal_take_token(due, bpf_ktime_get_boot_ns(), settings))
		return 1;
	pal_lose(kind, PAL_LOSS_SUPPRESSED);
	return 0;
}

#endif

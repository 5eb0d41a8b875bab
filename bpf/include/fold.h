/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Equal observations of one process within a window are sent once; how many were not is sent later (PAL_RECORD_FOLDED).
 *
 * Equal is told by a 64-bit SipHash-1-3 under a random key over process, kind, object and result, so that a workload cannot
 * choose two acts that seem equal. For an open that succeeded the object is the dentry with its own sequence and name hash,
 * and the mount: asked before any path is climbed, for this is where floods are. A directory above that is renamed within the
 * window is not noticed then. For all others it is the record's whole body and strings. Which of the calls that do the same it
 * was is part of it, descriptor numbers are not.
 *
 * The table is direct-mapped and of fixed size. Where two acts meet in one place the later one takes it, and the count of the
 * earlier one is sent at once: a full table folds less, and loses nothing. A place that another CPU is at work in is left
 * alone, and the record goes its way unfolded. What nobody comes back to is sent by `sweep_folds`, which user space drives.
 *
 * Invariant: a record that is folded takes a number, is counted as PAL_LOSS_FOLDED of its kind, and in one place's `repeats`.
 */
#ifndef PALISADE_FOLD_H
#define PALISADE_FOLD_H

#include "limit.h"

#define PAL_FOLDS 8192u /* power of two: 640 KiB of kernel memory */

struct pal_fold {
	__u32 busy;
	__u32 repeats;    /* since the record of of_boot_ns was sent */
	__u64 digest;     /* 0: the place is free */
	__u64 of_boot_ns;
	__u64 last_ns;
	__u64 task_start_ns;
	__u64 cgroup_id;
	__u32 tgid;
	__u32 slot;
	__u16 kind;
	__u16 phase;
	__u32 reserved;
};

struct pal_folded_record {
	struct pal_record_head head;
	struct pal_record_folded body;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PAL_FOLDS);
	__type(key, __u32);
	__type(value, struct pal_fold);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} folds SEC(".maps");

/* ---- the digest ---- */

struct pal_digest {
	__u64 v[4];
};

#define PAL_ROTATE(word, bits) ((word) << (bits) | (word) >> (64 - (bits)))

static __always_inline void pal_digest_round(struct pal_digest *digest)
{
	__u64 *v = digest->v;

	v[0] += v[1];
	v[1] = PAL_ROTATE(v[1], 13) ^ v[0];
	v[0] = PAL_ROTATE(v[0], 32);
	v[2] += v[3];
	v[3] = PAL_ROTATE(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = PAL_ROTATE(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = PAL_ROTATE(v[1], 17) ^ v[2];
	v[2] = PAL_ROTATE(v[2], 32);
}

static __always_inline void pal_digest_word(struct pal_digest *digest, __u64 word)
{
	digest->v[3] ^= word;
	pal_digest_round(digest);
	digest->v[0] ^= word;
}

/* When the current task's process began: see pal_describe_task (emit.h). */
pal_global __u64 pal_process_start(void)
{
	return bpf_get_current_task_btf()->group_leader->start_boottime;
}

/* Begins with the process: the current one. */
static __always_inline void pal_digest_begin(struct pal_digest *digest, const struct pal_observation *settings, __u32 kind)
{
	struct task_struct *task = bpf_get_current_task_btf();

	digest->v[0] = settings->fold_key[0] ^ 0x736f6d6570736575ull;
	digest->v[1] = settings->fold_key[1] ^ 0x646f72616e646f6dull;
	digest->v[2] = settings->fold_key[0] ^ 0x6c7967656e657261ull;
	digest->v[3] = settings->fold_key[1] ^ 0x7465646279746573ull;
	pal_digest_word(digest, (__u64)kind << 32 | (__u32)task->tgid);
	pal_digest_word(digest, pal_process_start());
}

/* Never 0. */
static __always_inline __u64 pal_digest_end(struct pal_digest *digest)
{
	digest->v[2] ^= 0xff;
	pal_digest_round(digest);
	pal_digest_round(digest);
	pal_digest_round(digest);
	return (digest->v[0] ^ digest->v[1] ^ digest->v[2] ^ digest->v[3]) | 1;
}

/* ---- places ---- */

/* Sends how many were folded. The place is the caller's. */
pal_function void pal_fold_send(const struct pal_fold *fold)
{
	struct pal_folded_record *record;
	struct pal_ticket ticket;

	record = pal_reserve(&ticket, PAL_RECORD_FOLDED, sizeof(*record));
	if (!record)
		return;
	__builtin_memset(&record->head, 0, sizeof(record->head));
	record->head.kind = PAL_RECORD_FOLDED;
	record->head.version = PAL_RECORD_VERSION;
	record->head.slot = fold->slot;
	record->head.boot_ns = bpf_ktime_get_boot_ns();
	record->head.cgroup_id = fold->cgroup_id;
	record->head.task_start_ns = fold->task_start_ns;
	record->head.tgid = fold->tgid;
	record->head.tid = fold->tgid;
	record->head.phase = fold->phase;
	record->body.of_boot_ns = fold->of_boot_ns;
	record->body.last_ns = fold->last_ns;
	record->body.repeats = fold->repeats;
	record->body.of_kind = fold->kind;
	record->body.reserved = 0;
	pal_submit(&ticket, &record->head, sizeof(*record));
}

static __always_inline bool pal_fold_lock(struct pal_fold *fold)
{
	return !*(volatile __u32 *)&fold->busy && __sync_val_compare_and_swap(&fold->busy, 0, 1) == 0;
}

static __always_inline void pal_fold_unlock(struct pal_fold *fold)
{
	__sync_lock_test_and_set(&fold->busy, 0);
}

/* Gives the place to a record that is about to be sent. */
static __always_inline void pal_fold_begin(struct pal_fold *fold, const struct pal_subject *subject, __u32 kind,
					   __u64 digest, __u64 now)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (fold->repeats)
		pal_fold_send(fold);
	fold->repeats = 0;
	fold->digest = digest;
	fold->of_boot_ns = now;
	fold->task_start_ns = pal_process_start();
	fold->cgroup_id = subject->cgroup;
	fold->tgid = task->tgid;
	fold->slot = subject->slot;
	fold->kind = kind;
	fold->phase = subject->phase;
}

/*
 * Is the record to be made? Otherwise it was folded or suppressed, and is counted. `now` must become its boot_ns; `kind` and
 * `digest` are the record's; digest 0: it is never folded.
 */
pal_function bool pal_admit(const struct pal_subject *subject, __u32 kind, __u64 digest, __u64 now)
{
	const struct pal_observation *settings = pal_observation_of();
	__u32 key = digest >> 32 & (PAL_FOLDS - 1);
	struct pal_fold *fold;
	bool admitted;

	if (!digest || !settings || !settings->fold_window_ns)
		return pal_within_rate(subject->slot, kind);
	fold = bpf_map_lookup_elem(&folds, &key);
	if (!fold || !pal_fold_lock(fold))
		return pal_within_rate(subject->slot, kind);
	if (fold->digest == digest && now - fold->of_boot_ns < settings->fold_window_ns) {
		fold->repeats++;
		fold->last_ns = now;
		pal_fold_unlock(fold);
		pal_lose(kind, PAL_LOSS_FOLDED);
		return false;
	}
	admitted = pal_within_rate(subject->slot, kind);
	if (admitted)
		pal_fold_begin(fold, subject, kind, digest, now);
	pal_fold_unlock(fold);
	return admitted;
}

/* ---- whole records ---- */

struct pal_digest_walk {
	struct pal_record_buffer *buffer;
	struct pal_digest digest;
	__u32 at;
	__u32 end;
};

static long pal_digest_step(__u32 index, void *context)
{
	struct pal_digest_walk *walk = context;
	__u32 at = walk->at & (PAL_RECORD_MAX - PAL_RECORD_ALIGN);

	if (walk->at >= walk->end)
		return 1;
	pal_digest_word(&walk->digest, *(__u64 *)(walk->buffer->bytes + at));
	walk->at += PAL_RECORD_ALIGN;
	return 0;
}

/* Of body and strings; 0 where nothing is folded. `skip` bytes of the body's beginning are no part of it. */
pal_function __u64 pal_digest_of_record(struct pal_record_buffer *buffer, __u32 kind, __u32 skip)
{
	const struct pal_observation *settings = pal_observation_of();
	struct pal_digest_walk walk;
	__u32 end = buffer->at & (PAL_RECORD_MAX - 1);

	if (!settings || !settings->fold_window_ns)
		return 0;
	__builtin_memset(buffer->bytes + end, 0, PAL_RECORD_ALIGN);
	walk.buffer = buffer;
	pal_digest_begin(&walk.digest, settings, kind);
	pal_digest_word(&walk.digest, pal_record_head_of(buffer)->call);
	walk.at = pal_veiled(sizeof(struct pal_record_head)) + skip;
	walk.end = end;
	bpf_loop(PAL_RECORD_MAX / PAL_RECORD_ALIGN, pal_digest_step, &walk, 0);
	return pal_digest_end(&walk.digest);
}

/* Sends an observation, or counts it as folded or suppressed, and gives the buffer back. */
pal_function void pal_observed(struct pal_record_buffer *buffer, const struct pal_subject *subject, __u32 kind)
{
	__u64 digest = pal_digest_of_record(buffer, kind, 0);

	if (pal_admit(subject, kind, digest, pal_record_head_of(buffer)->boot_ns))
		pal_record_send(buffer);
	else
		pal_record_put(buffer);
}

/*
 * Asked before a record with strings is built: no token is left, and none can be until the bucket is due. Then nothing is
 * read, and what would have been folded is suppressed with the rest.
 */
pal_function bool pal_is_spent(const struct pal_subject *subject, __u32 kind)
{
	const struct pal_observation *settings = pal_observation_of();
	__u64 *due, now;

	if (!settings || !settings->interval_ns)
		return false;
	due = pal_bucket_of(subject->slot, kind);
	now = bpf_ktime_get_boot_ns();
	if (!due || *(volatile __u64 *)due <= now + settings->tolerance_ns)
		return false;
	pal_lose(kind, PAL_LOSS_SUPPRESSED);
	return true;
}

/* The way in of every probe that builds a record: is the acting task's wanted? */
static __always_inline bool pal_observes(struct pal_subject *subject, __u32 kind)
{
	pal_identify(subject);
	return pal_wanted(subject, kind) && !pal_is_spent(subject, kind);
}

#endif

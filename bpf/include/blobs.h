/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Where policies live: for each size class an outer array of arrays with one value, the blob.
 *
 * An outer array and not a hash, because the JIT turns its lookup into a load.
 * Size classes, because all inner maps of an outer map have one value size and pay for it whole. User space keeps a pool
 * of inner arrays in the outer maps and fills a free one before a slot names it: changing an outer map waits for a grace
 * period, filling an array does not.
 */
#ifndef PALISADE_BLOBS_H
#define PALISADE_BLOBS_H

#include "maps.h"

#define PAL_BLOB_CLASS(NAME, LOG2)                                                  \
	struct pal_blob_##NAME {                                                    \
		struct pal_blob_head head;                                          \
		__u32 words[1u << (LOG2)];                                          \
	};                                                                          \
	struct pal_blob_array_##NAME {                                              \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                   \
		__uint(max_entries, 1);                                             \
		__uint(key_size, sizeof(__u32));                                    \
		__uint(value_size, sizeof(struct pal_blob_head) + (4u << (LOG2)));  \
	};                                                                          \
	struct {                                                                    \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                           \
		__uint(max_entries, PAL_POLICIES);                                  \
		__type(key, __u32);                                                 \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                                \
		__array(values, struct pal_blob_array_##NAME);                      \
	} blobs_##NAME SEC(".maps")

PAL_BLOB_CLASS(16k, PAL_BLOB_LOG2_16K);
PAL_BLOB_CLASS(128k, PAL_BLOB_LOG2_128K);
PAL_BLOB_CLASS(1m, PAL_BLOB_LOG2_1M);
PAL_BLOB_CLASS(8m, PAL_BLOB_LOG2_8M);

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The walk over a blob and the decision, for one size class. Included by decide.h once for each class with PAL_CLASS (its
 * name) and PAL_LOG2 (of its words) defined, because the verifier wants the mask and the value size as constants.
 *
 * The meaning is messages/kernel-abi/src/blob/walk.rs; a differential test holds the two equal.
 */

#define PAL_JOIN_(prefix, class) prefix##_##class
#define PAL_JOIN(prefix, class) PAL_JOIN_(prefix, class)
#define PAL_CLASSED(name) PAL_JOIN(name, PAL_CLASS)
#define PAL_BLOB struct PAL_JOIN(pal_blob, PAL_CLASS)
#define PAL_MASK ((1u << PAL_LOG2) - 1)

struct PAL_CLASSED(pal_steps) {
	PAL_BLOB *blob;
	const __u8 *classes;
	struct pal_scratch *scratch;
	__u32 at; /* next byte of scratch->path, a multiple of 8 */
	__u32 state;
	__u32 absorbing;
};

static __always_inline PAL_BLOB *PAL_CLASSED(pal_blob_of)(__u32 policy)
{
	__u32 index = PAL_POLICY_INDEX(policy);
	__u32 first = 0;
	void *array = bpf_map_lookup_elem(&PAL_CLASSED(blobs), &index);

	return array ? bpf_map_lookup_elem(array, &first) : NULL;
}

static __always_inline __u32 PAL_CLASSED(pal_word)(PAL_BLOB *blob, __u32 index)
{
	return blob->words[index & PAL_MASK];
}

/* Eight bytes for each run: the loop's own cost is shared, and the early stop is tested once. */
static long PAL_CLASSED(pal_step8)(__u32 index, void *context)
{
	struct PAL_CLASSED(pal_steps) *steps = context;
	const __u8 *classes = steps->classes;
	PAL_BLOB *blob = steps->blob;
	__u32 state = steps->state;
	__u32 at = steps->at & (PAL_PATH_SIZE - 8);
	__u64 bytes = *(__u64 *)(steps->scratch->path + at);

	steps->at = at + 8;
	for (__u32 i = 0; i < 8; i++) {
		state = PAL_CLASSED(pal_word)(blob, state + classes[bytes & 0xff]);
		bytes >>= 8;
	}
	steps->state = state;
	return state < steps->absorbing;
}

/*
 * The accept id of scratch->path from `start`. NUL does not move the state, so that the bytes before `start` in its first
 * eight are cleared and read along.
 */
pal_function __u32 PAL_CLASSED(pal_walk)(PAL_BLOB *blob, const struct pal_automaton_head *head,
						   struct pal_scratch *scratch, __u32 start)
{
	struct PAL_CLASSED(pal_steps) steps;
	__u32 first = start & (PAL_PATH_SIZE - 8);
	__u32 unused_bits = (start & 7) * 8;
	__u64 *head_bytes = (__u64 *)(scratch->path + first);

	*head_bytes = *head_bytes >> unused_bits << unused_bits;
	steps.blob = blob;
	steps.classes = head->class_of;
	steps.scratch = scratch;
	steps.at = first;
	steps.state = head->start;
	steps.absorbing = head->absorbing;
	bpf_loop((PAL_PATH_SIZE - start + 7) / 8, PAL_CLASSED(pal_step8), &steps, 0);
	return PAL_CLASSED(pal_word)(blob, steps.state);
}

static __always_inline __u32 PAL_CLASSED(pal_decide)(PAL_BLOB *blob, __u32 family, __u32 accept, __u32 source, __u32 modifiers)
{
	/* Masked for the verifier; there are fewer than eight families. */
	const struct pal_family_head *table = &blob->head.family[family & 7];

	if (!(blob->head.families >> (family & 7) & 1))
		return PAL_EFFECT_PERMIT;
	if (accept >= table->accepts)
		accept = 0;
	if (source >= table->sources)
		source = 0;
	modifiers &= table->modifiers - 1;
	return PAL_CLASSED(pal_word)(blob, table->base + (accept * table->sources + source) * table->modifiers + modifiers);
}

/* The actor's source id is kept with the task for as long as executable and blob are the same. Here act->source, or what it takes. */
pal_function __u32 PAL_CLASSED(pal_recall_source)(struct pal_act *act)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	struct pal_task *kept = act->subject->kept;

	if (!blob)
		return PAL_SOURCE_NO_BLOB;
	if (blob->head.family[act->family & 7].sources <= 1)
		return PAL_SOURCE_KNOWN;
	if (kept && !act->foreign_actor && kept->source_digest == *(__u64 *)blob->head.digest) {
		act->source = kept->source;
		return PAL_SOURCE_KNOWN;
	}
	return PAL_SOURCE_UNKNOWN;
}

/* Takes the executable's name from scratch->path; the id is 0 where it has none that a rule could mean. */
pal_function int PAL_CLASSED(pal_match_source)(struct pal_act *act, __u32 naming, __u32 start)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	struct pal_task *kept = act->subject->kept;

	if (!blob)
		return 0;
	if (naming == PAL_NAMED)
		act->source = PAL_CLASSED(pal_walk)(blob, &blob->head.automaton[PAL_AUTOMATON_SOURCE], act->scratch, start);
	if (kept && !act->foreign_actor) {
		kept->source = act->source;
		kept->source_digest = *(__u64 *)blob->head.digest;
	}
	return 0;
}

/* Judges the name in scratch->path. */
pal_function int PAL_CLASSED(pal_match_path)(struct pal_act *act, __u32 start)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	__u32 accept;

	if (!blob)
		return 0;
	accept = PAL_CLASSED(pal_walk)(blob, &blob->head.automaton[PAL_AUTOMATON_PATH], act->scratch, start);
	act->word = PAL_CLASSED(pal_decide)(blob, act->family, accept, act->source, act->modifiers);
#ifdef PAL_OBJECT_BY_ADDRESS
	act->word_reading =
		PAL_CLASSED(pal_decide)(blob, act->family, accept, act->source, act->modifiers & ~PAL_MODIFIER_WRITE);
#endif
	return 0;
}

/* Judges scratch->endpoint. */
pal_function int PAL_CLASSED(pal_match_endpoint)(struct pal_act *act)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	__u32 accept;

	if (!blob)
		return 0;
	accept = PAL_CLASSED(pal_walk)(blob, &blob->head.automaton[PAL_AUTOMATON_NETWORK], act->scratch,
				       pal_spell_endpoint(act->scratch, act->endpoint_length));
	act->word = PAL_CLASSED(pal_decide)(blob, act->family, accept, act->source, act->modifiers);
	return 0;
}

#undef PAL_JOIN_
#undef PAL_JOIN
#undef PAL_CLASSED
#undef PAL_BLOB
#undef PAL_MASK

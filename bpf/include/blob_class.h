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
	__u32 unused_bits; /* of the next eight bytes: what lies before the input's start is not read */
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

static __always_inline __u64 PAL_CLASSED(pal_take8)(struct PAL_CLASSED(pal_steps) *steps)
{
	__u32 at = steps->at & (PAL_PATH_SIZE - 8);
	__u64 bytes = *(__u64 *)(steps->scratch->path + at);

	bytes = bytes >> steps->unused_bits << steps->unused_bits;
	steps->unused_bits = 0;
	steps->at = at + 8;
	return bytes;
}

/* Eight bytes for each run: the loop's own cost is shared, and the early stop is tested once. */
static long PAL_CLASSED(pal_step8)(__u32 index, void *context)
{
	struct PAL_CLASSED(pal_steps) *steps = context;
	const __u8 *classes = steps->classes;
	PAL_BLOB *blob = steps->blob;
	__u32 state = steps->state;
	__u64 bytes = PAL_CLASSED(pal_take8)(steps);

	for (__u32 i = 0; i < 8; i++) {
		state = PAL_CLASSED(pal_word)(blob, state + classes[bytes & 0xff]);
		bytes >>= 8;
	}
	steps->state = state;
	return state < steps->absorbing;
}

/* A cell of the comb form, in one load: target, then whose it is. */
static __always_inline __u64 PAL_CLASSED(pal_cell)(PAL_BLOB *blob, __u32 index)
{
	return *(__u64 *)&blob->words[index & (PAL_MASK - 1)];
}

static long PAL_CLASSED(pal_comb8)(__u32 index, void *context)
{
	struct PAL_CLASSED(pal_steps) *steps = context;
	const __u8 *classes = steps->classes;
	PAL_BLOB *blob = steps->blob;
	__u32 state = steps->state;
	__u64 bytes = PAL_CLASSED(pal_take8)(steps);

	for (__u32 i = 0; i < 8; i++) {
		__u64 cell = PAL_CLASSED(pal_cell)(blob, state + 2 * classes[bytes & 0xff]);

		if (cell >> 32 != state)
			cell = PAL_CLASSED(pal_cell)(blob, state);
		state = (__u32)cell;
		bytes >>= 8;
	}
	steps->state = state;
	return state < steps->absorbing;
}

/* Where scratch->path from `start`, which stays as it is, leads. NUL before the first byte does not move the state. */
static __always_inline __u32 PAL_CLASSED(pal_run)(PAL_BLOB *blob, struct pal_scratch *scratch,
						  const struct pal_automaton_head *head, __u32 start)
{
	struct PAL_CLASSED(pal_steps) steps;

	steps.blob = blob;
	steps.classes = head->class_of;
	steps.scratch = scratch;
	steps.at = start & (PAL_PATH_SIZE - 8);
	steps.unused_bits = (start & 7) * 8;
	steps.state = head->start;
	steps.absorbing = head->absorbing;
	if (head->form == PAL_FORM_FLAT)
		bpf_loop((PAL_PATH_SIZE - start + 7) / 8, PAL_CLASSED(pal_step8), &steps, 0);
	else
		bpf_loop((PAL_PATH_SIZE - start + 7) / 8, PAL_CLASSED(pal_comb8), &steps, 0);
	return steps.state;
}

static __always_inline __u32 PAL_CLASSED(pal_accept_at)(PAL_BLOB *blob, const struct pal_automaton_head *head, __u32 state)
{
	if (head->form == PAL_FORM_FLAT)
		return PAL_CLASSED(pal_word)(blob, state);
	return (__u32)(PAL_CLASSED(pal_cell)(blob, state) >> 32) & ~PAL_COMB_STATE;
}

/*
 * The accept id of scratch->path from `start`.
 *
 * A global function: the verifier walks through it once for each object, and not once for each way that leads to it. Its price is
 * that the verifier knows nothing of the arguments.
 */
pal_global __u32 PAL_CLASSED(pal_walk)(PAL_BLOB *blob, struct pal_scratch *scratch, __u32 automaton, __u32 start)
{
	const struct pal_automaton_head *head;

	if (!blob || !scratch || start > PAL_PATH_SIZE)
		return 0;
	/* Masked for the verifier; there are fewer than eight automata. */
	head = &blob->head.automaton[automaton & 7];
	return PAL_CLASSED(pal_accept_at)(blob, head, PAL_CLASSED(pal_run)(blob, scratch, head, start));
}

#ifdef PAL_JUDGES_MOVES
static __always_inline __u32 PAL_CLASSED(pal_step_slash)(PAL_BLOB *blob, const struct pal_automaton_head *head, __u32 state)
{
	__u32 class = head->class_of['/'];
	__u64 cell;

	if (head->form == PAL_FORM_FLAT)
		return PAL_CLASSED(pal_word)(blob, state + class);
	cell = PAL_CLASSED(pal_cell)(blob, state + 2 * class);
	if (cell >> 32 != state)
		cell = PAL_CLASSED(pal_cell)(blob, state);
	return (__u32)cell;
}

/* The state of what is below the directory in scratch->path from `start`, and what the directory itself is accepted as: PAL_BELOW_*. */
pal_global __u64 PAL_CLASSED(pal_walk_below)(PAL_BLOB *blob, struct pal_scratch *scratch, __u32 start)
{
	const struct pal_automaton_head *head;
	__u32 state, asked;

	if (!blob || !scratch || start > PAL_PATH_SIZE)
		return 0;
	head = &blob->head.automaton[PAL_AUTOMATON_PATH];
	state = PAL_CLASSED(pal_step_slash)(blob, head, PAL_CLASSED(pal_run)(blob, scratch, head, start));
	asked = PAL_CLASSED(pal_step_slash)(blob, head, state);
	return (__u64)state << 32 | PAL_CLASSED(pal_accept_at)(blob, head, asked);
}
#endif

static __always_inline __u32 PAL_CLASSED(pal_decide)(PAL_BLOB *blob, __u32 family, __u32 accept, __u32 source, __u32 modifiers)
{
	/* Masked for the verifier; there are fewer than sixteen families. */
	const struct pal_family_head *table = &blob->head.family[family & 15];

	if (!(blob->head.families >> (family & 15) & 1))
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
	if (blob->head.family[act->family & 15].sources <= 1)
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
		act->source = PAL_CLASSED(pal_walk)(blob, act->scratch, PAL_AUTOMATON_SOURCE, start);
	if (kept && !act->foreign_actor) {
		kept->source = act->source;
		kept->source_digest = *(__u64 *)blob->head.digest;
	}
	return 0;
}

/*
 * The word of the path in scratch->path: of the whole, or of its last component where bare names are told apart and one of them
 * has the higher rank.
 */
pal_function int PAL_CLASSED(pal_accept_path)(PAL_BLOB *blob, struct pal_scratch *scratch, __u32 start, __u32 accepts[2])
{
	const struct pal_automaton_head *names = &blob->head.automaton[PAL_AUTOMATON_BASENAME];

	accepts[0] = PAL_CLASSED(pal_walk)(blob, scratch, PAL_AUTOMATON_PATH, start);
	accepts[1] = 0;
	if (names->start >= names->absorbing)
		accepts[1] = PAL_CLASSED(pal_walk)(blob, scratch, PAL_AUTOMATON_BASENAME, pal_basename(scratch, start));
	return 0;
}

static __always_inline __u32 PAL_CLASSED(pal_decide_path)(PAL_BLOB *blob, __u32 family, const __u32 accepts[2], __u32 source,
							  __u32 modifiers)
{
	__u32 whole = PAL_CLASSED(pal_decide)(blob, family, accepts[0], source, modifiers);
	__u32 name;

	if (!accepts[1])
		return whole;
	name = PAL_CLASSED(pal_decide)(blob, family, accepts[1], source, modifiers);
	return name > whole ? name : whole;
}

/* Judges the path in scratch->path. */
pal_function int PAL_CLASSED(pal_match_path)(struct pal_act *act, __u32 start)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	__u32 accepts[2];

	if (!blob)
		return 0;
	PAL_CLASSED(pal_accept_path)(blob, act->scratch, start, accepts);
	act->word = PAL_CLASSED(pal_decide_path)(blob, act->family, accepts, act->source, act->modifiers);
#ifdef PAL_OBJECT_BY_ADDRESS
	act->word_reading =
		PAL_CLASSED(pal_decide_path)(blob, act->family, accepts, act->source, act->modifiers & ~PAL_MODIFIER_WRITE);
#endif
	return 0;
}

/* Judges the domain name in scratch->path from `start`, spelt as blob.h says. */
pal_function int PAL_CLASSED(pal_match_name)(struct pal_act *act, __u32 start)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	__u32 accept;

	if (!blob)
		return 0;
	accept = PAL_CLASSED(pal_walk)(blob, act->scratch, PAL_AUTOMATON_NAME, start);
	act->word = PAL_CLASSED(pal_decide)(blob, act->family, accept, act->source, act->modifiers);
	return 0;
}

/* Judges what has a number: the accept id is known. */
pal_function int PAL_CLASSED(pal_match_accept)(struct pal_act *act, __u32 accept)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);

	if (!blob)
		return 0;
	act->word = PAL_CLASSED(pal_decide)(blob, act->family, accept, act->source, act->modifiers);
	return 0;
}

#ifdef PAL_JUDGES_MOVES
pal_function __u64 PAL_CLASSED(pal_match_below)(struct pal_act *act, __u32 start)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);

	return blob ? PAL_CLASSED(pal_walk_below)(blob, act->scratch, start) : 0;
}
#endif

/* See pal_match_argument in decide.h. */
pal_function __u32 PAL_CLASSED(pal_match_argument)(struct pal_act *act, __u32 start)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	__u32 set = PAL_DECISION_ARGUMENTS(act->word);
	__u32 accept;

	if (!blob || set >= blob->head.arguments.sources)
		return 0;
	accept = PAL_CLASSED(pal_walk)(blob, act->scratch, PAL_AUTOMATON_ARGUMENT, start);
	if (accept >= blob->head.arguments.accepts)
		accept = 0;
	return PAL_CLASSED(pal_word)(blob, blob->head.arguments.base + accept * blob->head.arguments.sources + set);
}

/* Judges scratch->endpoint. */
pal_function int PAL_CLASSED(pal_match_endpoint)(struct pal_act *act)
{
	PAL_BLOB *blob = PAL_CLASSED(pal_blob_of)(act->subject->policy);
	__u32 accept;

	if (!blob)
		return 0;
	accept = PAL_CLASSED(pal_walk)(blob, act->scratch, PAL_AUTOMATON_NETWORK, pal_spell_endpoint(act->scratch, act->endpoint_length));
	act->word = PAL_CLASSED(pal_decide)(blob, act->family, accept, act->source, act->modifiers);
	return 0;
}

#undef PAL_JOIN_
#undef PAL_JOIN
#undef PAL_CLASSED
#undef PAL_BLOB
#undef PAL_MASK

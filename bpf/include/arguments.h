/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * Executions whose rule asks for their arguments: decided while the old image still lives, where its source is known, and held
 * once the new one is set up, where the arguments lie as the program will find them.
 *
 * At most two words wait for one execution: a script's and its interpreter's. The arguments that count are those that the
 * caller gave after argv[0]; what the kernel puts before a script's (the interpreter, its option, the script) does not for the
 * script's own rule, and does for the interpreter's.
 */
#ifndef PALISADE_ARGUMENTS_H
#define PALISADE_ARGUMENTS_H

#include "decide.h"

#define PAL_ASKED_MAX 2u

struct pal_asked {
	__u64 execution; /* address of the bprm: which one it is */
	__u32 policy;    /* whose sets the words name */
	__u32 count;     /* words that wait; more than PAL_ASKED_MAX: more than are kept */
	__u32 words[PAL_ASKED_MAX];
	__u32 argc[PAL_ASKED_MAX]; /* of the caller's arguments, when the word was asked for */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct pal_asked);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} asked_executions SEC(".maps");

/*
 * Not 0: some execution has waited. Until then there is nothing noted to hold, or to take away, and most nodes have no rule that asks for
 * arguments: their executions pay for no look at the storage. It stays as long as the storage does, and is no idle family: who waits
 * while the last such policy goes must still be held.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} asked_ever SEC(".maps");

static __always_inline __u32 *pal_asked_ever(void)
{
	__u32 key = 0;

	return bpf_map_lookup_elem(&asked_ever, &key);
}

/* Written and read by the task that waits, whatever others see of it. */
static __always_inline bool pal_has_asked(void)
{
	__u32 *ever = pal_asked_ever();

	return !ever || *(volatile __u32 *)ever;
}

static __always_inline void pal_asks(void)
{
	__u32 *ever = pal_asked_ever();

	if (ever && !*(volatile __u32 *)ever)
		*(volatile __u32 *)ever = 1;
}

/*
 * Notes the word of an execution's file, or that it waits for nothing. `again`: an interpreter of the same execution. False: it
 * waits, and that could not be noted.
 */
static __always_inline bool pal_note_execution(struct linux_binprm *bprm, const struct pal_act *act, bool again)
{
	bool waits = pal_awaits_arguments(act);
	struct pal_asked *asked;
	__u32 at;

	if (waits)
		pal_asks();
	else if (!pal_has_asked())
		return true;
	asked = bpf_task_storage_get(&asked_executions, bpf_get_current_task_btf(), NULL, waits ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);
	if (!asked)
		return !waits;
	if (!again || asked->execution != (__u64)bprm || asked->policy != act->subject->policy) {
		asked->execution = (__u64)bprm;
		asked->policy = act->subject->policy;
		asked->count = 0;
	}
	if (!waits)
		return true;
	at = asked->count;
	asked->count = at + 1;
	if (at < PAL_ASKED_MAX) {
		asked->words[at] = act->word;
		asked->argc[at] = bprm->argc;
	}
	return true;
}

#endif

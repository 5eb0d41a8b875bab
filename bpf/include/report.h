/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What hooks that can deny do with a settled act: say what was decided and done, and turn the effect into their errno.
 * A permitted act says nothing here: observation is the probes' business.
 */
#ifndef PALISADE_REPORT_H
#define PALISADE_REPORT_H

#include "decide.h"
#include "emit.h"

/*
 * By what means the hooks' programs are attached: the same functions are loaded as BPF LSM programs, or as programs that run
 * before security_* and may take its place (fmod_ret). Set before loading.
 */
const volatile __u32 pal_hook_tier = PAL_TIER_BPF_LSM;

static __always_inline bool pal_is_denied(const struct pal_act *act)
{
	return pal_effect(act) == PAL_EFFECT_BLOCK;
}

static __always_inline int pal_errno(const struct pal_act *act, int denial)
{
	if (!pal_is_denied(act))
		return 0;
	pal_count(PAL_COUNTER_DENIED);
	return -denial;
}

/* The verdict of a hook whose denial is the system call's failure. */
static __always_inline void pal_lsm_verdict(const struct pal_act *act, struct pal_verdict *verdict)
{
	verdict->word = act->word;
	verdict->tier = pal_hook_tier;
	verdict->outcome = pal_is_denied(act) ? PAL_OUTCOME_DENIED : PAL_OUTCOME_OBSERVED;
	verdict->fail_reason = pal_fail_reason(act);
	verdict->family = act->family;
}

/* The path that was judged. */
static __always_inline void pal_judged_path(const struct pal_act *act, struct pal_text *path)
{
	bool named = act->naming == PAL_NAMED && act->scratch && act->start < PAL_PATH_SIZE;

	path->from = named ? act->scratch->path + act->start : NULL;
	path->len = pal_veiled(named ? PAL_PATH_SIZE - act->start : 0);
	path->flags = pal_veiled(named ? 0 : PAL_SPAN_UNREADABLE);
}

#endif

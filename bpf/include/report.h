/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * What hooks do with a settled act: count, tell, and turn the effect into their errno.
 */
#ifndef PALISADE_REPORT_H
#define PALISADE_REPORT_H

#include "decide.h"

static __always_inline int pal_outcome(struct pal_act *act, int denial)
{
	if (pal_effect(act) != PAL_EFFECT_BLOCK)
		return 0;
	pal_count(PAL_COUNTER_DENIED);
	return -denial;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The policy blob: everything that decides for one workload, immutable and content-addressed.
 *
 * This header is the truth for the layout; messages/kernel-abi/src/blob.rs is its twin and a BTF test holds them equal.
 * One array of 32-bit words holds the rows of three automata and the decision tables, so that a size class is one number
 * and every index is masked by that number. A map value is struct pal_blob_head, then words[1 << log2]. All offsets are *word* offsets into words[].
 *
 * Automaton row:  [0] accept id, [1] self (the NUL column, so that padding does not move the state), [2 + class] next row.
 *                 States are premultiplied: a state *is* the word offset of its row. Rows below `absorbing` (and at or
 *                 above the automaton's first row) lead only to themselves: a walk may stop there.
 * Decision table: words[base + (accept * sources + source) * modifiers + modifier] is a decision word.
 *                 An accept id not below accepts, or a source id not below sources, is taken as 0; the modifier is masked
 *                 with modifiers - 1. A family whose bit in head.families is clear permits.
 * Decision word:  bits 0..1 effect, bit 2 "by the default posture", bits 8..31 rule index + 1 (0: no rule).
 */
#ifndef PALISADE_BLOB_H
#define PALISADE_BLOB_H

#define PAL_BLOB_MAGIC 0x424c4150u /* "PALB" */
#define PAL_BLOB_VERSION 1u

enum pal_automaton {
	PAL_AUTOMATON_PATH = 0,    /* input: absolute path bytes */
	PAL_AUTOMATON_SOURCE = 1,  /* input: absolute path of the acting executable */
	PAL_AUTOMATON_NETWORK = 2, /* input: the symbols of an endpoint, see below */
	PAL_AUTOMATA = 3,
};

enum pal_family {
	PAL_FAMILY_PROCESS = 0, /* exec; path automaton; modifiers: owner */
	PAL_FAMILY_FILE = 1,    /* open; path automaton; modifiers: owner, write */
	PAL_FAMILY_SOCKET = 2,  /* socket creation; network automaton over the first PAL_ENDPOINT_SOCKET symbols */
	PAL_FAMILY_CONNECT = 3, /* connect; network automaton over the whole endpoint */
	PAL_FAMILY_PTRACE = 4,  /* ptrace; path automaton over the target's executable */
	PAL_FAMILIES = 5,
};

enum pal_effect {
	PAL_EFFECT_PERMIT = 0,
	PAL_EFFECT_AUDIT = 1,
	PAL_EFFECT_BLOCK = 2,
};

#define PAL_DECISION_EFFECT_MASK 3u
#define PAL_DECISION_BY_POSTURE 4u
#define PAL_DECISION_RULE_SHIFT 8

#define PAL_MODIFIER_OWNER 1u /* the acting uid owns the file */
#define PAL_MODIFIER_WRITE 2u /* the open asks for write access, truncation or creation */

/* What the network automaton reads: domain, type, protocol, port (network order), address (4 or 16 bytes), each byte as two
 * symbols, 1 + its high nibble, then 1 + its low nibble. So there are at most 16 classes whatever the rules (rows stay short),
 * and no symbol is NUL: zero padding does not move the state here either. Before that, in this order:
 *   - an IPv4-mapped IPv6 address is written as its IPv4 address, and the domain is then AF_INET;
 *   - the unspecified address is written as loopback (0.0.0.0 as 127.0.0.1, :: as ::1): connect(2) goes there;
 *   - type is without SOCK_NONBLOCK and SOCK_CLOEXEC; protocol is the low byte (IPPROTO_MPTCP, 262, becomes 6: TCP).
 * A socket's creation has the first PAL_ENDPOINT_SOCKET symbols, and so has a connect of another domain. */
#define PAL_ENDPOINT_SOCKET 6
#define PAL_ENDPOINT_MAX 42

struct pal_automaton_head {
	__u32 start;
	__u32 absorbing;
	__u32 states;
	__u32 reserved;
	__u8 class_of[256]; /* byte -> column in a row; NUL is 1 */
};

struct pal_family_head {
	__u32 base;
	__u32 accepts;
	__u32 sources;   /* columns for source ids; 1 where no rule names a source */
	__u32 modifiers; /* 1 or 4, a power of two */
};

struct pal_blob_head {
	__u32 magic;
	__u32 version;
	__u32 words;    /* used words */
	__u32 families; /* bit n: family n has rules or a posture; otherwise everything in it is permitted */
	struct pal_automaton_head automaton[PAL_AUTOMATA];
	struct pal_family_head family[PAL_FAMILIES];
	__u8 digest[32]; /* BLAKE3 of the blob with this field zero */
};

/* Size classes: log2 of the words of the inner map's single value. */
#define PAL_BLOB_LOG2_16K 12
#define PAL_BLOB_LOG2_128K 15
#define PAL_BLOB_LOG2_1M 18
#define PAL_BLOB_LOG2_8M 21
#define PAL_BLOB_CLASSES 4

#endif

/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0
 *
 * The policy blob: everything that decides for one workload, immutable and content-addressed.
 *
 * This header is the truth for the layout; messages/kernel-abi/src/blob.rs is its twin and a BTF test holds them equal.
 * One array of 32-bit words holds the rows of all automata and the decision tables, so that a size class is one number
 * and every index is masked by that number. A map value is struct pal_blob_head, then words[1 << log2]. All offsets are *word* offsets into words[].
 *
 * Automaton, flat:  a row is [0] accept id, [1] self (the NUL column, so that padding does not move the state), [2 + class] next row.
 *                   States are premultiplied: a state *is* the word offset of its row.
 * Automaton, comb:  rows without their most common target, pushed into each other. All is cells of two words, at even offsets. A state
 *                   *is* the word offset of its own cell, {most common target, PAL_COMB_STATE | accept id}; the cell at state + 2 * class
 *                   is {target, state} where the class leads elsewhere. Whatever else lies there names another state. The start
 *                   state has a cell for NUL, class 1, which leads back to it: only there is NUL read.
 *                   A tenth of the flat form's memory for the long unshared ends of many paths, some instructions more a byte.
 *                   In both forms states below `absorbing` (and of this automaton) lead only to themselves: a walk may stop there.
 * Decision table:   words[base + (accept * sources + source) * modifiers + modifier] is a decision word.
 *                   An accept id not below accepts, or a source id not below sources, is taken as 0; the modifier is masked
 *                   with modifiers - 1. A family whose bit in head.families is clear permits.
 * Names:            a path is judged twice, whole and by its last component, and the word of the higher rank decides: the bare-name
 *                   automaton's accept ids are rows of the same tables. One automaton of both would be their product.
 * Decision word:    bits 0..1 effect, bit 2 "by the default posture", bits 4..11 argument set (0: none), bits 12..28 rule index + 1 (0: no rule),
 *                   bits 29..31 rank. Two words of one table and act are compared as numbers: their ranks differ, or both are 0 and they are equal.
 * Argument set:     a word that names one holds as it stands where the arguments do not meet the set (a word by posture then names no rule), and
 *                   where they do the act is permitted by the word's rule. words[arguments.base + accept * arguments.sources + set] are the alternatives
 *                   of the set, a bit each, that hold the argument: the arguments meet the set if there are any and the AND over all is not 0.
 */
#ifndef PALISADE_BLOB_H
#define PALISADE_BLOB_H

#define PAL_BLOB_MAGIC 0x424c4150u /* "PALB" */
#define PAL_BLOB_VERSION 2u

enum pal_automaton {
	PAL_AUTOMATON_PATH = 0,    /* input: absolute path bytes */
	PAL_AUTOMATON_SOURCE = 1,  /* input: absolute path of the acting executable */
	PAL_AUTOMATON_NETWORK = 2, /* input: the symbols of an endpoint, see below */
	PAL_AUTOMATON_NAME = 3,     /* input: a domain name in lower case as a path from its last label: /com/example/www; a label's own slash or NUL is 0xff */
	PAL_AUTOMATON_ARGUMENT = 4, /* input: one argument's bytes */
	PAL_AUTOMATON_BASENAME = 5, /* input: a path's last component, without its slash */
	PAL_AUTOMATA = 6,
};

enum pal_family {
	PAL_FAMILY_PROCESS = 0,    /* exec; path automaton; modifiers: owner, tty */
	PAL_FAMILY_FILE = 1,       /* open; path automaton; modifiers: owner, write, tty */
	PAL_FAMILY_SOCKET = 2,     /* socket creation; network automaton over the first PAL_ENDPOINT_SOCKET symbols; modifiers: tty */
	PAL_FAMILY_CONNECT = 3,    /* connect; network automaton over the whole endpoint; modifiers: tty */
	PAL_FAMILY_PTRACE = 4,     /* ptrace; path automaton over the target's executable */
	PAL_FAMILY_CAPABILITY = 5, /* use of a capability; the accept id is its number + 1 */
	PAL_FAMILY_SYSCALL = 6,    /* a system call; the accept id is PAL_SYSCALL_ACCEPT or PAL_SYSCALL_ACCEPT_COMPAT */
	PAL_FAMILY_DNS = 7,        /* a question for a name; name automaton */
	PAL_FAMILY_PRESET = 8,     /* the accept id is enum pal_preset */
	PAL_FAMILIES = 9,
	PAL_FAMILY_WRITES = 12,    /* no table of its own: in a policy's number and idle_families, that the file family denies writing of what it permits to be read */
};

/* Tables without an automaton have as many rows as there are ids, and one for "none". */
#define PAL_CAPABILITY_ACCEPTS 65u
#define PAL_SYSCALLS 512u /* 64-bit and 32-bit each (x86-64 and i386, or aarch64 and arm): a number past it decides nothing */
#define PAL_SYSCALL_ACCEPT(number) ((number) + 1u)
#define PAL_SYSCALL_ACCEPT_COMPAT(number) ((number) + 1u + PAL_SYSCALLS)
#define PAL_SYSCALL_ACCEPTS (2u * PAL_SYSCALLS + 1u)

enum pal_preset {
	PAL_PRESET_FILELESS_EXEC = 1,
	PAL_PRESET_ANON_MAP_EXEC = 2,
	PAL_PRESET_PROTECT_ENV = 3,
	PAL_PRESET_PROTECT_PROC = 4,
	PAL_PRESET_EXEC = 5,
	PAL_PRESET_ACCEPTS = 6,
};

enum pal_effect {
	PAL_EFFECT_PERMIT = 0,
	PAL_EFFECT_AUDIT = 1,
	PAL_EFFECT_BLOCK = 2,
};

#define PAL_DECISION_EFFECT_MASK 3u
#define PAL_DECISION_BY_POSTURE 4u
#define PAL_DECISION_ARGUMENTS_SHIFT 4
#define PAL_DECISION_ARGUMENTS_MASK 255u
#define PAL_DECISION_RULE_SHIFT 12
#define PAL_DECISION_RULE_MASK 0x1ffffu
#define PAL_DECISION_RANK_SHIFT 29

#define PAL_DECISION_ARGUMENTS(word) ((word) >> PAL_DECISION_ARGUMENTS_SHIFT & PAL_DECISION_ARGUMENTS_MASK)

#define PAL_MODIFIER_OWNER 1u /* the acting uid owns the file */
#define PAL_MODIFIER_WRITE 2u /* the act changes the file, its name or what is said of it, or opens it so that it could */
#define PAL_MODIFIER_TTY 4u   /* the acting process has a controlling terminal */

/* A bare name is longer than any component: the last PAL_BASENAME_MAX bytes of a path are looked through for its slash. */
#define PAL_BASENAME_MAX 255

/* What the network automaton reads: domain, type, protocol, port (network order), address (4 or 16 bytes), each byte as two
 * symbols, 1 + its high nibble, then 1 + its low nibble. So there are at most 16 classes whatever the rules (rows stay short),
 * and no symbol is NUL: zero padding does not move the state here either. Before that, in this order:
 *   - an IPv4-mapped IPv6 address is written as its IPv4 address, and the domain is then AF_INET;
 *   - the unspecified address is written as loopback (0.0.0.0 as 127.0.0.1, :: as ::1): connect(2) goes there;
 *   - type is without SOCK_NONBLOCK and SOCK_CLOEXEC; protocol is the low byte (IPPROTO_MPTCP, 262, becomes 6: TCP).
 * A socket's creation has the first PAL_ENDPOINT_SOCKET symbols, and so has a connect of another domain. */
#define PAL_ENDPOINT_SOCKET 6
#define PAL_ENDPOINT_MAX 42

enum pal_form {
	PAL_FORM_FLAT = 0,
	PAL_FORM_COMB = 1,
};

#define PAL_COMB_STATE 0x80000000u /* in a cell's second word: it is a state's own */
#define PAL_COMB_FREE 0x7fffffffu  /* in a cell's second word: nobody's */

struct pal_automaton_head {
	__u32 start;
	__u32 absorbing;
	__u32 words; /* of all rows or cells */
	__u32 form;  /* enum pal_form */
	__u8 class_of[256]; /* byte -> column in a row; NUL is 1 */
};

struct pal_family_head {
	__u32 base;
	__u32 accepts;
	__u32 sources;   /* columns for source ids; 1 where no rule names a source */
	__u32 modifiers; /* 1, 4 or 8 */
};

struct pal_blob_head {
	__u32 magic;
	__u32 version;
	__u32 words;    /* used words */
	__u32 families; /* bit n: family n has rules or a posture; otherwise everything in it is permitted */
	struct pal_automaton_head automaton[PAL_AUTOMATA];
	struct pal_family_head family[PAL_FAMILIES];
	struct pal_family_head arguments; /* sources: argument sets + 1; modifiers: 1; all 0 without argument sets */
	__u8 digest[32]; /* BLAKE3 of the blob with this field zero */
};

/* Size classes: log2 of the words of the inner map's single value. */
#define PAL_BLOB_LOG2_16K 12
#define PAL_BLOB_LOG2_128K 15
#define PAL_BLOB_LOG2_1M 18
#define PAL_BLOB_LOG2_8M 21
#define PAL_BLOB_CLASSES 4

#endif

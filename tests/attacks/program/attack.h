/* SPDX-License-Identifier: Apache-2.0 */
/* What the attacks share; main.c says what the program is. */
#ifndef ATTACK_H
#define ATTACK_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECRET "/kept/secret"
#define TOOL "/kept/tool"
#define ENDS 1200

/* `prepare` is before the policy, `act` under it: 0, or what the kernel said, negative. */
struct attack {
	const char *name;
	void (*prepare)(void);
	long (*act)(void);
};

extern const struct attack of_names[], of_mounts[], of_programs[], of_rings[], of_calls[], of_writes[], of_sockets[], of_processes[], of_races[];

/* Set where the attack reached what it was after and nobody else can see it. */
extern bool effect;
/* Where the root is on the host. */
extern char host_root[];
/* How many acts, where an attack is many; and what it says of them. */
extern long amount;
extern char note[256];

/* Ends with a reason where the attack cannot be tried. */
void need(bool done, const char *what);
long said(long result);
long take(long descriptor);
long look(const char *path);
/* Executes it in a child, and is what execve(2) said; the program marks that it ran. */
long run(const char *path);
long run_with(const char *path, char *const arguments[]);
long run_descriptor(int descriptor);
void copy(const char *from, const char *to);
int copy_into(const char *from, int to);
/* What a child's function said. */
long in_child(long (*act)(void));
/* A child that waits for its parent's end; its number. */
pid_t victim(void);

#endif

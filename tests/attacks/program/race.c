// SPDX-License-Identifier: Apache-2.0
/* Processes that compete on each CPU, half of them refused and half of them not: memory that one of them writes while another reads is seen. */
#include "attack.h"

#define WORKERS 8

static struct {
	/* Opens that are still to be refused. */
	long left;
	/* Went through, though blocked; was refused, though permitted; neither. */
	long passed, refused, other;
	/* Outcomes of what the two policies decide differently. */
	long yes, no;
	int over;
} *shared;
static pid_t workers[WORKERS];
static int count;
static long cpus;

static void share(void)
{
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	need(shared != MAP_FAILED, "mmap");
	shared->left = amount;
	/* It reads a file, which the policy may forbid later. */
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
}

static void add(long *counter)
{
	__atomic_add_fetch(counter, 1, __ATOMIC_RELAXED);
}

static bool is_denial(void)
{
	return errno == EPERM || errno == EACCES;
}

/* An open that must be refused, or must not. */
static void look_once(const char *path, bool blocked)
{
	int file = open(path, O_RDONLY | O_CLOEXEC);

	if (file >= 0) {
		close(file);
		if (blocked)
			add(&shared->passed);
	} else if (!is_denial()) {
		add(&shared->other);
	} else if (!blocked) {
		add(&shared->refused);
	}
}

static void race(int number)
{
	/* Each name as long as the other, so that the same bytes of memory are what matters. */
	const char *paths[] = {"/kept/sibling", "/free/sibling"};
	bool blocked = number % 2 == 0;

	if (!blocked)
		while (__atomic_load_n(&shared->left, __ATOMIC_RELAXED) > 0)
			look_once(paths[1], false);
	else
		while (__atomic_fetch_sub(&shared->left, 1, __ATOMIC_RELAXED) > 0)
			look_once(paths[0], true);
}

static void start(int number, void (*work)(int))
{
	cpu_set_t one;

	workers[number] = fork();
	need(workers[number] >= 0, "fork");
	if (workers[number])
		return;
	CPU_ZERO(&one);
	CPU_SET((number / 2) % cpus, &one);
	need(!sched_setaffinity(0, sizeof one, &one), "affinity");
	work(number);
	_exit(0);
}

static long finish(void)
{
	for (int number = 0; number < count; number++)
		need(waitpid(workers[number], NULL, 0) > 0, "wait");
	effect = shared->passed || shared->refused || shared->other;
	snprintf(note, sizeof note, "passed=%ld refused=%ld other=%ld yes=%ld no=%ld", shared->passed, shared->refused, shared->other, shared->yes,
		 shared->no);
	return -EACCES;
}

static void prepare_race(void)
{
	const char *paths[] = {"/kept/sibling", "/free/sibling"};

	for (int number = 0; number < 2; number++)
		need(close(open(paths[number], O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) == 0, paths[number]);
	share();
}

static long start_race(void)
{
	for (count = 0; count < WORKERS; count++)
		start(count, race);
	return finish();
}

/* What the one policy says of two files the other says of neither; and two files that both say the same of. */
static void look_around(int number)
{
	const char *paths[] = {"/swap/file", "/swap/other"};

	(void)number;
	while (!__atomic_load_n(&shared->over, __ATOMIC_RELAXED)) {
		look_once("/swap/never", true);
		look_once("/swap/always", false);
		for (int which = 0; which < 2; which++) {
			int file = open(paths[which], O_RDONLY | O_CLOEXEC);

			if (file < 0 && !is_denial())
				add(&shared->other);
			add(file < 0 ? &shared->no : &shared->yes);
			close(file);
		}
	}
}

static void prepare_swap(void)
{
	const char *paths[] = {"/swap/file", "/swap/other", "/swap/never", "/swap/always"};

	need(!mkdir("/swap", 0755), "mkdir");
	for (int number = 0; number < 4; number++)
		need(close(open(paths[number], O_WRONLY | O_CREAT | O_CLOEXEC, 0644)) == 0, paths[number]);
	share();
}

static long start_swap(void)
{
	char word[8];

	for (count = 0; count < WORKERS / 2; count++)
		start(count, look_around);
	need(scanf("%7s", word) == 1, "the end");
	shared->over = 1;
	return finish();
}

const struct attack of_races[] = {
	{"race", prepare_race, start_race},
	{"swap", prepare_swap, start_swap},
	{NULL, NULL, NULL},
};

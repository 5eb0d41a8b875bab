// SPDX-License-Identifier: Apache-2.0
/*
 * Attacks by raw system calls, for tests/attacks: the only program there that is not safe Rust, and static, so that nothing that a policy
 * forbids is needed to start it.
 *
 * `--acting` as the first argument makes it the attacker: a line of standard input has the attack's name, where the root is on the host, and a
 * number; it prepares, says `ready`, waits for a line, attacks, and says `errno=NUMBER effect=yes|no NOTE`. With any other argument or none it
 * is what is executed, and marks that it ran.
 */
#include "attack.h"

bool effect;
char host_root[4096], note[256];
long amount;

static const struct attack *const all[] = {of_names, of_mounts, of_programs, of_rings, of_calls, of_writes, of_sockets, of_processes, of_races};

void need(bool done, const char *what)
{
	if (done)
		return;
	printf("cannot: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	_exit(1);
}

long said(long result)
{
	return result < 0 ? -errno : result;
}

long take(long descriptor)
{
	char bytes[6];

	if (descriptor < 0)
		return -errno;
	if (read(descriptor, bytes, sizeof bytes) == sizeof bytes && !memcmp(bytes, "hidden", sizeof bytes))
		effect = true;
	close(descriptor);
	return 0;
}

long look(const char *path)
{
	return take(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
}

/* The errno comes over a pipe that execution closes. */
static long executed(int descriptor, const char *path, char *const arguments[])
{
	int ends[2], failed = 0, status;
	char *const environment[] = {NULL};
	pid_t child;

	need(!pipe2(ends, O_CLOEXEC), "pipe");
	child = fork();
	need(child >= 0, "fork");
	if (!child) {
		syscall(SYS_execveat, descriptor, path, arguments, environment, *path ? 0 : AT_EMPTY_PATH);
		failed = errno;
		if (write(ends[1], &failed, sizeof failed) < 0)
			_exit(2);
		_exit(1);
	}
	close(ends[1]);
	if (read(ends[0], &failed, sizeof failed) < 0)
		failed = EIO;
	close(ends[0]);
	need(waitpid(child, &status, 0) == child, "wait");
	/* Killed for its execution: the attacker is who was killed. */
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		raise(SIGKILL);
	/* Its interpreter could not be mapped, when there was no caller any more to be told so. */
	return WIFSIGNALED(status) ? -EACCES : -failed;
}

long run_with(const char *path, char *const arguments[])
{
	return executed(AT_FDCWD, path, arguments);
}

long run(const char *path)
{
	char *const arguments[] = {(char *)path, NULL};

	return run_with(path, arguments);
}

long run_descriptor(int descriptor)
{
	char *const arguments[] = {"tool", NULL};

	return executed(descriptor, "", arguments);
}

int copy_into(const char *from, int to)
{
	static char bytes[1 << 16];
	int source = open(from, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	need(source >= 0 && to >= 0, from);
	while ((length = read(source, bytes, sizeof bytes)) > 0)
		need(write(to, bytes, length) == length, from);
	close(source);
	return to;
}

void copy(const char *from, const char *to)
{
	close(copy_into(from, open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755)));
}

/* What the child found out is its status: an errno, and above it the effect. */
long in_child(long (*act)(void))
{
	pid_t child = fork();
	int status;

	need(child >= 0, "fork");
	if (!child) {
		long failed = -act();

		_exit((failed > 0 && failed < 127 ? failed : 0) | (effect ? 0x80 : 0));
	}
	if (waitpid(child, &status, 0) < 0)
		return -errno;
	/* The attacker is who was killed. */
	if (WIFSIGNALED(status))
		raise(WTERMSIG(status));
	effect |= WEXITSTATUS(status) & 0x80;
	return -(WEXITSTATUS(status) & 0x7f);
}

/* It has no end of the attacker's pipes: whoever reads them is to hear when the attacker is gone. */
pid_t victim(void)
{
	int ends[2];
	char byte;
	pid_t child;

	need(!pipe2(ends, O_CLOEXEC), "pipe");
	child = fork();
	need(child >= 0, "fork");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		if (write(ends[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	need(read(ends[0], &byte, 1) == 1, "victim");
	close(ends[0]);
	close(ends[1]);
	return child;
}

static const struct attack *find(const char *name)
{
	for (size_t group = 0; group < sizeof all / sizeof *all; group++)
		for (const struct attack *attack = all[group]; attack->name; attack++)
			if (!strcmp(attack->name, name))
				return attack;
	return NULL;
}

static int mark(void)
{
	int file = open("/free/ran", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	return file >= 0 && write(file, "ran\n", 4) == 4 ? 0 : 1;
}

int main(int count, char **arguments)
{
	char name[64], go[8];
	const struct attack *attack;
	long result;

	if (count < 2 || strcmp(arguments[1], "--acting"))
		return mark();
	alarm(ENDS);
	need(scanf("%63s %4095s %ld", name, host_root, &amount) == 3, "orders");
	attack = find(name);
	need(attack, name);
	if (attack->prepare)
		attack->prepare();
	puts("ready");
	fflush(stdout);
	need(scanf("%7s", go) == 1, "go");
	result = attack->act();
	printf("errno=%ld effect=%s %s\n", result < 0 ? -result : 0, effect ? "yes" : "no", note);
	fflush(stdout);
	return 0;
}

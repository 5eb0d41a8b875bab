/*
 * act: does one thing that a policy may forbid, and says what became of it. Static, so that it runs in any image.
 *
 *   act open PATH           opens PATH for reading and reads from it
 *   act exec PATH           executes PATH (a copy of this program), which then speaks
 *   act ptrace              attaches to another process of its own and reads a word of its memory
 *   act connect ADDR PORT   connects by TCP (IPv4) and reads the server's greeting
 *   act serve ADDR PORT     greets whoever connects, and prints a line for each
 *
 * Each act but serve is done by a child and reported by its parent, for enforcement may kill whoever acts. One line on standard output:
 *   result=<ok|SIGKILL|name of errno> effect=<absent|present>
 * "effect" is what the act was for (bytes of the file, the other program's words, the memory's word, the greeting), so that an error
 * is not taken for a denial that came too late. Exit status: 0 when the line was printed, 2 for anything else.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the ptrace act looks for in the other process: the same address in parent and child of a fork. */
static volatile long word = 0x70616c69;

/* The child's report: an errno as a byte on one pipe, the effect as any bytes on the other. */
struct report {
	int error[2];
	int effect[2];
};

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(2);
}

/* In the child: ends it, with the errno of what failed (0: nothing did). */
static _Noreturn void done(const struct report *report, int error)
{
	unsigned char byte = (unsigned char)error;

	if (write(report->error[1], &byte, 1) != 1)
		_exit(2);
	_exit(0);
}

static void show_effect(const struct report *report, const void *bytes, size_t count)
{
	if (write(report->effect[1], bytes, count) != (ssize_t)count)
		_exit(2);
}

static void do_open(const struct report *report, char **words)
{
	char bytes[64];
	int fd = open(words[0], O_RDONLY | O_CLOEXEC);
	ssize_t count;

	if (fd < 0)
		done(report, errno);
	count = read(fd, bytes, sizeof(bytes));
	if (count < 0)
		done(report, errno);
	show_effect(report, bytes, (size_t)count);
	done(report, 0);
}

static void do_exec(const struct report *report, char **words)
{
	char *arguments[] = { words[0], "speak", NULL };

	if (dup2(report->effect[1], STDOUT_FILENO) < 0)
		die("dup2");
	execv(words[0], arguments);
	done(report, errno);
}

static void do_ptrace(const struct report *report, char **words)
{
	pid_t other = (pid_t)atoi(words[0]);
	int status;
	long seen;

	if (ptrace(PTRACE_SEIZE, other, NULL, NULL) < 0)
		done(report, errno);
	if (ptrace(PTRACE_INTERRUPT, other, NULL, NULL) < 0 || waitpid(other, &status, __WALL) != other)
		done(report, errno);
	errno = 0;
	seen = ptrace(PTRACE_PEEKDATA, other, (void *)&word, NULL);
	if (errno)
		done(report, errno);
	if (seen == word)
		show_effect(report, &seen, sizeof(seen));
	done(report, 0);
}

static struct sockaddr_in endpoint(char **words)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[1])) };

	if (inet_pton(AF_INET, words[0], &address.sin_addr) != 1) {
		fprintf(stderr, "act: %s is not an IPv4 address\n", words[0]);
		exit(2);
	}
	return address;
}

static void do_connect(const struct report *report, char **words)
{
	struct sockaddr_in address = endpoint(words);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char bytes[64];
	ssize_t count;

	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		done(report, errno);
	count = read(fd, bytes, sizeof(bytes));
	if (count < 0)
		done(report, errno);
	show_effect(report, bytes, (size_t)count);
	done(report, 0);
}

static _Noreturn void serve(char **words)
{
	struct sockaddr_in address = endpoint(words);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
		die("act serve");
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	printf("serving %s\n", words[1]);
	for (;;) {
		int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (peer < 0)
			die("act serve: accept");
		printf("connected %s\n", words[1]);
		if (write(peer, "greetings\n", 10) != 10)
			printf("gone %s\n", words[1]);
		close(peer);
	}
}

/* A process to be traced, which ends with its parent. */
static pid_t other_process(void)
{
	pid_t other = fork();

	if (other < 0)
		die("fork");
	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Where Yama restricts tracing to ancestors: this act is about the policy, not about Yama. */
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
		for (;;)
			pause();
	}
	return other;
}

static const char *name_of(int error)
{
	switch (error) {
	case 0: return "ok";
	case EPERM: return "EPERM";
	case EACCES: return "EACCES";
	case ENOENT: return "ENOENT";
	case ECONNREFUSED: return "ECONNREFUSED";
	case ETIMEDOUT: return "ETIMEDOUT";
	case ENETUNREACH: return "ENETUNREACH";
	default: return strerror(error);
	}
}

static int report_of(pid_t child, const struct report *report)
{
	unsigned char error = 0;
	char byte;
	int status, said, present;

	close(report->error[1]);
	close(report->effect[1]);
	if (waitpid(child, &status, 0) != child)
		die("waitpid");
	said = read(report->error[0], &error, 1) == 1;
	present = read(report->effect[0], &byte, 1) == 1;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
		printf("result=SIGKILL");
	else if (WIFSIGNALED(status))
		printf("result=signal-%d", WTERMSIG(status));
	else if (said || present)
		printf("result=%s", name_of(error));
	else
		return 2;
	printf(" effect=%s\n", present ? "present" : "absent");
	return 0;
}

int main(int count, char **words)
{
	static const struct {
		const char *name;
		int words;
		void (*act)(const struct report *, char **);
	} acts[] = { { "open", 1, do_open }, { "exec", 1, do_exec }, { "ptrace", 0, do_ptrace }, { "connect", 2, do_connect } };
	char pid[16], *traced[] = { pid, NULL };
	struct report report;

	if (count == 2 && !strcmp(words[1], "speak"))
		return puts("executed") < 0;
	if (count == 4 && !strcmp(words[1], "serve"))
		serve(words + 2);
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		int is_ptrace = acts[i].act == do_ptrace;
		pid_t child;

		if (count != acts[i].words + 2 || strcmp(words[1], acts[i].name))
			continue;
		if (is_ptrace)
			snprintf(pid, sizeof(pid), "%d", other_process());
		if (pipe2(report.error, O_CLOEXEC) || pipe2(report.effect, O_CLOEXEC))
			die("pipe2");
		child = fork();
		if (child < 0)
			die("fork");
		if (child == 0)
			acts[i].act(&report, is_ptrace ? traced : words + 2);
		return report_of(child, &report);
	}
	fputs("usage: act open PATH | exec PATH | ptrace | connect ADDR PORT | serve ADDR PORT\n", stderr);
	return 2;
}

// SPDX-License-Identifier: Apache-2.0
/* System calls beside those that rules are mostly thought of with, other entries to the kernel, and arguments that change meanwhile. */
#include "attack.h"
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>

#define FLIPS 4000
#define WHOLE 4096

static int held = -1;

static long open_by_openat2(void)
{
	struct open_how how = {.flags = O_RDONLY};

	return take(syscall(SYS_openat2, AT_FDCWD, SECRET, &how, sizeof how));
}

static void hold_root(void)
{
	held = open("/free", O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(held >= 0 && !symlink("/kept", "/free/kept-there"), "open");
	held = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The link is resolved in a root of the call's own. */
static long open_in_root(void)
{
	struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT};

	return take(syscall(SYS_openat2, held, "free/kept-there/secret", &how, sizeof how));
}

static long exchange(void)
{
	long done = said(syscall(SYS_renameat2, AT_FDCWD, "/free/open", AT_FDCWD, SECRET, 2 /* RENAME_EXCHANGE */));

	return done < 0 ? done : look("/free/open");
}

static struct {
	struct file_handle head;
	unsigned char bytes[128];
} handle = {.head.handle_bytes = 128};

/* Of a file system that has handles. */
static void name_handle(void)
{
	int mount_number, file;

	need(!mkdir("/kept/volume", 0755) && !mount("tmpfs", "/kept/volume", "tmpfs", 0, NULL), "tmpfs");
	file = open("/kept/volume/secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	need(file >= 0 && write(file, "hidden\n", 7) == 7 && !close(file), "secret");
	need(!name_to_handle_at(AT_FDCWD, "/kept/volume/secret", &handle.head, &mount_number, 0), "name_to_handle_at");
	held = open("/kept/volume", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	need(held >= 0, "open");
}

static long open_by_handle(void)
{
	return take(open_by_handle_at(held, &handle.head, O_RDONLY));
}

static long look_at_secret(void)
{
	return look(SECRET);
}

static long by_clone3(void)
{
	struct clone_args arguments = {.exit_signal = SIGCHLD};
	long child = syscall(SYS_clone3, &arguments, sizeof arguments);
	int status;

	need(child >= 0, "clone3");
	if (!child) {
		long failed = -look_at_secret();

		_exit((failed & 0x7f) | (effect ? 0x80 : 0));
	}
	need(waitpid(child, &status, 0) == child, "wait");
	effect = WEXITSTATUS(status) & 0x80;
	return -(WEXITSTATUS(status) & 0x7f);
}

/* The 32-bit entry: numbers and addresses of 32 bits. */
static long enter_32(long number, uint32_t one, uint32_t two, uint32_t three)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(one), "c"(two), "d"(three) : "memory", "r8", "r9", "r10", "r11");
	if ((int)result < 0) {
		errno = -(int)result;
		return -1;
	}
	return result;
}

static char *low(const char *text)
{
	char *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	need(at != MAP_FAILED, "mmap");
	return strcpy(at, text);
}

static void try_32(void)
{
	/* getpid */
	need(enter_32(20, 0, 0, 0) == getpid(), "32-bit entry");
}

static long open_32(void)
{
	return take(enter_32(5, (uint32_t)(uintptr_t)low(SECRET), O_RDONLY, 0));
}

static long unlink_32(void)
{
	return said(enter_32(10, (uint32_t)(uintptr_t)low(SECRET), 0, 0));
}

static pid_t target;

static void start_victim(void)
{
	try_32();
	target = victim();
}

static long trace_32(void)
{
	long done = said(enter_32(26, 16 /* PTRACE_ATTACH */, target, 0));

	effect = !done;
	return done;
}

/* ---- arguments that change ---- */

static char flipped[sizeof SECRET];
static volatile bool over;

static void *flip(void *unused)
{
	(void)unused;
	while (!over) {
		memcpy(flipped, "/free/public", sizeof flipped);
		memcpy(flipped, SECRET, sizeof flipped);
	}
	return NULL;
}

static void make_public(void)
{
	int file = open("/free/public", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	_Static_assert(sizeof SECRET == sizeof "/free/public", "as long as each other");
	need(file >= 0 && write(file, "public\n", 7) == 7 && !close(file), "public");
}

static long open_flipping(void)
{
	pthread_t thread;
	long denied = 0;

	memcpy(flipped, SECRET, sizeof flipped);
	need(!pthread_create(&thread, NULL, flip, NULL), "thread");
	for (int again = 0; again < FLIPS; again++) {
		long done = look(flipped);

		if (done == -EPERM || done == -EACCES)
			denied = done;
	}
	over = true;
	pthread_join(thread, NULL);
	return denied;
}

/* Names in a directory are exchanged while they are walked. */
static void *exchange_names(void *unused)
{
	(void)unused;
	while (!over)
		syscall(SYS_renameat2, AT_FDCWD, "/free/here", AT_FDCWD, "/free/there", 2);
	return NULL;
}

static void make_links(void)
{
	make_public();
	need(!symlink(SECRET, "/free/here") && !symlink("/free/public", "/free/there"), "symlink");
}

static long open_exchanged(void)
{
	pthread_t thread;
	long denied = 0;

	need(!pthread_create(&thread, NULL, exchange_names, NULL), "thread");
	for (int again = 0; again < FLIPS; again++) {
		long done = look("/free/here");

		if (done == -EPERM || done == -EACCES)
			denied = done;
	}
	over = true;
	pthread_join(thread, NULL);
	return denied;
}

/* The path's page is not there when the kernel reads it: who gives it takes its time, and gives the secret's name. */
static char *absent;
static int faults = -1;

static void *give(void *unused)
{
	static char page[WHOLE] __attribute__((aligned(WHOLE))) = SECRET;
	struct uffd_msg message;
	struct uffdio_copy answer = {.dst = (uintptr_t)absent, .src = (uintptr_t)page, .len = WHOLE};

	(void)unused;
	if (read(faults, &message, sizeof message) != sizeof message)
		return NULL;
	usleep(100000);
	ioctl(faults, UFFDIO_COPY, &answer);
	return NULL;
}

static void watch_page(void)
{
	struct uffdio_api version = {.api = UFFD_API};
	struct uffdio_register area = {.mode = UFFDIO_REGISTER_MODE_MISSING};

	absent = mmap(NULL, WHOLE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(absent != MAP_FAILED, "mmap");
	faults = syscall(SYS_userfaultfd, O_CLOEXEC);
	need(faults >= 0 && !ioctl(faults, UFFDIO_API, &version), "userfaultfd");
	area.range = (struct uffdio_range){.start = (uintptr_t)absent, .len = WHOLE};
	need(!ioctl(faults, UFFDIO_REGISTER, &area), "UFFDIO_REGISTER");
}

static long open_stretched(void)
{
	pthread_t thread;
	long done;

	need(!pthread_create(&thread, NULL, give, NULL), "thread");
	done = look(absent);
	pthread_join(thread, NULL);
	return done;
}

const struct attack of_calls[] = {
	{"openat2", NULL, open_by_openat2},
	{"openat2-in-root", hold_root, open_in_root},
	{"exchange", NULL, exchange},
	{"handle", name_handle, open_by_handle},
	{"clone3", NULL, by_clone3},
	{"ia32-open", try_32, open_32},
	{"ia32-unlink", try_32, unlink_32},
	{"ia32-ptrace", start_victim, trace_32},
	{"flipping-path", make_public, open_flipping},
	{"exchanged-links", make_links, open_exchanged},
	{"userfault-path", watch_page, open_stretched},
	{NULL, NULL, NULL},
};

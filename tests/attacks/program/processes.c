// SPDX-License-Identifier: Apache-2.0
/* Who acts: names, parents, users, cgroups; and other processes' memory and descriptors. */
#include "attack.h"
#include <linux/sched.h>
#include <sys/fsuid.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static int held = -1;
static pid_t target;

static long look_at_secret(void)
{
	return look(SECRET);
}

static long under_another_name(void)
{
	need(!prctl(PR_SET_NAME, "innocent"), "prctl");
	return look_at_secret();
}

/* Its parent is gone when it acts: it tells by a pipe. */
static long as_orphan(void)
{
	int ends[2];
	long told[2] = {-EIO, 0};
	pid_t parent;

	need(!pipe(ends), "pipe");
	parent = fork();
	need(parent >= 0, "fork");
	if (!parent) {
		setsid();
		if (fork())
			_exit(0);
		while (getppid() == parent || getppid() == 0)
			usleep(1000);
		told[0] = look_at_secret();
		told[1] = effect;
		_exit(write(ends[1], told, sizeof told) == sizeof told ? 0 : 1);
	}
	waitpid(parent, NULL, 0);
	close(ends[1]);
	need(read(ends[0], told, sizeof told) == sizeof told, "orphan");
	effect = told[1];
	return told[0];
}

/* All that is mapped of the own executable is replaced by equal memory of no file, so that another can be called it. */
static void let_go_of_executable(void)
{
	char line[512], own[256] = {0};
	struct {
		uintptr_t begin, end;
		int protection;
	} areas[16];
	int count = 0;
	FILE *maps = fopen("/proc/self/maps", "re");

	need(maps && readlink("/proc/self/exe", own, sizeof own - 1) > 0, "maps");
	while (fgets(line, sizeof line, maps)) {
		unsigned long begin, end;
		char rights[5];

		if (!strstr(line, own) || sscanf(line, "%lx-%lx %4s", &begin, &end, rights) != 3 || count == 16)
			continue;
		areas[count].begin = begin;
		areas[count].end = end;
		areas[count++].protection = (rights[0] == 'r' ? PROT_READ : 0) | (rights[1] == 'w' ? PROT_WRITE : 0) | (rights[2] == 'x' ? PROT_EXEC : 0);
	}
	fclose(maps);
	for (int number = 0; number < count; number++) {
		size_t length = areas[number].end - areas[number].begin;
		void *twin = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		need(twin != MAP_FAILED, "twin");
		memcpy(twin, (void *)areas[number].begin, length);
		need(!mprotect(twin, length, areas[number].protection), "mprotect");
		need(mremap(twin, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)areas[number].begin) != MAP_FAILED, "mremap");
	}
}

static long as_another_executable(void)
{
	let_go_of_executable();
	held = open("/free/runs", O_RDONLY | O_CLOEXEC);
	need(held >= 0 && !prctl(PR_SET_MM, PR_SET_MM_EXE_FILE, held, 0, 0), "PR_SET_MM_EXE_FILE");
	return look_at_secret();
}

static long as_other_user(void)
{
	setfsuid(4321);
	need(setfsuid(-1) == 4321, "setfsuid");
	return look_at_secret();
}

static long as_other_user_for_good(void)
{
	need(!setresgid(4321, 4321, 4321) && !setresuid(4321, 4321, 4321), "setresuid");
	return look_at_secret();
}

/* ---- leaving the cgroup ---- */

static void mount_cgroups(void)
{
	need(!mkdir("/free/g", 0755) && !mount("cgroup2", "/free/g", "cgroup2", 0, NULL), "cgroup2");
}

static long write_procs(const char *path)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);

	need(file >= 0 && write(file, "0", 1) == 1, path);
	close(file);
	return look_at_secret();
}

static long leave_cgroup(void)
{
	return write_procs("/free/g/cgroup.procs");
}

static const char *own_cgroup(void)
{
	static char path[4200];
	char below[4096];
	FILE *file = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (file && !found && fgets(path, sizeof path, file))
		found = sscanf(path, "0::%4095s", below) == 1;
	need(found, "own cgroup");
	fclose(file);
	snprintf(path, sizeof path, "/free/g%s/child", below);
	return path;
}

static long in_child_cgroup(void)
{
	char procs[4400];
	const char *child = own_cgroup();

	need(!mkdir(child, 0755), "mkdir");
	snprintf(procs, sizeof procs, "%s/cgroup.procs", child);
	return write_procs(procs);
}

static long into_another_cgroup(void)
{
	int place = open("/free/g", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = place};
	long child = syscall(SYS_clone3, &arguments, sizeof arguments);
	int status;

	need(place >= 0 && child >= 0, "clone3");
	if (!child) {
		long failed = -look_at_secret();

		_exit((failed & 0x7f) | (effect ? 0x80 : 0));
	}
	need(waitpid(child, &status, 0) == child, "wait");
	effect = WEXITSTATUS(status) & 0x80;
	return -(WEXITSTATUS(status) & 0x7f);
}

/* ---- other processes ---- */

static char secret_of_victim[8] = "hidden";

static void start_victim(void)
{
	target = victim();
}

static long trace(int how)
{
	long done = said(ptrace(how, target, 0, 0));

	effect = !done;
	return done;
}

static long attach(void)
{
	return trace(PTRACE_ATTACH);
}

static long seize(void)
{
	return trace(PTRACE_SEIZE);
}

static long let_be_traced(void)
{
	long done = said(ptrace(PTRACE_TRACEME, 0, 0, 0));

	effect = !done;
	return done;
}

static long traced_child(void)
{
	return in_child(let_be_traced);
}

static long read_memory(void)
{
	char bytes[6] = {0};
	struct iovec to = {.iov_base = bytes, .iov_len = sizeof bytes}, from = {.iov_base = secret_of_victim, .iov_len = sizeof bytes};
	long done = said(process_vm_readv(target, &to, 1, &from, 1, 0));

	effect = !memcmp(bytes, "hidden", sizeof bytes);
	return done;
}

static long write_memory(void)
{
	struct iovec from = {.iov_base = "!", .iov_len = 1}, to = {.iov_base = secret_of_victim, .iov_len = 1};
	long done = said(process_vm_writev(target, &from, 1, &to, 1, 0));

	effect = done == 1;
	return done;
}

static long memory_file(int flags)
{
	char path[64], byte = '!';
	int file;
	long done;

	snprintf(path, sizeof path, "/proc/%d/mem", target);
	file = open(path, flags | O_CLOEXEC);
	if (file < 0)
		return -errno;
	done = said(flags == O_RDONLY ? pread(file, &byte, 1, (off_t)(uintptr_t)secret_of_victim)
				      : pwrite(file, &byte, 1, (off_t)(uintptr_t)secret_of_victim));
	effect = done == 1;
	return done;
}

static long read_memory_file(void)
{
	return memory_file(O_RDONLY);
}

static long write_memory_file(void)
{
	return memory_file(O_RDWR);
}

static void start_holder(void)
{
	held = open(SECRET, O_RDONLY);
	need(held >= 0, "open");
	target = victim();
	close(held);
}

static long take_descriptor(void)
{
	int process = syscall(SYS_pidfd_open, target, 0);

	need(process >= 0, "pidfd_open");
	return take(syscall(SYS_pidfd_getfd, process, held, 0));
}

const struct attack of_processes[] = {
	{"comm", NULL, under_another_name},
	{"orphan", NULL, as_orphan},
	{"executable-renamed", NULL, as_another_executable},
	{"fsuid", NULL, as_other_user},
	{"setresuid", NULL, as_other_user_for_good},
	{"look", NULL, look_at_secret},
	{"leave-cgroup", mount_cgroups, leave_cgroup},
	{"child-cgroup", mount_cgroups, in_child_cgroup},
	{"clone-into-cgroup", mount_cgroups, into_another_cgroup},
	{"ptrace-attach", start_victim, attach},
	{"ptrace-seize", start_victim, seize},
	{"ptrace-traceme", NULL, traced_child},
	{"vm-readv", start_victim, read_memory},
	{"vm-writev", start_victim, write_memory},
	{"memory-read", start_victim, read_memory_file},
	{"memory-write", start_victim, write_memory_file},
	{"pidfd-getfd", start_holder, take_descriptor},
	{NULL, NULL, NULL},
};

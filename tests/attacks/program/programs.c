// SPDX-License-Identifier: Apache-2.0
/* Other ways to execute what must not be. */
#include "attack.h"

#define LOADER "/lib64/ld-linux-x86-64.so.2"

static int held = -1;

static long execute(void)
{
	return run(TOOL);
}

static long by_applet(void)
{
	need(!symlink(TOOL, "/free/applet"), "symlink");
	return run("/free/applet");
}

static void make_copy(void)
{
	copy(TOOL, "/free/copy");
}

static long run_copy(void)
{
	return run("/free/copy");
}

static long move_and_run(void)
{
	long moved = said(rename(TOOL, "/free/moved"));

	return moved < 0 ? moved : run("/free/moved");
}

static long by_other_name(void)
{
	char *const arguments[] = {"/bin/true", NULL};

	return run_with(TOOL, arguments);
}

static long by_loader(void)
{
	char *const arguments[] = {LOADER, "/kept/dynamic", NULL};
	long done = run_with(LOADER, arguments);

	/* What the loader was refused it says in words only. */
	return !done && access("/free/ran", F_OK) ? -EACCES : done;
}

/* The program's interpreter is the one that must not run. */
static long as_interpreter(void)
{
	return run("/free/alien");
}

static void hold_tool(void)
{
	held = open(TOOL, O_RDONLY | O_CLOEXEC);
	need(held >= 0, "open");
}

static long map_code(void)
{
	effect = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, held, 0) != MAP_FAILED;
	return effect ? 0 : -errno;
}

static long protect_code(void)
{
	void *at = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, held, 0);

	need(at != MAP_FAILED, "mmap");
	effect = !mprotect(at, 4096, PROT_READ | PROT_EXEC);
	return effect ? 0 : -errno;
}

static long run_script(void)
{
	return run("/kept/script");
}

static long by_shell(void)
{
	char *const arguments[] = {"/bin/sh", "/kept/script", NULL};
	long done = run_with("/bin/sh", arguments);

	/* The shell says what it could not read in words only. */
	return !done && access("/free/ran", F_OK) ? -EACCES : done;
}

static long from_shell(void)
{
	char *const arguments[] = {"/bin/sh", "-c", "exec " TOOL, NULL};
	long done = run_with("/bin/sh", arguments);

	return !done && access("/free/ran", F_OK) ? -EACCES : done;
}

static long run_interpreted(void)
{
	return run("/free/interpreted");
}

static int memory_with_tool(void)
{
	return copy_into(TOOL, syscall(SYS_memfd_create, "x", MFD_CLOEXEC));
}

static long from_memory(void)
{
	return run_descriptor(memory_with_tool());
}

static long from_memory_by_path(void)
{
	char path[64];
	int memory = syscall(SYS_memfd_create, "x", 0);

	snprintf(path, sizeof path, "/proc/self/fd/%d", copy_into(TOOL, memory));
	return run(path);
}

static void hold_path(void)
{
	held = open(TOOL, O_PATH | O_CLOEXEC);
	need(held >= 0, "open");
}

static long run_held(void)
{
	return run_descriptor(held);
}

static long run_beneath(void)
{
	char *const arguments[] = {"tool", NULL};

	need(!chdir("/kept"), "chdir");
	return run_with("tool", arguments);
}

/* Who may write cannot be executed: it is opened once more for reading. */
static long run_written(int file)
{
	char path[64];
	int readable;

	snprintf(path, sizeof path, "/proc/self/fd/%d", copy_into(TOOL, file));
	readable = open(path, O_RDONLY | O_CLOEXEC);
	need(readable >= 0 && !fchmod(readable, 0755), "open again");
	close(file);
	return run_descriptor(readable);
}

/* Before Linux 6.3 no overlay has such files. */
static long without_name(void)
{
	return run_written(open("/free/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0755));
}

static long after_unlink(void)
{
	int file = open("/free/gone", O_RDWR | O_CREAT | O_CLOEXEC, 0755);

	need(file >= 0 && !unlink("/free/gone"), "unlink");
	return run_written(file);
}

static long unlink_and_run(void)
{
	long gone = said(unlink(TOOL));

	return gone < 0 ? gone : run_descriptor(held);
}

static void make_memory_disk(void)
{
	need(!mkdir("/free/shm", 0755) && !mount("tmpfs", "/free/shm", "tmpfs", 0, NULL), "tmpfs");
	copy(TOOL, "/free/shm/tool");
}

static long from_memory_disk(void)
{
	return run("/free/shm/tool");
}

const struct attack of_programs[] = {
	{"execute", NULL, execute},
	{"applet", NULL, by_applet},
	{"copy", make_copy, run_copy},
	{"move-program", NULL, move_and_run},
	{"argv0", NULL, by_other_name},
	{"loader", NULL, by_loader},
	{"elf-interpreter", NULL, as_interpreter},
	{"map-code", hold_tool, map_code},
	{"protect-code", hold_tool, protect_code},
	{"script", NULL, run_script},
	{"script-by-shell", NULL, by_shell},
	{"from-shell", NULL, from_shell},
	{"script-interpreter", NULL, run_interpreted},
	{"memfd", NULL, from_memory},
	{"memfd-path", NULL, from_memory_by_path},
	{"execveat-descriptor", hold_path, run_held},
	{"execveat-relative", NULL, run_beneath},
	{"tmpfile", make_memory_disk, without_name},
	{"unlinked", NULL, after_unlink},
	{"unlinked-tool", hold_path, unlink_and_run},
	{"memory-disk", make_memory_disk, from_memory_disk},
	{NULL, NULL, NULL},
};

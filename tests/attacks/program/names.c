// SPDX-License-Identifier: Apache-2.0
/* Other names for the secret. */
#include "attack.h"

static int held = -1;

static long through_symlink(void)
{
	need(!symlink(SECRET, "/free/s"), "symlink");
	return look("/free/s");
}

static long through_linked_directory(void)
{
	need(!symlink("/kept", "/free/d") && !chdir("/free/d"), "symlink");
	return look("./secret");
}

static void stand_inside(void)
{
	need(!chdir("/kept"), "chdir");
}

static long from_inside(void)
{
	return look("../kept/./secret");
}

static void hold_directory(void)
{
	held = open("/kept", O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(held >= 0, "open");
}

static long beneath_held(void)
{
	return take(syscall(SYS_openat, held, "secret", O_RDONLY));
}

static void hold_secret(void)
{
	held = open(SECRET, O_PATH | O_CLOEXEC);
	need(held >= 0, "open");
}

static void link_secret(void)
{
	need(!link(SECRET, "/free/l"), "link");
}

static long through_link(void)
{
	return look("/free/l");
}

static long link_and_look(void)
{
	long linked = said(link(SECRET, "/free/l"));

	return linked < 0 ? linked : look("/free/l");
}

static long rename_file(void)
{
	long renamed = said(rename(SECRET, "/free/moved"));

	return renamed < 0 ? renamed : look("/free/moved");
}

static long rename_directory(void)
{
	long renamed = said(rename("/kept", "/free/moved"));

	return renamed < 0 ? renamed : look("/free/moved/secret");
}

static void make_directory(void)
{
	need(!mkdir("/free/exchanged", 0755), "mkdir");
}

static long exchange_directory(void)
{
	long done = said(syscall(SYS_renameat2, AT_FDCWD, "/free/exchanged", AT_FDCWD, "/kept", 2 /* RENAME_EXCHANGE */));

	return done < 0 ? done : look("/free/exchanged/secret");
}

static long by_own_root(void)
{
	return look("/proc/self/root" SECRET);
}

static long by_thread_root(void)
{
	return look("/proc/thread-self/root" SECRET);
}

static long by_root_of_another(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/root" SECRET, victim());
	return look(path);
}

static long by_held_number(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", held);
	return look(path);
}

static long by_working_directory(void)
{
	return look("/proc/self/cwd/secret");
}

static void copy_up(void)
{
	int file = open("/lower/secret", O_WRONLY | O_APPEND | O_CLOEXEC);

	need(file >= 0 && write(file, "more\n", 5) == 5, "copy-up");
	close(file);
}

static long look_lower(void)
{
	return look("/lower/secret");
}

/* Below /kept, deeper or longer than any table of components is. */
static void descend(int levels, int bytes)
{
	char name[256];
	int file;

	memset(name, 'd', sizeof name);
	name[bytes] = 0;
	need(!chdir("/kept"), "chdir");
	for (int level = 0; level < levels; level++)
		need(!mkdir(name, 0755) && !chdir(name), "mkdir");
	file = open("secret", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	need(file >= 0 && write(file, "hidden\n", 7) == 7, "secret");
	close(file);
}

static void go_deep(void)
{
	descend(130, 1);
}

static void go_deeper_than_tables(void)
{
	descend(70, 1);
}

static void go_far(void)
{
	descend(20, 250);
}

static void go_to_a_long_name(void)
{
	descend(2, 255);
}

static long look_here(void)
{
	return look("secret");
}

const struct attack of_names[] = {
	{"symlink", NULL, through_symlink},
	{"symlink-directory", NULL, through_linked_directory},
	{"working-directory", stand_inside, from_inside},
	{"directory-descriptor", hold_directory, beneath_held},
	{"link-after", NULL, link_and_look},
	{"link-before", link_secret, through_link},
	{"rename-file", NULL, rename_file},
	{"rename-directory", NULL, rename_directory},
	{"exchange-directory", make_directory, exchange_directory},
	{"proc-root", NULL, by_own_root},
	{"proc-thread-root", NULL, by_thread_root},
	{"proc-other-root", NULL, by_root_of_another},
	{"proc-fd", hold_secret, by_held_number},
	{"proc-cwd", stand_inside, by_working_directory},
	{"copy-up", copy_up, look_lower},
	{"deep-70", go_deeper_than_tables, look_here},
	{"deep-130", go_deep, look_here},
	{"long-255", go_to_a_long_name, look_here},
	{"long-5000", go_far, look_here},
	{NULL, NULL, NULL},
};

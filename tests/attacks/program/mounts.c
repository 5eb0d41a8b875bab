// SPDX-License-Identifier: Apache-2.0
/* Mounts, namespaces and roots. */
#include "attack.h"
#include <linux/mount.h>
#include <sys/statfs.h>

static int held = -1;

static long show(const char *from, const char *to)
{
	need(!mkdir(to, 0755) || errno == EEXIST, to);
	return said(mount(from, to, NULL, MS_BIND, NULL));
}

static void bind_kept(void)
{
	need(!show("/kept", "/free/b"), "bind");
}

static long look_bound(void)
{
	return look("/free/b/secret");
}

static long bind_and_look(void)
{
	long bound = show("/kept", "/free/b");

	return bound < 0 ? bound : look_bound();
}

static long move_and_look(void)
{
	long moved = show("/kept", "/free/b");

	if (moved < 0)
		return moved;
	need(!mkdir("/free/c", 0755), "mkdir");
	moved = said(mount("/free/b", "/free/c", NULL, MS_MOVE, NULL));
	return moved < 0 ? moved : look("/free/c/secret");
}

static long look_detached(void)
{
	long tree = syscall(SYS_open_tree, AT_FDCWD, "/kept", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return tree < 0 ? -errno : take(syscall(SYS_openat, (int)tree, "secret", O_RDONLY));
}

static bool is_tmpfs(const char *path)
{
	struct statfs status;

	return !statfs(path, &status) && status.f_type == 0x01021994;
}

/* Of the calls of the new interface. */
static long mount_over(void)
{
	int context = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	long made, moved;

	if (context < 0)
		return -errno;
	made = said(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	if (made < 0)
		return made;
	made = said(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0));
	if (made < 0)
		return made;
	moved = said(syscall(SYS_move_mount, (int)made, "", AT_FDCWD, "/kept", MOVE_MOUNT_F_EMPTY_PATH));
	effect = is_tmpfs("/kept");
	return moved;
}

static long tmpfs_over(void)
{
	long done = said(mount("tmpfs", "/kept", "tmpfs", 0, NULL));

	effect = is_tmpfs("/kept");
	return done;
}

static long file_over(void)
{
	struct stat is, other;
	long bound = said(mount("/free/open", SECRET, NULL, MS_BIND, NULL));

	effect = !stat(SECRET, &is) && !stat("/free/open", &other) && is.st_ino == other.st_ino;
	return bound;
}

static void bind_root(void)
{
	need(!show("/", "/free/r"), "bind");
}

static long pivot_and_look(void)
{
	long turned = show("/", "/free/r");

	if (turned < 0)
		return turned;
	need(!mkdir("/free/old", 0755) && !chdir("/free/r"), "chdir");
	turned = said(syscall(SYS_pivot_root, ".", "free/old"));
	return turned < 0 ? turned : look(SECRET);
}

static long chroot_bound(void)
{
	long turned = said(chroot("/free/r"));

	return turned < 0 ? turned : look(SECRET);
}

static long chroot_and_look(void)
{
	long bound = show("/", "/free/r");

	return bound < 0 ? bound : chroot_bound();
}

static long chroot_inside(void)
{
	long turned = said(chroot("/kept"));

	return turned < 0 ? turned : look("/secret");
}

static void make_layers(void)
{
	/* An overlay's writable layer cannot be on another overlay. */
	need(!mkdir("/free/t", 0755) && !mount("tmpfs", "/free/t", "tmpfs", 0, NULL), "tmpfs");
	need(!mkdir("/free/t/u", 0755) && !mkdir("/free/t/w", 0755) && !mkdir("/free/o", 0755), "layers");
}

static long overlay_and_look(void)
{
	long done = said(mount("overlay", "/free/o", "overlay", 0, "lowerdir=/kept,upperdir=/free/t/u,workdir=/free/t/w"));

	return done < 0 ? done : look("/free/o/secret");
}

static long unshare_and_look(void)
{
	long done = said(unshare(CLONE_NEWNS));

	return done < 0 ? done : look(SECRET);
}

static long unshare_bind_and_look(void)
{
	long done = said(unshare(CLONE_NEWNS));

	return done < 0 ? done : bind_and_look();
}

static long as_nobody(void)
{
	long done;

	need(!setresgid(4321, 4321, 4321) && !setresuid(4321, 4321, 4321), "setresuid");
	done = said(unshare(CLONE_NEWUSER | CLONE_NEWNS));
	if (done < 0)
		return done;
	done = said(mount("/kept", "/free/b", NULL, MS_BIND, NULL));
	return done < 0 ? done : look_bound();
}

static void make_place(void)
{
	need(!mkdir("/free/b", 0777), "mkdir");
}

static long in_user_namespace(void)
{
	return in_child(as_nobody);
}

static long look_at_secret(void)
{
	return look(SECRET);
}

static long in_pid_namespace(void)
{
	long done = said(unshare(CLONE_NEWPID));

	return done < 0 ? done : in_child(look_at_secret);
}

/* By its place on the host, where who started the attacker is. */
static long look_on_host(void)
{
	char path[64 + 4096 + sizeof SECRET];

	snprintf(path, sizeof path, "/proc/%d/root%s" SECRET, getppid(), host_root);
	return look(path);
}

static long enter_host_and_look(void)
{
	char path[4096 + sizeof SECRET];
	int space;
	long entered;

	snprintf(path, sizeof path, "/proc/%d/ns/mnt", getppid());
	space = open(path, O_RDONLY | O_CLOEXEC);
	entered = space < 0 ? -errno : said(setns(space, CLONE_NEWNS));
	if (entered < 0)
		return entered;
	snprintf(path, sizeof path, "%s" SECRET, host_root);
	return look(path);
}

/* A directory of the host that is open in the container, as runc leaked one. */
static void hold_host(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/root", getppid());
	held = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	need(held >= 0, "open");
}

static long look_from_held(void)
{
	char path[4096 + sizeof SECRET];

	snprintf(path, sizeof path, "%s" SECRET, host_root + 1);
	return take(syscall(SYS_openat, held, path, O_RDONLY));
}

static long mount_cgroups(void)
{
	long done;

	need(!mkdir("/free/g", 0755), "mkdir");
	done = said(mount("cgroup2", "/free/g", "cgroup2", 0, NULL));
	effect = !access("/free/g/cgroup.controllers", F_OK);
	return done;
}

const struct attack of_mounts[] = {
	{"bind-before", bind_kept, look_bound},
	{"bind-after", NULL, bind_and_look},
	{"move-mount", NULL, move_and_look},
	{"detached-tree", NULL, look_detached},
	{"fsmount-over", NULL, mount_over},
	{"tmpfs-over", NULL, tmpfs_over},
	{"file-over", NULL, file_over},
	{"pivot-root", NULL, pivot_and_look},
	{"overlay-of-it", make_layers, overlay_and_look},
	{"chroot", NULL, chroot_and_look},
	{"chroot-bound-before", bind_root, chroot_bound},
	{"chroot-inside", NULL, chroot_inside},
	{"unshare", NULL, unshare_and_look},
	{"unshare-bind", NULL, unshare_bind_and_look},
	{"user-namespace", make_place, in_user_namespace},
	{"pid-namespace", NULL, in_pid_namespace},
	{"host-path", NULL, look_on_host},
	{"setns-host", NULL, enter_host_and_look},
	{"leaked-directory", hold_host, look_from_held},
	{"mount-cgroups", NULL, mount_cgroups},
	{NULL, NULL, NULL},
};

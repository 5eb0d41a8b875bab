// SPDX-License-Identifier: Apache-2.0
/* Writes that are no open for writing, and uses of descriptors of before. What changed is seen from outside. */
#include "attack.h"
#include <sys/sendfile.h>
#include <sys/uio.h>

static int held = -1, other = -1;
static char *mapped;

static void hold(int flags)
{
	held = open(SECRET, flags | O_CLOEXEC);
	need(held >= 0, "open");
}

static void hold_writable(void)
{
	hold(O_RDWR);
}

static void hold_readable(void)
{
	hold(O_RDONLY);
}

static void hold_both(void)
{
	hold(O_RDWR);
	other = open("/free/open", O_RDONLY | O_CLOEXEC);
	need(other >= 0, "open");
}

static long map_shared(void)
{
	mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, held, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	*mapped = '!';
	return 0;
}

static long protect_shared(void)
{
	mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, held, 0);
	if (mapped == MAP_FAILED || mprotect(mapped, 4096, PROT_READ | PROT_WRITE))
		return -errno;
	*mapped = '!';
	return 0;
}

static void map_before(void)
{
	hold(O_RDWR);
	mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, held, 0);
	need(mapped != MAP_FAILED, "mmap");
}

static long store(void)
{
	*mapped = '!';
	return 0;
}

static long open_truncating(void)
{
	return said(open(SECRET, O_WRONLY | O_TRUNC));
}

static long truncate_path(void)
{
	return said(truncate(SECRET, 1));
}

static long truncate_held(void)
{
	return said(ftruncate(held, 1));
}

static long write_held(void)
{
	return said(write(held, "!", 1));
}

static long write_at(void)
{
	struct iovec part = {.iov_base = "!", .iov_len = 1};

	return said(syscall(SYS_pwritev2, held, &part, 1, 0, 0, 0));
}

static long write_in_child(void)
{
	return in_child(write_held);
}

static long send_into(void)
{
	return said(sendfile(held, other, NULL, 4));
}

static long splice_into(void)
{
	int ends[2];

	need(!pipe(ends) && write(ends[1], "!!!!", 4) == 4, "pipe");
	return said(splice(ends[0], NULL, held, NULL, 4, 0));
}

static long copy_range_into(void)
{
	return said(syscall(SYS_copy_file_range, other, NULL, held, NULL, 4, 0));
}

static long punch(void)
{
	return said(fallocate(held, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4));
}

static long reopen(void)
{
	char path[64];
	int writable;

	snprintf(path, sizeof path, "/proc/self/fd/%d", held);
	writable = open(path, O_WRONLY);
	return writable < 0 ? -errno : said(write(writable, "!", 1));
}

static long read_held(void)
{
	return take(held);
}

static long copy_range_out(void)
{
	int out = open("/free/out", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	long copied = said(syscall(SYS_copy_file_range, held, NULL, out, NULL, 7, 0));

	return copied < 0 ? copied : look("/free/out");
}

/* Sent to itself; what is withheld counts as a denial. */
static long receive(void)
{
	int pair[2];
	char byte = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	need(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	*head = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(head), &held, sizeof held);
	need(sendmsg(pair[0], &message, 0) == 1, "sendmsg");
	message.msg_controllen = sizeof control;
	need(recvmsg(pair[1], &message, 0) == 1, "recvmsg");
	head = CMSG_FIRSTHDR(&message);
	if (!head)
		return -EACCES;
	memcpy(&other, CMSG_DATA(head), sizeof other);
	return take(other);
}

const struct attack of_writes[] = {
	{"mmap-shared", hold_writable, map_shared},
	{"mprotect-shared", hold_writable, protect_shared},
	{"mapped-before", map_before, store},
	{"open-truncating", NULL, open_truncating},
	{"truncate", NULL, truncate_path},
	{"ftruncate", hold_writable, truncate_held},
	{"inherited-write", hold_writable, write_in_child},
	{"pwritev2", hold_writable, write_at},
	{"sendfile-into", hold_both, send_into},
	{"splice-into", hold_writable, splice_into},
	{"copy-range-into", hold_both, copy_range_into},
	{"punch-hole", hold_writable, punch},
	{"reopen-for-writing", hold_readable, reopen},
	{"inherited-read", hold_readable, read_held},
	{"copy-range-out", hold_readable, copy_range_out},
	{"passed-descriptor", hold_readable, receive},
	{NULL, NULL, NULL},
};

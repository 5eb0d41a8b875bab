// SPDX-License-Identifier: Apache-2.0
/* The same acts asked for by io_uring, where no system call of theirs is made. */
#include "attack.h"
#include "socket.h"
#include <linux/io_uring.h>

#define ENTRIES 4

static int ring = -1;
static unsigned char *submissions, *completions;
static struct io_uring_sqe *entries;
static struct io_uring_params layout;
static int held = -1;

static void set_up(unsigned flags)
{
	memset(&layout, 0, sizeof layout);
	layout.flags = flags;
	layout.sq_thread_idle = 60000;
	ring = syscall(SYS_io_uring_setup, ENTRIES, &layout);
	need(ring >= 0, "io_uring_setup");
	submissions = mmap(NULL, layout.sq_off.array + ENTRIES * sizeof(unsigned), PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	completions = mmap(NULL, layout.cq_off.cqes + layout.cq_entries * sizeof(struct io_uring_cqe), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
			   IORING_OFF_CQ_RING);
	entries = mmap(NULL, ENTRIES * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	need(submissions != MAP_FAILED && completions != MAP_FAILED && entries != MAP_FAILED, "mmap");
}

static void prepare(void)
{
	set_up(0);
}

/* A thread of the kernel submits, and waits for nobody's system call. */
static void prepare_polled(void)
{
	set_up(IORING_SETUP_SQPOLL);
}

static unsigned *at(unsigned char *area, unsigned offset)
{
	return (unsigned *)(area + offset);
}

/* One entry, and what became of it. */
static long ask(const struct io_uring_sqe *entry)
{
	unsigned *tail = at(submissions, layout.sq_off.tail), *head = at(completions, layout.cq_off.head);
	struct io_uring_cqe *results = (struct io_uring_cqe *)(completions + layout.cq_off.cqes);
	bool polled = layout.flags & IORING_SETUP_SQPOLL;
	long result;

	entries[0] = *entry;
	at(submissions, layout.sq_off.array)[*tail & *at(submissions, layout.sq_off.ring_mask)] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	result = syscall(SYS_io_uring_enter, ring, polled ? 0 : 1, 1, IORING_ENTER_GETEVENTS | (polled ? IORING_ENTER_SQ_WAKEUP : 0), NULL, 0);
	need(result >= 0, "io_uring_enter");
	result = results[*head & *at(completions, layout.cq_off.ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	if (result < 0)
		errno = -result;
	return result < 0 ? -1 : result;
}

static long open_it(void)
{
	struct io_uring_sqe entry = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)SECRET, .open_flags = O_RDONLY};

	return take(ask(&entry));
}

static long open_it_by_openat2(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = {O_RDONLY, 0, 0};
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_OPENAT2, .fd = AT_FDCWD, .addr = (uintptr_t)SECRET, .len = sizeof how, .off = (uintptr_t)&how};

	return take(ask(&entry));
}

static long change(unsigned char opcode, const char *path, const char *to, unsigned length)
{
	struct io_uring_sqe entry = {.opcode = opcode, .fd = AT_FDCWD, .addr = (uintptr_t)path, .off = (uintptr_t)to, .len = length};

	return said(ask(&entry));
}

/* The second name's directory is in the length. */
#define HERE ((unsigned)AT_FDCWD)

static long unlink_it(void)
{
	return change(IORING_OP_UNLINKAT, SECRET, NULL, 0);
}

static long rename_it(void)
{
	return change(IORING_OP_RENAMEAT, SECRET, "/free/moved", HERE);
}

static long link_it(void)
{
	long linked = change(IORING_OP_LINKAT, SECRET, "/free/l", HERE);

	return linked < 0 ? linked : look("/free/l");
}

static long symlink_in(void)
{
	return change(IORING_OP_SYMLINKAT, "/free/open", "/kept/made", 0);
}

static long mkdir_in(void)
{
	return change(IORING_OP_MKDIRAT, "/kept/made", NULL, 0755);
}

static void prepare_write(void)
{
	set_up(0);
	held = open(SECRET, O_RDWR | O_CLOEXEC);
	need(held >= 0, "open");
}

static long write_later(void)
{
	struct io_uring_sqe entry = {.opcode = IORING_OP_WRITE, .fd = held, .addr = (uintptr_t) "!", .len = 1};

	return said(ask(&entry));
}

static void prepare_connect(void)
{
	set_up(0);
	listen_here(SOCK_STREAM);
	held = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(held >= 0, "socket");
}

static long connect_by_ring(void)
{
	struct sockaddr_in address = here();
	struct io_uring_sqe entry = {.opcode = IORING_OP_CONNECT, .fd = held, .addr = (uintptr_t)&address, .off = sizeof address};
	long done = said(ask(&entry));

	see_arrival();
	return done;
}

const struct attack of_rings[] = {
	{"ring-open", prepare, open_it},
	{"ring-openat2", prepare, open_it_by_openat2},
	{"ring-polled-open", prepare_polled, open_it},
	{"ring-unlink", prepare, unlink_it},
	{"ring-rename", prepare, rename_it},
	{"ring-link", prepare, link_it},
	{"ring-symlink", prepare, symlink_in},
	{"ring-mkdir", prepare, mkdir_in},
	{"ring-polled-unlink", prepare_polled, unlink_it},
	{"ring-write", prepare_write, write_later},
	{"ring-connect", prepare_connect, connect_by_ring},
	{NULL, NULL, NULL},
};

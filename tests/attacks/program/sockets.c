// SPDX-License-Identifier: Apache-2.0
/* Sockets that a rule on connections or protocols might forget. All on loopback. */
#include "attack.h"
#include "socket.h"
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define FAST_OPEN 23
#define PATIENCE 1500
/* A question for blocked.example, and its length before it, as TCP wants it. */
#define QUESTION "\0\1\1\0\0\1\0\0\0\0\0\0\7blocked\7example\0\0\1\0\1"
#define FLIPS 3000

static int server = -1, server_kind, client = -1;

void listen_at(int kind, int port)
{
	struct sockaddr_in address = here();
	int one = 1;

	address.sin_port = htons(port);
	server_kind = kind;
	server = socket(AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	need(server >= 0 && !setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "socket");
	need(!bind(server, (struct sockaddr *)&address, sizeof address), "bind");
	if (kind == SOCK_STREAM) {
		int queue = 16;

		setsockopt(server, IPPROTO_TCP, FAST_OPEN, &queue, sizeof queue);
		need(!listen(server, 64), "listen");
	}
}

void listen_here(int kind)
{
	listen_at(kind, PORT);
}

struct sockaddr_in here(void)
{
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

void see_arrival(void)
{
	struct pollfd poll_server = {.fd = server, .events = POLLIN};

	effect = poll(&poll_server, 1, PATIENCE) == 1;
}

static void serve(void)
{
	listen_here(SOCK_STREAM);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(client >= 0, "socket");
}

static long arrive(long done)
{
	done = said(done);
	see_arrival();
	return done;
}

static long connect_to(int socket, const void *address, socklen_t length)
{
	return arrive(connect(socket, address, length));
}

static long connect_here(void)
{
	struct sockaddr_in address = here();

	return connect_to(client, &address, sizeof address);
}

static long connect_mapped(void)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(PORT)};
	const unsigned char mapped[16] = {[10] = 255, [11] = 255, [12] = 127, [15] = 1};
	int socket_of_6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

	need(socket_of_6 >= 0, "socket");
	memcpy(&address.sin6_addr, mapped, sizeof mapped);
	return connect_to(socket_of_6, &address, sizeof address);
}

static long connect_unspecified(void)
{
	struct sockaddr_in address = here();

	address.sin_addr.s_addr = INADDR_ANY;
	return connect_to(client, &address, sizeof address);
}

/* The first bytes travel with the handshake: no connect(2) is made. */
static long send_fast_open(void)
{
	struct sockaddr_in address = here();

	return arrive(sendto(client, "x", 1, MSG_FASTOPEN, (struct sockaddr *)&address, sizeof address));
}

static long connect_mptcp(void)
{
	struct sockaddr_in address = here();
	int multi = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);

	need(multi >= 0, "socket");
	return connect_to(multi, &address, sizeof address);
}

static void serve_datagrams(void)
{
	listen_here(SOCK_DGRAM);
	client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	need(client >= 0, "socket");
}

static long send_datagram(void)
{
	struct sockaddr_in address = here();

	return arrive(sendto(client, "x", 1, 0, (struct sockaddr *)&address, sizeof address));
}

static long send_datagrams(void)
{
	struct sockaddr_in address = here();
	struct iovec part = {.iov_base = "x", .iov_len = 1};
	struct mmsghdr message = {.msg_hdr = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &part, .msg_iovlen = 1}};

	return arrive(sendmmsg(client, &message, 1, 0));
}

static long make(int domain, int kind, int protocol)
{
	int made = socket(domain, kind, protocol);

	effect = made >= 0;
	return said(made);
}

static long make_packet(void)
{
	return make(AF_PACKET, SOCK_RAW, htons(3));
}

static long make_raw(void)
{
	return make(AF_INET, SOCK_RAW, IPPROTO_RAW);
}

static long make_raw_of_6(void)
{
	return make(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
}

static long make_machine(void)
{
	return make(AF_VSOCK, SOCK_STREAM, 0);
}

static long make_netlink(void)
{
	return make(AF_NETLINK, SOCK_RAW, 0);
}

static void serve_names(void)
{
	listen_at(SOCK_STREAM, 53);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	need(client >= 0, "socket");
}

static long ask_over_tcp(void)
{
	struct sockaddr_in address = here();
	char message[2 + sizeof QUESTION - 1] = {0, sizeof QUESTION - 1};
	int accepted;

	address.sin_port = htons(53);
	memcpy(message + 2, QUESTION, sizeof QUESTION - 1);
	need(!connect(client, (struct sockaddr *)&address, sizeof address), "connect");
	see_arrival();
	accepted = accept4(server, NULL, NULL, SOCK_NONBLOCK);
	need(accepted >= 0, "accept");
	server = accepted;
	return arrive(send(client, message, sizeof message, MSG_NOSIGNAL));
}

static void serve_other_names(void)
{
	listen_at(SOCK_DGRAM, OTHER_PORT);
	client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	need(client >= 0, "socket");
}

static long ask_other_port(void)
{
	struct sockaddr_in address = here();

	address.sin_port = htons(OTHER_PORT);
	return arrive(sendto(client, QUESTION, sizeof QUESTION - 1, 0, (struct sockaddr *)&address, sizeof address));
}

/* Another thread changes the address while the call reads it. */
static struct sockaddr_in flipped;
static volatile bool over;

static void *flip(void *unused)
{
	(void)unused;
	while (!over) {
		__atomic_store_n(&flipped.sin_port, htons(OTHER_PORT), __ATOMIC_RELAXED);
		__atomic_store_n(&flipped.sin_port, htons(PORT), __ATOMIC_RELAXED);
	}
	return NULL;
}

static long connect_flipping(void)
{
	pthread_t thread;
	long denied = 0;

	flipped = here();
	need(!pthread_create(&thread, NULL, flip, NULL), "thread");
	for (int again = 0; again < FLIPS; again++) {
		int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

		need(one >= 0, "socket");
		if (connect(one, (struct sockaddr *)&flipped, sizeof flipped) && (errno == EPERM || errno == EACCES))
			denied = -errno;
		close(one);
	}
	over = true;
	pthread_join(thread, NULL);
	see_arrival();
	return denied;
}

const struct attack of_sockets[] = {
	{"connect", serve, connect_here},
	{"connect-mapped", serve, connect_mapped},
	{"connect-unspecified", serve, connect_unspecified},
	{"connect-flipping", serve, connect_flipping},
	{"fast-open", serve, send_fast_open},
	{"mptcp", serve, connect_mptcp},
	{"sendto", serve_datagrams, send_datagram},
	{"sendmmsg", serve_datagrams, send_datagrams},
	{"packet-socket", NULL, make_packet},
	{"raw-socket", NULL, make_raw},
	{"raw-socket-6", NULL, make_raw_of_6},
	{"vsock", NULL, make_machine},
	{"netlink", NULL, make_netlink},
	{"dns-tcp", serve_names, ask_over_tcp},
	{"dns-other-port", serve_other_names, ask_other_port},
	{NULL, NULL, NULL},
};

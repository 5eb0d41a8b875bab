/* SPDX-License-Identifier: Apache-2.0 */
/* A server that the attacker itself is, and that the policy forbids; it listens since before. */
#ifndef ATTACK_SOCKET_H
#define ATTACK_SOCKET_H

#include <netinet/in.h>

#define PORT 47811
#define OTHER_PORT 47812

void listen_at(int kind, int port);
void listen_here(int kind);
struct sockaddr_in here(void);
/* Sets `effect` where somebody, or something, came to the server. */
void see_arrival(void);

#endif

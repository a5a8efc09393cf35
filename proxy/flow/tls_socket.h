/*
 * tls_socket.h — OpenSSL's socket, told what a kernel without memory means.
 *
 *     SSL ──▶ BIO ──write(2)──▶ ENOBUFS ──▶ "try again", and a note that no event will say when
 */
#ifndef FLOW_TLS_SOCKET_H
#define FLOW_TLS_SOCKET_H

#include <stdbool.h>

struct ssl_st; /* SSL of OpenSSL */

/* The socket has been set (SSL_set_fd(3)).  *is_starved, which must live as long as the SSL, becomes
 * true when a call finds no memory in the kernel; whoever calls the SSL clears it. */
void tls_socket_watch(struct ssl_st *, bool *is_starved);

#endif

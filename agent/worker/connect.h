/* One TCP connection, by libcurl: name resolution with a deadline, IPv4 and IPv6 raced (RFC 8305), a tunnel through an
 * HTTP proxy where one is configured. */
#pragma once

#include "common/failure.h"

#include <stdint.h>

struct connect_settings {
    const char *host; /* name or address */
    uint16_t port;
    const char *proxy; /* "http://host:port", NULL for none; the environment is never consulted */
    const char *step;  /* for failures */
};

struct connection;

/* Connects until the deadline (tls_now_ms()). Fails with class `network`, or `invalid` for a host or a proxy that
 * cannot be an address; the message has the host and libcurl's words. */
int connect_open(const struct connect_settings *settings, int64_t deadline_ms, struct connection **ret,
                 struct failure *failure);

/* The connected socket: non-blocking, without Nagle's delay, owned by the connection. */
int connect_socket(const struct connection *connection);

/* Closes the socket. Accepts and returns NULL. */
struct connection *connect_free(struct connection *connection);

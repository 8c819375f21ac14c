/* Carries bytes between a private unix socket and a TLS session, so that libraries which bring their own TLS
 * (libmosquitto, libcurl) use the worker's one (tls.h). The library connects to relay_path(); the owner of the loop
 * polls relay_prepare()'s descriptors beside the library's own and calls relay_run(). */
#pragma once

#include "common/failure.h"
#include "worker/tls.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#define RELAY_DESCRIPTORS 2
/* All that a server may send over one relay. An enrolment takes below 100 KiB; AWS IoT's largest message is 128 KiB. */
#define RELAY_RECEIVED_MAX (4 * 1024 * 1024)
#define RELAY_FIRST_SIZE 4

/* How the TLS side ended. */
enum relay_end {
    RELAY_RUNNING, /* it did not */
    RELAY_CLOSED,  /* close_notify: the server's own word */
    RELAY_ALERT,   /* a fatal alert inside the session: tls_alert_text() */
    RELAY_CUT,     /* FIN, RST or a forged record: relay_error() */
    RELAY_FLOODED, /* more than RELAY_RECEIVED_MAX */
    RELAY_REFUSED, /* on our side: another process connected to the private socket */
};

struct relay;

/* Makes the private socket in a new 0700 directory below $RUNTIME_DIRECTORY, $TMPDIR or /tmp, the first that can be
 * written. The session and its socket are borrowed and must outlive the relay. Class `internal`. */
int relay_open(struct tls *tls, int socket, const char *step, struct relay **ret, struct failure *failure);

/* Where to connect. Exactly one connection is accepted, from this process (SO_PEERCRED); with it the listening socket,
 * its name and the directory are gone. */
const char *relay_path(const struct relay *relay);

/* Fills in what to poll for; entries with nothing to wait for have the descriptor -1. */
void relay_prepare(const struct relay *relay, struct pollfd descriptors[RELAY_DESCRIPTORS]);

/* Moves all bytes that can be moved without blocking. The end of one side reaches the other after the bytes before it:
 * the library's as close_notify, the server's as end of file. */
void relay_run(struct relay *relay);

enum relay_end relay_ended(const struct relay *relay);
/* RELAY_CUT: the negative errno of tls_read() or tls_write(). */
int relay_error(const struct relay *relay);
/* Records how it ended, while `awaited` was awaited of the server: class `denied` for an alert about the client
 * certificate, else `network`. */
int relay_fail(const struct relay *relay, const char *peer, const char *awaited, const char *step,
               struct failure *failure);
/* The session, borrowed. */
const struct tls *relay_tls(const struct relay *relay);
/* True when the library has closed its side and all its bytes have gone to TLS, or TLS has ended. */
bool relay_is_flushed(const struct relay *relay);
/* The first bytes that came from the server, RELAY_FIRST_SIZE at most, borrowed. */
const uint8_t *relay_first_bytes(const struct relay *relay, size_t *ret_size);

/* Closes what is left. Accepts and returns NULL. */
struct relay *relay_free(struct relay *relay);

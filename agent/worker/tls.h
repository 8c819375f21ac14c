/* The one TLS policy. wolfSSL as distributions build it (OPENSSL_COMPATIBLE_DEFAULTS, HAVE_ANON, HAVE_NULL_CIPHER)
 * verifies nothing and takes anonymous and NULL suites until told otherwise, so that every WOLFSSL_CTX of the worker
 * is made here and nowhere else. */
#pragma once

#include "common/failure.h"
#include "worker/key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum tls_version {
    TLS_VERSION_1_2,
    TLS_VERSION_1_3,
};

struct tls_settings {
    const char *server_name; /* SNI, and the name that the server's certificate must have; an address: without SNI */
    const char *root_ca_pem; /* trust anchors */
    const char *anchors;     /* how messages call them; NULL: "RootCA=" */
    size_t root_ca_size;
    const char *certificate_pem; /* client chain, leaf first; NULL for no client certificate */
    size_t certificate_size;
    struct key *key; /* client key; must outlive the session */
    enum tls_version minimum;
    bool clock_is_doubtful; /* nobody has set it yet, as far as is known: what seems expired may not be */
    const char *alpn;       /* "x-amzn-mqtt-ca" on port 443, else NULL */
    const char *step;       /* for failures */
};

struct tls;

/* CLOCK_MONOTONIC in milliseconds: what deadlines are measured in. */
int64_t tls_now_ms(void);

/* Handshake as a client over a connected non-blocking TCP socket (borrowed), until the deadline (tls_now_ms()). Fails
 * with class `network` for everything an attacker on the path can cause (also alerts before the session is
 * authenticated), `clock` when a certificate is not valid yet by the local clock, or has expired by one that is
 * doubtful, `invalid` for unusable own inputs,
 * `tpm` when the device key could not sign. A server that fails the policy is refused with what was wrong with it:
 * "the server's certificate is not signed by a CA in RootCA=". */
int tls_connect(const struct tls_settings *settings, int socket, int64_t deadline_ms, struct tls **ret,
                struct failure *failure);

/* As read(2)/write(2) on a non-blocking descriptor: bytes, 0 at the end of the session (close_notify), or a negative
 * errno:
 *   -EAGAIN   nothing now; `tls_wants_write` tells which direction it waits for. tls_write() must then be called again
 *             with the same bytes first.
 *   -EPROTO   the server sent a fatal alert; tls_alert_text says which
 *   -EPIPE    the TCP connection was closed without close_notify: anyone on the path can do that
 *   -EBADMSG  a record that is not genuine
 *   others    of the socket, such as -ECONNRESET */
int tls_read(struct tls *tls, void *data, size_t size);
int tls_write(struct tls *tls, const void *data, size_t size);
bool tls_wants_write(const struct tls *tls);

/* The fatal alert that ended the session: "certificate_unknown (46)"; "" for none. Borrowed. */
const char *tls_alert_text(const struct tls *tls);

/* True if that alert means that the server does not take this client's certificate (RFC 8446 section 6.2: alerts 42
 * to 46, 48, 49 and 116). It came inside the authenticated session: in TLS 1.3 the server judges the client after the
 * client's handshake is over (RFC 8446 section 2). */
bool tls_was_refused(const struct tls *tls);

/* Sends close_notify, once, without waiting. */
void tls_shutdown(struct tls *tls);

/* tls_shutdown() if the session stands; frees everything but the socket and the key. Accepts and returns NULL. */
struct tls *tls_free(struct tls *tls);

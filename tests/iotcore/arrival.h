/* Who sends a CONNECT: by the broker's own TLS, or by what the front has noted in the file front/NUMBER.json, a number
 * that it says in place of the user name:
 *
 *   chain        the certificates as the client has sent them, PEM, its own one first
 *   address      where it comes from
 *   serverName   what its ClientHello named (SNI); absent: nothing
 *   tls, alpn    the protocols that were agreed on
 *   handshake    true: the CONNECT is the front's own, in the midst of a handshake that it is about to refuse
 *
 * The plugin removes the file. For the front it writes front/options.json. */
#pragma once

#include "broker.h"
#include "standin.h"

#include <stdbool.h>

/* Certificates behind the client's own. */
#define ARRIVAL_ISSUERS 15

struct arrival {
    struct identity identity; /* texts are those of the client or the note */
    X509 *issuers[ARRIVAL_ISSUERS];
    unsigned issuer_count;
    struct json_object *note; /* NULL without a front */
    bool named;               /* ClientHello named this endpoint; always so without a front, which could not tell */
    bool handshake;
};

/* False if it is not known who it is. The caller clears it in either case. */
bool arrival_read(const struct standin *standin, struct mosquitto *client, const char *user_name, struct arrival *ret);
void arrival_clear(struct arrival *arrival);

/* Adds what the front has seen. */
void arrival_tell(const struct arrival *arrival, struct json_object *event);

/* Tells the front its options, if there is one: {"refusal", "alert", "requireSni", "tlsVersion"}. */
void arrival_write_options(const struct standin *standin);

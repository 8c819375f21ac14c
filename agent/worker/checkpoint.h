/* How far an enrolment has come: what the next worker needs, after a failure, a crash or a power cut, to go on with the
 * certificate that is held instead of asking for another. Kept by the daemon as a file of mode 0600. Pure: text in,
 * text out. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKPOINT_SCHEMA 1
#define THING_NAME_SIZE 129        /* 128 characters (AWS IoT API reference, ThingName) and a NUL */
#define CHECKPOINT_BINDING_SIZE 65 /* hex digits of a SHA-256 and a NUL */

enum checkpoint_stage {
    CHECKPOINT_NOTHING, /* never stored */
    CHECKPOINT_KEY,     /* the key is made */
    CHECKPOINT_ISSUED, /* a certificate is held, with the secret that registers it if there is one; it is not registered
                        */
    CHECKPOINT_SENT,   /* its registration was asked for, and no answer came: it may be registered */
    CHECKPOINT_SPENT,  /* the same, and the secret is not accepted (any more) */
    CHECKPOINT_REGISTERED, /* it is registered */
};

struct checkpoint {
    enum checkpoint_stage stage;
    char binding[CHECKPOINT_BINDING_SIZE]; /* of the settings that all this is for */
    char key_origin[16];                   /* as in identity.json */
    char *private_pem;                     /* the text of private.pem */
    char *certificate_pem;                 /* leaf first; from ISSUED on */
    char *secret;                          /* the ownership token; ISSUED and SENT only */
    bool has_thing;                        /* the cloud has told the following two */
    char thing_name[THING_NAME_SIZE];
    char *device_configuration; /* a JSON object as text, or NULL */
    uint32_t refusals;          /* attempts in a row whose proof of this certificate was refused */
    uint32_t doubts;            /* attempts in a row whose proof of this certificate had no answer */
    uint32_t abandoned;         /* certificates before this one that stayed refused */
};

/* Frees all of it, wipes what is secret, zeroes. */
void checkpoint_clear(struct checkpoint *checkpoint);

/* Forgets the secret, wiped: it has done its work. */
void checkpoint_drop_secret(struct checkpoint *checkpoint);

/* Forgets the key, wiped. */
void checkpoint_drop_key(struct checkpoint *checkpoint);

/* Forgets the certificate and all that belongs to it; the key stays. */
void checkpoint_drop_certificate(struct checkpoint *checkpoint);

/* True when a certificate that was refused in so many attempts is to be given up. This bounds what enrolments and
 * renewals leave in the account (docs/reliability.md, "What a renewal may leave behind"). The first one at once: it may
 * never have been registered. But where another one is refused, too, the fault is elsewhere (a policy, say), and asking
 * for ever more would litter the account: each gets twice the patience of the one before. One that connects, and only
 * may not publish, is surely registered, and gets the longest at once. */
bool checkpoint_is_hopeless(const struct checkpoint *checkpoint, bool connects);

/* True in every 144th attempt in a row whose proof had no answer, after about a day: a cloud may turn a certificate
 * away that it has forgotten by closing the connection without a word, as the network does. Whether it is the network
 * the claim tells: if that connects now, another certificate is asked for, and this one is only dropped for that. */
bool checkpoint_is_doubtful(const struct checkpoint *checkpoint);

/* The text; the caller wipes and frees it. Class `internal` when out of memory, `invalid` when device_configuration is
 * no JSON object. */
int checkpoint_encode(const struct checkpoint *checkpoint, char **ret_json, struct failure *failure);

/* Reads it back. NULL, or what is wrong with it (a constant); *ret is then untouched. The caller clears *ret. */
const char *checkpoint_parse(const char *json, size_t size, struct checkpoint *ret);

/* The stand-in's options that may change while it runs: those of mosquitto.conf and of an edit. Pure functions. */
#pragma once

#include <json-c/json.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For whom an ownership token is good. AWS documents nothing about that. */
enum token_binding {
    TOKEN_BINDING_NONE,       /* anyone */
    TOKEN_BINDING_PRINCIPAL,  /* a connection with the certificate that asked for it */
    TOKEN_BINDING_CONNECTION, /* the very connection that asked for it */
};

struct standin_options {
    bool refuse_by_closing;    /* refusal=close: no CONNACK, as AWS does with MQTT 3.1.1 */
    bool limit_connects;       /* connect_rate=on: one CONNECT per second and client id */
    bool reply_unsubscribed;   /* direct_reply=on: a reply also reaches a device that didn't subscribe */
    unsigned disconnect_delay; /* seconds from the end of a certificate to the end of its connections */
    size_t token_size;         /* characters of an ownership token */
    enum token_binding token_binding;
    bool token_reuse;    /* on: RegisterThing with a used token repeats its success */
    int64_t propagation; /* milliseconds from RegisterThing until its certificate may connect */
};

/* What counts where nothing is set. */
struct standin_options option_defaults(void);

/* Sets one option by its name in mosquitto.conf (token_reuse). Returns 0, or -EINVAL for a name or a value that there
 * is not; nothing is changed then. */
int option_set(struct standin_options *options, const char *name, const char *value);

/* Sets all members of the object, {"token-reuse": true, "propagation": 1.5, "refusal": "close"}: all of them or, with
 * -EINVAL, none. */
int option_set_all(struct standin_options *options, struct json_object *members);

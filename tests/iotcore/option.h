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

/* How a device is told that it may not connect. The last three need the front, and only a certificate that is not
 * ACTIVE meets them; everything else is refused as by the first. */
enum option_refusal {
    REFUSAL_CONNACK,               /* 0x87 with MQTT 5; with MQTT 3.1.1 a close without a CONNACK, as AWS does */
    REFUSAL_CONNACK_ALWAYS,        /* connack5-for-3.1.1: also return code 5 */
    REFUSAL_CLOSE,                 /* a close without a CONNACK */
    REFUSAL_HANDSHAKE_ALERT,       /* handshake-alert, or handshake-alert=NUMBER: a fatal alert of TLS */
    REFUSAL_HANDSHAKE_CLOSE,       /* the end of the connection while the handshake lasts */
    REFUSAL_AFTER_HANDSHAKE_CLOSE, /* and after it, before anybody has read CONNECT */
};

struct standin_options {
    enum option_refusal refusal;
    unsigned alert;            /* the number of the alert */
    bool limit_connects;       /* connect_rate=on: one CONNECT per second and client id */
    bool reply_unsubscribed;   /* direct_reply=on: a reply also reaches a device that didn't subscribe */
    unsigned disconnect_delay; /* seconds from the end of a certificate to the end of its connections */
    size_t token_size;         /* characters of an ownership token */
    enum token_binding token_binding;
    bool token_reuse;        /* on: RegisterThing with a used token repeats its success */
    int64_t propagation;     /* milliseconds from RegisterThing or JITP until its certificate may connect */
    int64_t jitp_delay;      /* milliseconds from the registration of a certificate until its template is applied */
    int jitp_fail;           /* so many times the template is not applied; -1: never is */
    bool jitp_rerun;         /* whether a CONNECT of a certificate that waits sets its template going again */
    bool require_issuer;     /* a certificate registers itself only if its authority's certificate is sent, too */
    bool require_sni;        /* the front refuses a ClientHello that doesn't name the endpoint */
    const char *tls_version; /* any, 1.2 or 1.3: what the front speaks */
    bool private_issuer;     /* issuer=private:DAYS or private:DAYS:SECONDS; off, issuer=aws: to 2049 */
    int64_t issued_begin;    /* of the validity of what it issues, seconds from then */
    int64_t issued_end;
};

/* What counts where nothing is set. */
struct standin_options option_defaults(void);

/* The word for it, without the alert's number. */
const char *option_refusal_name(enum option_refusal refusal);

/* Sets one option by its name in mosquitto.conf (token_reuse). Returns 0, or -EINVAL for a name or a value that there
 * is not; nothing is changed then. */
int option_set(struct standin_options *options, const char *name, const char *value);

/* Sets all members of the object, {"token-reuse": true, "propagation": 1.5, "refusal": "close"}: all of them or, with
 * -EINVAL, none. */
int option_set_all(struct standin_options *options, struct json_object *members);

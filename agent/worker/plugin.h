/* The interface between the worker and a provisioning method: a loadable module NAME.so that exports one symbol,
 * `enrolld_plugin`. Private while fleet-claim is its only user: it may still change with each release.
 *
 * A plugin is straight-line blocking code in named steps. It never touches the TPM, sockets or the store itself, and
 * logs nothing. Every host call that can fail returns 0 or -1; after -1 the failure is recorded already and the
 * plugin returns -1 at once. The host holds one connection at a time. */
#pragma once

#include "common/failure.h"
#include "common/step.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENROLLD_PLUGIN_ABI 0

enum enrolld_option_type {
    ENROLLD_OPTION_TEXT,   /* specifiers are expanded */
    ENROLLD_OPTION_FILE,   /* an absolute path or credential:ID; the host reads it, the content is secret */
    ENROLLD_OPTION_PREFIX, /* a family, like Parameter.NAME: text, or file:PATH or credential:ID */
};

struct enrolld_option {
    const char *name; /* a name that ends with '.' is that of a family */
    enum enrolld_option_type type;
    bool required;
    const char *help;
    const char *choices; /* TEXT: the words that it may be, with a blank between them; NULL: any text */
};

struct enrolld_reply {
    bool accepted;       /* came on TOPIC/accepted, not on TOPIC/rejected */
    const char *payload; /* borrowed until the next call of the host, NUL-terminated, may hold NUL */
    size_t size;
};

enum enrolld_registration {
    ENROLLD_REGISTRATION_ASKED,   /* is asked for now: from here on it may have happened, whatever comes back */
    ENROLLD_REGISTRATION_REFUSED, /* has not happened, and may be asked for again with the same secret */
    ENROLLD_REGISTRATION_SPENT,   /* the secret is not accepted: it has happened before, or never will */
};

struct enrolld_host {
    size_t size; /* sizeof of the host's struct: members are only ever added at its end */

    /* Says which step comes next (common/step.h). */
    void (*step)(const struct enrolld_host *host, const char *step);
    /* Records why the method failed; returns -1. */
    int (*fail)(const struct enrolld_host *host, enum failure_class class, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

    /* The value of an option of the plugin's section, NULL if it is not set. Borrowed until the plugin returns. */
    const char *(*option)(const struct enrolld_host *host, const char *name);
    /* Walks a family: *name is the part behind the prefix. False when there are no more. */
    bool (*next_option)(const struct enrolld_host *host, const char *prefix, size_t *position, const char **name,
                        const char **value);

    /* A PKCS#10 request in PEM for the device's new key, made before the plugin was called. Borrowed. */
    const char *(*request_pem)(const struct enrolld_host *host);

    /* Connects to the configured endpoint with a client certificate chain and its key in PEM. client_id NULL: the
     * serial number and "-enroll". */
    int (*connect)(const struct enrolld_host *host, const char *client_id, const char *certificate_pem,
                   const char *private_key_pem);
    /* One SUBSCRIBE for up to 8 topic filters, SUBACK awaited. */
    int (*subscribe)(const struct enrolld_host *host, const char *const *filters, size_t count);
    /* Publishes and waits for the reply on TOPIC/accepted or TOPIC/rejected. */
    int (*exchange)(const struct enrolld_host *host, const char *topic, const char *payload, size_t size,
                    struct enrolld_reply *reply);
    void (*disconnect)(const struct enrolld_host *host);

    /* Takes a private key (PEM) that comes with the certificate instead of being made here; before take_certificate(),
     * which then ends this process: it returns -1, and another one goes on. The caller wipes its copy. */
    int (*take_key)(const struct enrolld_host *host, const char *private_key_pem);
    /* The secret of a certificate that is held from an attempt before and not registered yet, as far as is known: to be
     * registered now instead of asking for another one. NULL if there is none. Borrowed until take_thing(). */
    const char *(*held_secret)(const struct enrolld_host *host);
    /* Takes the certificate (leaf first) with the secret that registers it: it must be for the device's key, and its id
     * the SHA-256 of its DER. Both survive a power cut once this returns. */
    int (*take_certificate)(const struct enrolld_host *host, const char *certificate_pem, const char *certificate_id,
                            const char *secret);
    /* Tells how the registration of the certificate stands: to be called before it is asked for, and after an answer
     * that is not "registered". Survives a power cut once this returns. */
    int (*registration)(const struct enrolld_host *host, enum enrolld_registration registration);
    /* Takes what the cloud said when it had registered the device: the thing's name ("" for none) and the template's
     * device configuration, a JSON object or NULL. */
    int (*take_thing)(const struct enrolld_host *host, const char *thing_name, const char *device_configuration);
};

struct enrolld_plugin {
    uint32_t abi; /* ENROLLD_PLUGIN_ABI */
    size_t size;  /* sizeof(struct enrolld_plugin) */
    const char *name;
    const struct enrolld_option *options; /* ends with a NULL name */
    /* True if the key will come by take_key(), so that none is made here; NULL: never. */
    bool (*brings_key)(const struct enrolld_host *host);
    /* From the claim to a registered certificate. The host then proves it by a connection. */
    int (*enroll)(const struct enrolld_host *host);
};

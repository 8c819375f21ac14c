/* The interface between enrolld's worker and a provisioning method, version 1: the only header that a plugin needs.
 * docs/plugin.md builds one step by step.
 *
 * A plugin is a shared object that exports one symbol, `enrolld_plugin`. It answers to one method name or more, and is
 * found under each of them: NAME.so in $(libdir)/enrolld/plugins, which may be a symbolic link into that directory.
 *
 * A plugin is straight-line blocking code in named steps. It never touches the TPM, sockets or the state directory
 * itself, logs nothing and starts no thread; its process ends after one attempt. Every host call that can fail returns
 * -1 when it has: the failure is recorded already, and the plugin returns -1 at once. A plugin is trusted code: it runs
 * with all rights of the worker.
 *
 * Compatibility: within version 1 a struct whose size is told only ever gets members at its end: enrolld_host,
 * enrolld_plugin, enrolld_https_request and enrolld_https_response by their own `size`, enrolld_method and
 * enrolld_option by `method_size` and `option_size` of the plugin, the distance at which its tables are walked. 0, NULL
 * and false mean there what was before the member came. enrolld_reply and enrolld_refusal stay as they are. An enum may
 * get values at its end; none changes its number. A plugin runs with every enrolld that is as new as the header it was
 * built with, or newer. One that can do without a later member of the host asks for it by host->size, and tells the
 * sizes of the other structs without the members that came later. Later members: `use` of enrolld_option,
 * `current` and `connect_current` of enrolld_host, `renew` of enrolld_plugin. Whoever changes this file:
 * tests/plugins/abi.c does not compile when anything has moved. A new member gets a line there, and is used by the
 * worker only where the plugin's own size says that it is there; whatever else moves is another ENROLLD_PLUGIN_ABI. */
#ifndef ENROLLD_PLUGIN_H
#define ENROLLD_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ENROLLD_PLUGIN_ABI 1

/* Why an attempt has failed, which decides when the next one comes (section [Retry] of enrolld.conf). */
enum enrolld_class {
    ENROLLD_CLASS_NETWORK = 0,    /* name resolution, TCP, TLS: nobody has answered, or nobody who could prove it */
    ENROLLD_CLASS_CLOUD_BUSY = 1, /* 429, 5xx, quotas: asked again later, and gently */
    ENROLLD_CLASS_NOT_YET = 2,    /* will come by itself: an activation, a queue, somebody's approval */
    ENROLLD_CLASS_DENIED = 3,     /* refused for good, until somebody does something; may lead on to the next method */
    ENROLLD_CLASS_INVALID = 4,    /* a setting or an input is wrong */
    ENROLLD_CLASS_INTERNAL = 5,   /* out of memory, or what should never happen */
};

/* Steps that people know from fleet provisioning; a plugin may name its own: one lower-case word, at most 31 bytes. */
#define ENROLLD_STEP_CLAIM "claim"             /* reaching who issues, with whatever proves who asks */
#define ENROLLD_STEP_IDENTITY "identity"       /* the same in renew(), with the identity in use */
#define ENROLLD_STEP_CERTIFICATE "certificate" /* asking for the certificate */
#define ENROLLD_STEP_REGISTER "register"       /* having certificate and thing registered */

enum enrolld_option_type {
    ENROLLD_OPTION_TEXT = 0,   /* specifiers are expanded: %s serial number, %m machine id, %H host name */
    ENROLLD_OPTION_FILE = 1,   /* an absolute path or credential:ID; the value is the file's content, and secret */
    ENROLLD_OPTION_PREFIX = 2, /* a family, like Parameter.NAME: text, or file:PATH or credential:ID, then secret */
    ENROLLD_OPTION_SPAN = 3,   /* a time span: one number and one of ms, s, min, h, d, like 30min; see span_ms() */
};

/* For what an option is there. */
enum enrolld_option_use {
    ENROLLD_USE_ENROLL = 0, /* enroll(); it may stand there unread when an identity is renewed */
    ENROLLD_USE_RENEW =
        1, /* renew(): `required` says that nothing can be renewed without it, not that it must be set */
    ENROLLD_USE_BOTH = 2,
};

/* A key of the method's section in enrolld.conf. Keys that are not in the table are refused by file and line, and so is
 * a value that its type or `choices` do not allow. */
struct enrolld_option {
    const char *name; /* of a family: ends with '.' */
    enum enrolld_option_type type;
    bool required;
    const char *help;      /* one sentence for `enrollctl plugins` */
    const char *choices;   /* TEXT: the words that it may be, with a blank between them; NULL: any text */
    const char *otherwise; /* TEXT, SPAN: the value where it is not set, read as if it were; NULL: none */
    /* What it is not there for is not read: option() and next_option() say that it is not set, no file or credential of
     * it is opened, no specifier expanded. %o and %t have values only where it is ENROLLD_USE_RENEW. */
    enum enrolld_option_use use;
};

struct enrolld_method {
    const char *name; /* lower-case letters, digits and hyphens, at most 63 bytes; also of its section */
    const char *help; /* one sentence */
    const struct enrolld_option *options; /* the keys of its section, ends with a NULL name */
    /* Key and certificate are those of `enrollctl import`: the host holds them when the plugin is called, and skips the
     * method while there are none. */
    bool imports;
};

/* Borrowed until the next call that uses the network: connect(), subscribe(), exchange(), disconnect(), https() or
 * try_identity(). So are the two that follow where they say "of the network". */
struct enrolld_reply {
    bool accepted;       /* came on TOPIC/accepted, not on TOPIC/rejected */
    const char *payload; /* NUL-terminated, may hold NUL */
    size_t size;
};

enum enrolld_registration {
    ENROLLD_REGISTRATION_ASKED = 0,   /* is asked for now: from here on it may have happened, whatever comes back */
    ENROLLD_REGISTRATION_REFUSED = 1, /* has not happened, and may be asked for again with the same secret */
    ENROLLD_REGISTRATION_SPENT = 2,   /* the secret is not accepted: it has happened before, or never will */
};

/* Why a connection with the device's own identity was not accepted, though it may be later. */
struct enrolld_refusal {
    enum enrolld_class reason; /* NETWORK, CLOUD_BUSY, NOT_YET or DENIED; DENIED: by the server in the TLS session */
    bool reached;              /* a server was reached whose certificate was verified */
    const char *message;       /* what it said or did, borrowed until the next call of the network */
};

/* The identity in use, which is renewed. */
struct enrolld_current {
    size_t size;                /* of the host's struct */
    const char *method;         /* that has issued it, perhaps another one */
    const char *thing_name;     /* "" if it was never told */
    const char *certificate_id; /* SHA-256 of its DER in hexadecimal */
};

struct enrolld_https_request {
    size_t size;                /* sizeof(struct enrolld_https_request) */
    const char *method;         /* "GET", "POST", "PUT" */
    const char *url;            /* https://HOST[:PORT]/PATH */
    const char *const *headers; /* "Name: value", the last one NULL; or NULL */
    const void *body;           /* NULL for none */
    size_t body_size;
    const char *root_ca_pem;     /* who may have issued the server's certificate; NULL: the authorities of RootCA= */
    const char *certificate_pem; /* the client's certificate, leaf first, with its key; NULL for none */
    const char *private_key_pem;
};

/* What it points to is borrowed until the next call of the network. */
struct enrolld_https_response {
    size_t size;              /* sizeof(struct enrolld_https_response), set by the plugin: nothing behind is written */
    int status;               /* 200, 404, ... */
    const char *content_type; /* "" if there is none */
    const char *body;         /* at most 128 KiB, NUL-terminated, may hold NUL */
    size_t body_size;
    uint32_t retry_after_s; /* the Retry-After header in seconds, 0 for none */
};

struct enrolld_host {
    size_t size;               /* of the host's struct */
    const char *method;        /* as which of its methods the plugin is called */
    const char *serial_number; /* of the device */
    const char *endpoint;      /* the host name of the cloud's MQTT endpoint */
    /* For how long this method has failed with NOT_YET, at least 1 if it has. Time without a network does not count.
     * Starts again when somebody has changed something or has asked, and when the daemon is restarted. */
    uint32_t waited_s;

    /* Says which step comes next. */
    void (*step)(const struct enrolld_host *host, const char *step);
    /* Records why the method has failed; returns -1. Secrets of options, and the one of the certificate, are masked in
     * the text. After an https() whose response said Retry-After the next attempt waits as long. */
    int (*fail)(const struct enrolld_host *host, enum enrolld_class reason, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
    /* A pause; `why` is shown meanwhile as the reason. */
    void (*pause)(const struct enrolld_host *host, uint32_t milliseconds, const char *why);

    /* The value of an option of the method's section, or its default; NULL if there is neither, or it is empty.
     * Borrowed until the plugin returns: the host wipes it, the plugin only copies that it made. */
    const char *(*option)(const struct enrolld_host *host, const char *name);
    /* The same of an ENROLLD_OPTION_SPAN, in milliseconds, at most 365 days; 0 if there is neither. */
    uint64_t (*span_ms)(const struct enrolld_host *host, const char *name);
    /* Walks a family: *name is the part behind the prefix. *position is 0 at first. False when there are no more. */
    bool (*next_option)(const struct enrolld_host *host, const char *prefix, size_t *position, const char **name,
                        const char **value);

    /* A PKCS#10 request in PEM for the device's new key, made before the plugin was called. Borrowed until the plugin
     * returns. NULL where a certificate was held then, and where the key does not come from here. */
    const char *(*request_pem)(const struct enrolld_host *host);

    /* --- MQTT: one connection at a time, to the configured endpoint --- */

    /* Connects with a client certificate (leaf first) and its key in PEM. client_id NULL: the serial number and
     * "-enroll". */
    int (*connect)(const struct enrolld_host *host, const char *client_id, const char *certificate_pem,
                   const char *private_key_pem);
    /* One SUBSCRIBE for up to 8 topic filters, SUBACK awaited. */
    int (*subscribe)(const struct enrolld_host *host, const char *const *filters, size_t count);
    /* Publishes and waits for the reply on TOPIC/accepted or TOPIC/rejected. */
    int (*exchange)(const struct enrolld_host *host, const char *topic, const char *payload, size_t size,
                    struct enrolld_reply *reply);
    void (*disconnect)(const struct enrolld_host *host);

    /* --- HTTPS --- */

    /* One request and its response, whatever its status; redirections are not followed. Both tell their sizes. */
    int (*https)(const struct enrolld_host *host, const struct enrolld_https_request *request,
                 struct enrolld_https_response *response);

    /* --- the identity --- */

    /* Takes a private key (PEM) that comes with the certificate, from whoever issues that, instead of being made here:
     * with Backend=tpm2 it is imported into the TPM. `keyOrigin` of the identity is then "cloud": it was outside of the
     * device. Before take_certificate(), which then ends this process: it returns -1, and another one goes on. A copy
     * that the plugin made is for the plugin to wipe. */
    int (*take_key)(const struct enrolld_host *host, const char *private_key_pem);
    /* The certificate that is held, leaf first: imported, or taken in this attempt or an earlier one. NULL if there is
     * none yet: then it is to be asked for. Borrowed, as the next two, until take_certificate() or until the plugin
     * returns. */
    const char *(*certificate_pem)(const struct enrolld_host *host);
    /* Its id, the SHA-256 of its DER in hexadecimal, or NULL. */
    const char *(*certificate_id)(const struct enrolld_host *host);
    /* The common name of its subject, or NULL if it has none. As its issuer wrote it: not judged in any way. */
    const char *(*certificate_common_name)(const struct enrolld_host *host);
    /* The secret that came with the certificate that is held, and is not used up: it registers that one. NULL if there
     * is none. Borrowed until take_certificate(), registration() or take_thing(). */
    const char *(*held_secret)(const struct enrolld_host *host);
    /* Takes the certificate (leaf first), which must be for the device's key. certificate_id: how the issuer calls it,
     * which must be right; NULL if it does not say. secret: what registers it, NULL for nothing. All of it survives a
     * power cut once this returns. */
    int (*take_certificate)(const struct enrolld_host *host, const char *certificate_pem, const char *certificate_id,
                            const char *secret);
    /* Tells how the registration by the secret stands: to be called before it is asked for, and after an answer that is
     * not "registered". Survives a power cut once this returns. */
    int (*registration)(const struct enrolld_host *host, enum enrolld_registration registration);
    /* Tells that certificate and device are registered: the thing's name (1 to 128 of a-z A-Z 0-9 : _ -, or "" if that
     * was not said) and a device configuration, a JSON object or NULL. */
    int (*take_thing)(const struct enrolld_host *host, const char *thing_name, const char *device_configuration);
    /* One CONNECT with the device's key and the certificate that is held. 0: accepted, which is its proof. 1: not, but
     * it may be later. Keeps the distance that the cloud demands between two of them. */
    int (*try_identity)(const struct enrolld_host *host, struct enrolld_refusal *refusal);

    /* --- renewal --- */

    /* NULL in enroll(). Borrowed until the plugin returns. */
    const struct enrolld_current *current;
    /* Connects with the identity in use, as the agent's own MQTT client, which throws no application out. Only in
     * renew(). */
    int (*connect_current)(const struct enrolld_host *host);
};

struct enrolld_plugin {
    uint32_t abi;         /* ENROLLD_PLUGIN_ABI */
    uint32_t size;        /* sizeof(struct enrolld_plugin) */
    uint32_t host_size;   /* sizeof(struct enrolld_host) that the plugin needs at least: all of its header's, usually */
    uint32_t method_size; /* sizeof(struct enrolld_method) */
    uint32_t option_size; /* sizeof(struct enrolld_option) */
    const struct enrolld_method *methods; /* ends with a NULL name */
    /* True if the key will come by take_key(), so that none is made here. NULL: never. */
    bool (*brings_key)(const struct enrolld_host *host);
    /* Are the inputs of the method there and of use? If not, fail() says what is missing, and the next method of
     * Methods= is tried. No network here. NULL: what is required of the options is enough. */
    int (*usable)(const struct enrolld_host *host);
    /* From nothing, or from what is held, to a registered certificate. Returns 0 or -1. The host then proves it by a
     * connection, if try_identity() has not. */
    int (*enroll)(const struct enrolld_host *host);
    /* The same for the successor of the identity in use, host->current, which stays untouched and in use until the new
     * one is proven and committed. What enroll() is told of certificates, secrets and registrations holds here, too;
     * another thing than that of the identity in use is refused, and so is its certificate again. A method may renew
     * what another one has issued (RenewMethod= in enrolld.conf). NULL: it cannot. */
    int (*renew)(const struct enrolld_host *host);
};

#define ENROLLD_PLUGIN_EXPORT __attribute__((visibility("default")))

/* What the plugin defines. */
extern ENROLLD_PLUGIN_EXPORT const struct enrolld_plugin enrolld_plugin;

#ifdef __cplusplus
}
#endif

#endif

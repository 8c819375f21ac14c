/* What the keys of [Agent], [Cloud], [Key], [Request], [Renewal] and [Retry] mean: one table of key, type, default and
 * help, read by the daemon, the worker and --check-config alike. Sections of plugins belong to the plugins. */
#pragma once

#include "common/configuration.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SETTINGS_METHOD_MAX 64
#define SETTINGS_METHODS_MAX 8
#define SETTINGS_HOST_MAX 254 /* RFC 1035: 253 characters */
#define SETTINGS_NAME_MAX 255 /* of a thing, a client or a topic, with specifiers; AWS IoT Core allows 256 bytes */

enum setting_key_backend { SETTING_KEY_TPM2, SETTING_KEY_FILE };
enum setting_key_algorithm {
    SETTING_KEY_P256,
    SETTING_KEY_P384,
    SETTING_KEY_RSA2048,
    SETTING_KEY_RSA3072,
};
enum setting_wrong_tpm { SETTING_WRONG_TPM_FAIL, SETTING_WRONG_TPM_ENROLL };
enum setting_on_denied { SETTING_DENIED_WAIT, SETTING_DENIED_NEXT };
enum setting_on_refused { SETTING_REFUSED_WAIT, SETTING_REFUSED_ENROLL };
enum setting_minimum_tls { SETTING_TLS_1_2, SETTING_TLS_1_3 };

/* One row of the retry table: full jitter between 0 and min(cap, base * 2^attempt). */
struct retry_range {
    uint64_t base_ms;
    uint64_t cap_ms;
};

/* The texts are those of the configuration that was read, and hold as long as it does; none is NULL. */
struct settings {
    size_t method_count;
    char methods[SETTINGS_METHODS_MAX][SETTINGS_METHOD_MAX]; /* [Agent] Methods=, in order */
    enum setting_on_denied on_denied;                        /* [Agent] OnDenied= */
    uint64_t clock_wait_ms;                                  /* [Agent] ClockWait= */
    bool volatile_state;                                     /* [Agent] VolatileState= */
    const char *serial_number;                               /* [Agent] SerialNumber=, the source and not the number */
    const char *thing_name;                        /* [Agent] ThingName=, with specifiers; "": only the cloud says */
    char serial_replacement;                       /* [Agent] SerialNumberReplacement=, NUL for none */
    const char *client_id;                         /* [Agent] ClientId=, with specifiers; "" for the defaults */
    const char *endpoint;                          /* [Cloud] Endpoint= */
    uint16_t port;                                 /* [Cloud] Port= */
    const char *root_ca;                           /* [Cloud] RootCA=, a path */
    const char *proxy;                             /* [Cloud] Proxy=, "" for none */
    enum setting_minimum_tls minimum_tls;          /* [Cloud] MinimumTLS= */
    enum setting_key_backend key_backend;          /* [Key] Backend= */
    enum setting_key_algorithm key_algorithm;      /* [Key] Algorithm= */
    const char *tcti;                              /* [Key] TCTI= */
    enum setting_wrong_tpm on_wrong_tpm;           /* [Key] OnWrongTPM= */
    const char *subject;                           /* [Request] Subject=, with specifiers */
    const char *prove_topic;                       /* [Cloud] ProveTopic=, with specifiers; "": none */
    const char *renew_method;                      /* [Renewal] RenewMethod=, "": that of the identity; or "none" */
    unsigned renew_percent;                        /* [Renewal] Lifetime=, of the certificate */
    uint64_t max_age_ms;                           /* [Renewal] MaxAge=, 0 for none */
    unsigned spread_percent;                       /* [Renewal] Spread=, of the time until then */
    bool reuse_key;                                /* [Renewal] ReuseKey= */
    const char *retire_topic;                      /* [Renewal] RetireTopic=, with specifiers; "": none */
    bool retire_acknowledged;                      /* [Renewal] RetireAcknowledged= */
    unsigned keep_generations;                     /* [Renewal] KeepGenerations=, beside the one in use */
    uint64_t prove_interval_ms;                    /* [Renewal] ProveInterval=, 0: never */
    enum setting_on_refused on_refused;            /* [Renewal] OnRefused= */
    uint64_t refused_grace_ms;                     /* [Renewal] RefusedGrace= */
    bool keep_claim;                               /* [Renewal] KeepClaim= */
    struct retry_range retry[FAILURE_CLASS_COUNT]; /* [Retry] Network= ... */
    uint64_t propagation_ms;                       /* [Retry] Propagation= */
};

/* As long as no configuration is in force: no text is set. */
extern const struct settings settings_unset;

/* Reads all known keys; what is missing or empty gets its default. Class `invalid` with file and line for a value that
 * cannot be. Required keys that are missing (Methods, Endpoint, RootCA) are named. */
int settings_read(const struct configuration *configuration, struct settings *ret, struct failure *failure);

/* Calls `warn` with "FILE:LINE: unknown key ..." for each unknown key of a known section, and for each section that is
 * neither known nor the section of a method in Methods= or RenewMethod=. */
void settings_warn_unknown(const struct configuration *configuration, const struct settings *settings,
                           void (*warn)(const char *text, void *data), void *data);

/* One row for --check-config and `enrollctl config`. */
struct setting_row {
    const char *section, *key, *value;
    const char *file; /* NULL: the default */
    unsigned line;
};

/* Enumerates the effective settings: every known key with its value and origin, then the plugins' entries. */
void settings_enumerate(const struct configuration *configuration,
                        void (*row)(const struct setting_row *row, void *data), void *data);

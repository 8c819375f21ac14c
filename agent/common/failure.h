/* What went wrong: a class that decides the retry (one table: settings.c), the step it
 * happened in, and a message with the peer's own words. Made where it happens, logged once by the daemon. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FAILURE_STEP_MAX 32
#define FAILURE_MESSAGE_MAX 768

enum failure_class {
    FAILURE_NETWORK,    /* DNS, TCP, TLS transport: also every unauthenticated refusal */
    FAILURE_CLOUD_BUSY, /* 429, 5xx, quota */
    FAILURE_NOT_YET,    /* propagation, just-in-time registration */
    FAILURE_DENIED,     /* 403, policy, hook */
    FAILURE_INVALID,    /* 400, 404, 409, configuration, unusable input */
    FAILURE_CLOCK,      /* dates that cannot be judged with this clock */
    FAILURE_TPM,        /* the TPM is absent, busy, locked, another one */
    FAILURE_INTERNAL,   /* a worker that crashed or lied, out of memory, a full disk */
};
#define FAILURE_CLASS_COUNT (FAILURE_INTERNAL + 1)

struct failure {
    enum failure_class class;
    char step[FAILURE_STEP_MAX];       /* one of the step names of common/step.h */
    char message[FAILURE_MESSAGE_MAX]; /* UTF-8 without control characters, ends with what to do if that is known */
    uint32_t retry_after_s;            /* what the server asked for, 0 for nothing */
    bool wordless;                     /* denied: by an orderly close without a word, which may be throttling, too */
    bool reached;                      /* of a connection: a server with a certificate that verifies has answered */
    bool unusable;                     /* an input of the method is missing or wrong: nothing was tried */
};

/* The name on D-Bus, in logs and on the channel: "network", "cloud-busy", ... */
const char *failure_class_name(enum failure_class class);

/* Returns the class of that name, or -EINVAL. */
int failure_class_from_name(const char *name);

/* Fills *failure. The text is cut to fit, and made printable UTF-8 (text_make_printable), whatever a hostile peer put
 * into it. */
void failure_record(struct failure *failure, enum failure_class class, const char *step, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The same with the value -1, so that callers write `return failure_set(...)`: a macro, for the compiler and the static
 * analysers to know that value. */
#define failure_set(...)                                                                                               \
    ({                                                                                                                 \
        failure_record(__VA_ARGS__);                                                                                   \
        -1;                                                                                                            \
    })

/* Adds to the message, as far as there is room: what only a caller knows. */
void failure_append(struct failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));

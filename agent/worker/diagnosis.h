/* A diagnosis as a worker makes it: probes one after the other, each in a process of its own, so that one that hangs or
 * crashes costs its own row and not those of the others. */
#pragma once

#include "common/configuration.h"
#include "common/diagnosis.h"
#include "common/failure.h"
#include "common/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct diagnosis; /* in memory that is shared with the probes */

/* What the probes look at; borrowed. */
struct diagnosis_subject {
    const struct configuration *configuration;
    const struct settings *settings;
    bool provisioned;   /* an identity is in use: what an enrolment needs may be gone */
    const char *staged; /* what is staged, NULL for nothing */
    size_t staged_size;
    const char *method; /* of a probe that looks at one */
};

typedef void diagnosis_probe(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);

/* NULL: out of memory. */
struct diagnosis *diagnosis_new(void);
struct diagnosis *diagnosis_free(struct diagnosis *diagnosis);

/* Adds a row. The text is cut to fit, and made printable. advice: "" for none. */
void diagnosis_add(struct diagnosis *diagnosis, const char *what, enum diagnosis_verdict verdict, const char *advice,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Adds what a failure says, class and all. */
void diagnosis_add_failure(struct diagnosis *diagnosis, const char *what, const struct failure *failure,
                           const char *advice);

struct diagnosis_task {
    const char *what; /* of the row that says so if the probe does not end in time, or badly */
    diagnosis_probe *probe;
    unsigned seconds;   /* at most */
    const char *advice; /* where it does not end in time */
};

void diagnosis_run(struct diagnosis *diagnosis, const struct diagnosis_task *task,
                   const struct diagnosis_subject *subject);

/* True if such a row is there and says that it is wrong. */
bool diagnosis_is_wrong(const struct diagnosis *diagnosis, const char *what);

/* All rows as FILE_DIAGNOSIS has them, from malloc(); NULL: out of memory. */
char *diagnosis_encode(const struct diagnosis *diagnosis, size_t *ret_size);

/* The probes. Of the device: */
void diagnose_tpm(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);
void diagnose_serial_number(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);
/* Of the way to the cloud: */
#define DIAGNOSIS_NO_NAME_SERVER "no name server answers: is the network up, what does /etc/resolv.conf say?"
void diagnose_root_ca(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);
void diagnose_dns(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);
void diagnose_tcp(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);
void diagnose_tls(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);
/* Of the inputs of a method, subject->method: */
void diagnose_method(struct diagnosis *diagnosis, const struct diagnosis_subject *subject);

/* The row of a method. */
void diagnosis_method_row(const char *method, char row[DIAGNOSIS_WHAT_MAX]);

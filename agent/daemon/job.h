/* One run of a worker: sends the job, takes progress, checkpoints and the result in their order, enforces the deadline,
 * and reaps.
 * "Result, then end of file" (and for a forked worker: then exit status 0) is the only success; anything else is a
 * failure of class `internal`, step `worker`, and the worker is cut off: its channel is closed, which is its SIGTERM;
 * a forked one also gets SIGTERM, and SIGKILL after the grace time. */
#pragma once

#include "common/channel.h"
#include "common/failure.h"
#include "daemon/identity.h"
#include "daemon/launch.h"

#include <systemd/sd-event.h>

#define JOB_PROGRESS_MAX 1000
#define JOB_CHECKPOINT_MAX 32

struct job;

enum job_verb {
    VERB_CHECK,
    VERB_ENROLL,
    VERB_RENEW,
    VERB_PROVE,
    VERB_RETIRE,
    VERB_REQUEST,
    VERB_IMPORT,
    VERB_PLUGINS,
    VERB_DIAGNOSE,
};

/* "check", "enroll", "renew", "prove", "retire", "request", "import", "plugins", "diagnose" */
const char *job_verb_name(enum job_verb verb);

struct job_request {
    enum job_verb verb;
    uint32_t generation;
    const char *method;     /* enroll, renew: by which one; else NULL */
    bool synchronised;      /* somebody has set the clock */
    bool credentials;       /* enroll, diagnose: the settings of the methods name systemd credentials */
    uint32_t waited_s;      /* enroll, renew: since it was first told "not yet" */
    const char *old;        /* retire: ids of certificates, with a blank between two of them */
    const char *methods;    /* diagnose: whose inputs are looked at */
    bool device;            /* diagnose: also the device and its way to the cloud */
    const char *subject;    /* request: in place of the configured one, or NULL */
    uint64_t deadline_usec; /* for all of it */
    uint64_t grace_usec;    /* between SIGTERM and SIGKILL */
};

/* The deadlines of the product; tests have shorter ones. That of an enrolment or renewal comes on top of its two
 * proofs. */
#define JOB_CHECK_DEADLINE_USEC (120 * 1000000ULL)
#define JOB_TASK_DEADLINE_USEC (300 * 1000000ULL) /* request, import: a TPM may need a minute for a key */
#define JOB_LIST_DEADLINE_USEC (30 * 1000000ULL)  /* plugins */
#define JOB_DIAGNOSE_DEADLINE_USEC (180 * 1000000ULL)
#define JOB_ENROLL_DEADLINE_USEC (600 * 1000000ULL)
#define JOB_PROVE_DEADLINE_USEC (180 * 1000000ULL)
#define JOB_RETIRE_DEADLINE_USEC (600 * 1000000ULL) /* the longest list, if nobody answers for any of them */
#define JOB_GRACE_USEC (5 * 1000000ULL)

struct job_outcome {
    bool done;
    bool resume;    /* enroll, renew not done: to go on from the checkpoint with another worker; not a failure */
    bool canceled;  /* not done: by job_cancel() */
    bool lost;      /* check not done: this identity can never work again here */
    bool elsewhere; /* the same, but its key is in another TPM */
    bool refused;   /* prove not done: the cloud itself has refused the identity, beyond doubt */
    struct failure failure;     /* not done */
    int files[FILE_ROLE_COUNT]; /* enroll, renew done: certificate, private key, root CA, identity; check done: root CA
                                 * if that of the configuration is another one now; request: request; plugins: plugins;
                                 * diagnose: diagnosis; sealed */
    struct identity identity;   /* check done; check not done: method and certificate id alone, "" if it could not read
                                 * them; import done: its certificate id alone; request done: the serial number alone
                                 */
};

struct job_handler {
    /* refusal: why the step is asked again, NULL for a new step; note: for the log, or NULL */
    void (*progress)(const char *step, const struct failure *refusal, const char *note, void *data);
    /* Retire: the cloud knows that this certificate is replaced. NULL where no job retires. */
    void (*told)(const char *certificate_id, void *data);
    /* Keeps a checkpoint, or of a request or import what is staged (a sealed memfd, borrowed), durably: 0, or -1 with a
     * failure, which is then that of the job. */
    int (*checkpoint)(int file, void *data, struct failure *failure);
    /* Called once, from the event loop or from job_cancel(); the files are closed when it returns. It frees the job. */
    void (*ended)(const struct job_outcome *outcome, void *data);
    void *data;
};

/* Starts a worker. The files are the job's from now on, also on failure (-1: not there). On failure `ended` is not
 * called. SIGCHLD must be blocked (sd_event_add_child(3)). */
int job_start(sd_event *event, const struct launch *launch, const struct job_request *request,
              int files[FILE_ROLE_COUNT], const struct job_handler *handler, struct job **ret, struct failure *failure);

/* Cuts the worker off; `ended` follows, at once or when the child is reaped. */
void job_cancel(struct job *job);

/* Also ends a child at once, by SIGKILL, and reaps it; `ended` is not called any more. */
struct job *job_free(struct job *job);

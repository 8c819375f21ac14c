/* The state machine: derives from the state directory what is to be done, runs one job at a time, waits between
 * attempts. It never gives up.
 *
 *     start ----> checking ----> provisioned
 *       |           | |  ^
 *       |           | |  '---- backoff, failed (the identity is kept)
 *       |      lost | '------------^
 *       v           v
 *       '---> (waiting-clock) ---> enrolling ----> provisioned
 *                   ^                  |
 *                   |                  v
 *                   '------------ backoff, failed
 */
#pragma once

#include "daemon/bus.h"
#include "daemon/launch.h"
#include "daemon/status.h"
#include "daemon/store.h"

#include <systemd/sd-event.h>

struct agent;

/* Borrowed, and used until agent_free(). */
struct agent_environment {
    sd_event *event;
    struct store *store;
    int runtime;                 /* runtime.h, or a negative number for none */
    int route;                   /* network.h, or a negative number for none; the agent's own from agent_start() on */
    int clock;                   /* clock_open(), the same */
    const char *clock_directory; /* for clock_read(), or NULL */
    enum volatility volatile_state; /* of the state directory */
    struct launch launch;
    const char *configuration_path;   /* NULL: the usual places */
    const char *credential_directory; /* the path of `current` */
};

/* Answers to requests; bus-methods.c has a table of their D-Bus errors. */
enum agent_answer {
    ANSWER_YES,
    ANSWER_ALREADY_PROVISIONED,
    ANSWER_BUSY,
    ANSWER_NO_SUCH_JOB,
    ANSWER_INVALID_CONFIGURATION,
    ANSWER_CLOCK_NOT_SET, /* with its failure */
    ANSWER_NO_IDENTITY,
    ANSWER_NOT_RENEWABLE, /* with its failure */
    ANSWER_FAILED,        /* with its failure */
};

struct agent *agent_new(const struct agent_environment *environment);
struct agent *agent_free(struct agent *agent);

/* Who is told of changes, NULL for nobody. */
void agent_set_bus(struct agent *agent, struct bus *bus);

/* Reads the configuration and begins: nothing happens before. */
void agent_start(struct agent *agent);

/* Cuts the worker off, waits for it a second at most, and ends the event loop with 0. */
void agent_stop(struct agent *agent);

const struct status *agent_status(const struct agent *agent);

/* Starts an attempt now (an enrolment a second after the last one at the earliest) and forgets how many have failed.
 * Returns the number of the job, that of the one that runs if an enrolment runs already. While an identity is kept that
 * could not be checked yet (backoff, failed), it is checked again first, and only enrolled anew if it is lost: a device
 * must not end with two certificates. A clock that is only plausible is not waited for. ALREADY_PROVISIONED; BUSY: the
 * check at start; INVALID_CONFIGURATION, CLOCK_NOT_SET (the enrolment begins when it is) with its failure. */
enum agent_answer agent_enroll(struct agent *agent, uint32_t *ret_id, struct failure *failure);

/* Has the identity in use get its successor now (a second after the last connection at the earliest), and forgets how
 * many attempts have failed; returns the number of the job, also of one that runs. NO_IDENTITY; BUSY: something else
 * runs; NOT_RENEWABLE, CLOCK_NOT_SET, INVALID_CONFIGURATION with its failure. */
enum agent_answer agent_renew(struct agent *agent, uint32_t *ret_id, struct failure *failure);

/* Has a worker look at the identity in use, and another one connect with it, between the attempts to renew, and half a
 * minute after the last time at the earliest; returns the number of the job, also of one that waits or runs.
 * NO_IDENTITY; BUSY: whether there is one is not known yet; INVALID_CONFIGURATION with its failure. */
enum agent_answer agent_check(struct agent *agent, uint32_t *ret_id, struct failure *failure);

/* Has a worker make a key that waits, and a request for a certificate for it, when the present worker has ended;
 * subject: in place of the configured one, "" for that. JobRemoved() tells the end. BUSY: another request or
 * import waits; INVALID_CONFIGURATION with its failure. */
enum agent_answer agent_request(struct agent *agent, const char *subject, uint32_t *ret_id, struct failure *failure);
/* The last request that was made since the start, in PEM; NULL for none. Borrowed. */
const char *agent_request_pem(const struct agent *agent);

/* The same for the import of a certificate chain, and of its private key if that is not the one that waits (else -1).
 * Where an identity is in use already it only succeeds, and changes nothing, if that has the same certificate.
 * Takes the descriptors in any case; they go to the worker unread. The detail of JobRemoved() is the certificate's id.
 */
enum agent_answer agent_import(struct agent *agent, int certificate, int private_key, uint32_t *ret_id,
                               struct failure *failure);

/* Has a worker look through the plugins, whatever else is going on. text: as of JOB_PLUGINS in common/job.h, NULL after
 * a failure. BUSY: somebody has asked already. FAILED. */
typedef void agent_listed(const char *text, size_t size, const struct failure *failure, void *data);
enum agent_answer agent_list_plugins(struct agent *agent, agent_listed *listed, void *data, struct failure *failure);

/* Looks at all that an enrolment needs, beside whatever else is going on: by workers, where enrolments run, and at the
 * store. JobRemoved() tells the end. BUSY: somebody has asked already; INVALID_CONFIGURATION with its failure. */
enum agent_answer agent_diagnose(struct agent *agent, uint32_t *ret_id, struct failure *failure);
/* The rows of the last one that has ended (common/diagnosis.h, all of them are rows); NULL for none. Borrowed. */
const char *agent_diagnosis(const struct agent *agent, size_t *ret_size);

/* Ends a job, or with 0 the one that runs, else the one that waits; the next attempt comes as after any failure of
 * class `internal`. NO_SUCH_JOB. */
enum agent_answer agent_cancel(struct agent *agent, uint32_t id);

/* The certificate of the identity in use, with its chain, in PEM; the caller frees it. NO_IDENTITY; FAILED with its
 * failure. */
enum agent_answer agent_certificate(const struct agent *agent, char **ret_pem, struct failure *failure);

/* Ends what runs and waits, removes all generations and all that is kept of attempts, requests and imports
 * (store_forget() says in which order), and goes on as at the first start of a new device. The configuration and the
 * claim stay. BUSY: the daemon is going away; FAILED with its failure: not all could be removed, the status says
 * whether the identity is still in use. */
enum agent_answer agent_forget(struct agent *agent, struct failure *failure);

/* Reads the configuration again; where it waits for the next attempt, that comes at once. On INVALID_CONFIGURATION,
 * with its failure, the old configuration stays in force. */
enum agent_answer agent_reload(struct agent *agent, struct failure *failure);

/* The configuration in force, borrowed until the next reload. INVALID_CONFIGURATION while there is none, with why. */
enum agent_answer agent_get_configuration(const struct agent *agent, const struct configuration **ret,
                                          struct failure *failure);

#include "common/cleanup.h"
#include "common/step.h"
#include "worker/current-connection.h"
#include "worker/jobs.h"
#include "worker/prove.h"
#include "worker/refusal.h"
#include "worker/report.h"
#include "worker/topic.h"

#include <time.h>

/* Seconds after which no worker of the enrolment, or of what follows it, has connected within the last one. */
#define QUIET_AFTER_S 5

static void wait_for_others(const struct identity *identity) {
    int64_t age_s = (int64_t)time(NULL) - identity->issued_at;
    if (age_s >= 0 && age_s < QUIET_AFTER_S)
        current_connection_wait();
}

/* So AWS IoT Core may turn a certificate away, but a client id that comes too often, too, and anybody on the path that
 * can end a connection. */
static void doubt(struct failure *failure) {
    if (!failure->wordless)
        return;
    failure->class = FAILURE_NETWORK;
    failure_append(failure, " It may also be too busy.");
}

static int connect_as_agent(struct current_connection *connection, struct report_verdict *verdict) {
    struct failure *failure = connection->host.failure;
    if (current_connection_open(connection, STEP_PROVE) == 0)
        return 0;
    verdict->refused = refusal_is_beyond_doubt(failure, connection->was_accepted);
    host_explain_denial(connection->client_id, failure);
    if (failure->class == FAILURE_DENIED && !connection->was_accepted)
        failure_append(failure, " That id was not accepted before, so this need not be a refusal of the identity.");
    doubt(failure);
    return -1;
}

static int prove(struct current_connection *connection, const struct message *job, struct report_verdict *verdict,
                 struct failure *failure) {
    AUTO_FREE char *topic = NULL;
    if (current_connection_prepare(connection, job, failure) < 0)
        return -1;
    const struct identity *identity = &connection->current.identity;
    const struct specifier_values values = current_connection_values(connection, NULL);
    if (connection->settings.prove_topic[0] != '\0' &&
        topic_expand(connection->settings.prove_topic, &values, "ProveTopic", &topic, failure) < 0)
        return -1;
    wait_for_others(identity);
    if (connect_as_agent(connection, verdict) < 0)
        return -1;
    if (topic == NULL)
        return 0;
    return prove_publish(connection->host.mqtt, topic, identity->certificate_id, identity->thing_name, failure);
}

int job_prove(struct message *job, struct report_verdict *verdict, struct failure *failure) {
    struct current_connection *connection = calloc(1, sizeof *connection); /* too large for the stack */
    if (connection == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    int r = prove(connection, job, verdict, failure);
    current_connection_close(connection);
    free(connection);
    return r;
}

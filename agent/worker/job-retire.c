#include "common/cleanup.h"
#include "common/job.h"
#include "common/step.h"
#include "worker/current-connection.h"
#include "worker/jobs.h"
#include "worker/report.h"
#include "worker/retirement.h"
#include "worker/topic.h"

#include <stdio.h>
#include <string.h>

struct retire {
    struct current_connection connection;
    struct failure *failure;
    char *subscribed; /* where the acknowledgements come, NULL for nowhere yet */
    char id[CERTIFICATE_ID_SIZE];
    char reason[RETIREMENT_REASON_SIZE]; /* of the last answer */
    struct failure untold;               /* why the first one is not retired, "" if all are */
};

/* Where to tell of the certificate that comes next. Basic Ingest is a way in only: the answers come on the topic behind
 * the rule's name, which must be there. */
static int make_topic(const struct retire *retire, char **ret) {
    const struct settings *settings = &retire->connection.settings;
    const struct specifier_values values = current_connection_values(&retire->connection, retire->id);
    AUTO_FREE char *topic = NULL;
    if (topic_expand(settings->retire_topic, &values, "RetireTopic", &topic, retire->failure) < 0)
        return -1;
    if (settings->retire_acknowledged && strncmp(topic_without_rule(topic), "$aws/", 5) == 0)
        return failure_set(retire->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "RetireTopic= is %s, where nobody can be answered: with RetireAcknowledged=yes it needs a "
                           "topic behind the name of the rule, like $aws/rules/NAME/retire/%%t",
                           topic);
    *ret = TAKE_POINTER(topic);
    return 0;
}

/* One SUBSCRIBE for all certificates where the topic does not depend on them. */
static int subscribe(struct retire *retire, const char *topic) {
    AUTO_FREE char *accepted = NULL;
    AUTO_FREE char *rejected = NULL;
    if (retire->subscribed != NULL && strcmp(retire->subscribed, topic) == 0)
        return 0;
    free(retire->subscribed);
    retire->subscribed = strdup(topic);
    if (retire->subscribed == NULL || asprintf(&accepted, "%s/accepted", topic) < 0 ||
        asprintf(&rejected, "%s/rejected", topic) < 0)
        return failure_set(retire->failure, FAILURE_INTERNAL, STEP_RETIRE, "out of memory");
    const char *const filters[] = {accepted, rejected};
    if (mqtt_subscribe(retire->connection.host.mqtt, filters, 2, SUBSCRIBE_TIMEOUT_S, retire->failure) == 0)
        return 0;
    if (retire->failure->class == FAILURE_DENIED)
        failure_append(retire->failure, "; does the policy allow iot:Subscribe to topicfilter/%s/* ?", topic);
    return -1;
}

static bool is_our_answer(const char *payload, size_t size, void *data) {
    struct retire *retire = data;
    return retirement_is_about(payload, size, retire->id, retire->reason);
}

static int fail_denied(struct retire *retire, const char *topic) {
    if (retire->failure->class == FAILURE_DENIED)
        failure_append(retire->failure, "; does the policy allow iot:Publish on topic/%s?", topic);
    return -1;
}

static void note_untold(struct retire *retire, const struct failure *failure) {
    if (retire->untold.message[0] == '\0')
        retire->untold = *failure;
}

/* Where nobody has answered the rule is not there, or what it starts has failed. That is not the network's fault, and
 * asking again costs the account something. It may have failed for this certificate alone. */
static int take_silence(struct retire *retire, const char *topic, const char *answers, int64_t since_ms) {
    struct failure *failure = retire->failure;
    if (failure->class != FAILURE_NETWORK || tls_now_ms() - since_ms < EXCHANGE_TIMEOUT_S * 1000)
        return fail_denied(retire, topic);
    failure->class = FAILURE_CLOUD_BUSY;
    failure_append(failure, "; is there a rule for that topic, whose action answers on %s/accepted and %s/rejected?",
                   answers, answers);
    note_untold(retire, failure);
    return 0;
}

static void take_rejection(struct retire *retire) {
    struct failure failure;
    failure_record(&failure, FAILURE_DENIED, STEP_RETIRE, "the cloud does not retire certificate %.16s...: %s",
                   retire->id, retire->reason[0] != '\0' ? retire->reason : "it does not say why");
    note_untold(retire, &failure);
}

/* 1: this one is retired, 0: not, but the next one may be; -1. */
static int exchange(struct retire *retire, const char *topic, const char *payload) {
    struct mqtt *mqtt = retire->connection.host.mqtt;
    struct mqtt_reply reply = {.payload = NULL};
    const char *answers = topic_without_rule(topic);
    if (subscribe(retire, answers) < 0)
        return -1;
    int64_t since_ms = tls_now_ms();
    mqtt_filter_replies(mqtt, is_our_answer, retire);
    if (mqtt_request(mqtt, topic, answers, payload, strlen(payload), EXCHANGE_TIMEOUT_S, &reply, retire->failure) < 0)
        return take_silence(retire, topic, answers, since_ms);
    bool accepted = reply.outcome == MQTT_ACCEPTED;
    mqtt_reply_clear(&reply);
    if (!accepted)
        take_rejection(retire);
    return accepted;
}

/* As exchange(). */
static int tell(struct retire *retire) {
    const struct current_connection *connection = &retire->connection;
    AUTO_FREE char *topic = NULL;
    char payload[RETIREMENT_SIZE];
    if (make_topic(retire, &topic) < 0)
        return -1;
    retirement_print(retire->id, connection->current.certificate.id, payload);
    if (connection->settings.retire_acknowledged)
        return exchange(retire, topic, payload);
    if (mqtt_publish(connection->host.mqtt, topic, payload, strlen(payload), EXCHANGE_TIMEOUT_S, retire->failure) < 0)
        return fail_denied(retire, topic);
    return 1;
}

/* The next certificate to retire, never the one in use. Returns as retirement_next(). */
static int next_id(struct retire *retire, const char **list) {
    int r = retirement_next(list, retire->id);
    while (r > 0 && strcmp(retire->id, retire->connection.current.certificate.id) == 0)
        r = retirement_next(list, retire->id);
    return r;
}

/* Before anything is asked of the cloud. */
static int judge_job(struct retire *retire, const char *list) {
    int r = 0, count = 0;
    if (retire->connection.settings.retire_topic[0] == '\0')
        return failure_set(retire->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "RetireTopic= in [Renewal] is not set: there is nobody to tell");
    for (; list != NULL && (r = next_id(retire, &list)) > 0; count++) {
        AUTO_FREE char *topic = NULL;
        if (make_topic(retire, &topic) < 0)
            return -1;
    }
    if (r < 0 || count == 0)
        return failure_set(retire->failure, FAILURE_INTERNAL, STEP_WORKER,
                           "the job does not say which certificates other than the one in use were replaced");
    return 0;
}

static int retire_all(struct retire *retire, const struct message *job) {
    const char *list = message_get(job, JOB_KEY_OLD);
    if (current_connection_prepare(&retire->connection, job, retire->failure) < 0 || judge_job(retire, list) < 0)
        return -1;
    /* The proof of the new certificate was just before this. */
    current_connection_wait();
    if (current_connection_open(&retire->connection, STEP_RETIRE) < 0) {
        host_explain_denial(retire->connection.client_id, retire->failure);
        return -1;
    }
    while (next_id(retire, &list) > 0) {
        int r = tell(retire);
        if (r < 0)
            return -1;
        if (r > 0)
            report_retired(retire->id);
    }
    if (retire->untold.message[0] == '\0')
        return 0;
    *retire->failure = retire->untold;
    return -1;
}

int job_retire(struct message *job, struct failure *failure) {
    struct retire *retire = calloc(1, sizeof *retire); /* too large for the stack */
    if (retire == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "out of memory");
    retire->failure = failure;
    int r = retire_all(retire, job);
    current_connection_close(&retire->connection);
    free(retire->subscribed);
    free(retire);
    return r;
}

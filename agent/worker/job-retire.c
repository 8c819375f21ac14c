#include "common/cleanup.h"
#include "common/job.h"
#include "common/step.h"
#include "worker/current-connection.h"
#include "worker/jobs.h"
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
    struct failure rejected;             /* the first rejection, class `denied` */
};

/* Basic Ingest is a way in only: the answers come on the topic behind the rule's name, which must be there. */
static int reply_topic(const struct retire *retire, const char *topic, const char **ret) {
    *ret = topic_without_rule(topic);
    if (strncmp(*ret, "$aws/", 5) != 0)
        return 0;
    return failure_set(retire->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                       "RetireTopic= is %s, where nobody can be answered: with RetireAcknowledged=yes it needs a topic "
                       "behind the name of the rule, like $aws/rules/NAME/retire/%%t",
                       topic);
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

/* Where nobody has answered the rule is not there, or what it starts has failed. That is not the network's fault, and
 * asking again costs the account something. */
static int fail_unanswered(struct retire *retire, const char *topic, const char *answers, int64_t since_ms) {
    struct failure *failure = retire->failure;
    if (failure->class != FAILURE_NETWORK || tls_now_ms() - since_ms < EXCHANGE_TIMEOUT_S * 1000)
        return fail_denied(retire, topic);
    failure->class = FAILURE_CLOUD_BUSY;
    failure_append(failure, "; is there a rule for that topic, whose action answers on %s/accepted and %s/rejected?",
                   answers, answers);
    return -1;
}

static int exchange(struct retire *retire, const char *topic, const char *payload) {
    struct mqtt *mqtt = retire->connection.host.mqtt;
    struct mqtt_reply reply = {.payload = NULL};
    const char *answers;
    if (reply_topic(retire, topic, &answers) < 0 || subscribe(retire, answers) < 0)
        return -1;
    int64_t since_ms = tls_now_ms();
    mqtt_filter_replies(mqtt, is_our_answer, retire);
    if (mqtt_request(mqtt, topic, answers, payload, strlen(payload), EXCHANGE_TIMEOUT_S, &reply, retire->failure) < 0)
        return fail_unanswered(retire, topic, answers, since_ms);
    if (reply.outcome == MQTT_REJECTED && retire->rejected.message[0] == '\0')
        failure_record(&retire->rejected, FAILURE_DENIED, STEP_RETIRE,
                       "the cloud does not retire certificate %.16s...: %s", retire->id,
                       retire->reason[0] != '\0' ? retire->reason : "it does not say why");
    mqtt_reply_clear(&reply);
    return 0;
}

static int tell(struct retire *retire) {
    const struct current_connection *connection = &retire->connection;
    const struct specifier_values values = current_connection_values(connection, retire->id);
    AUTO_FREE char *topic = NULL;
    char payload[RETIREMENT_SIZE];
    if (topic_expand(connection->settings.retire_topic, &values, "RetireTopic", &topic, retire->failure) < 0)
        return -1;
    retirement_print(retire->id, connection->current.certificate.id, payload);
    if (connection->settings.retire_acknowledged)
        return exchange(retire, topic, payload);
    if (mqtt_publish(connection->host.mqtt, topic, payload, strlen(payload), EXCHANGE_TIMEOUT_S, retire->failure) < 0)
        return fail_denied(retire, topic);
    return 0;
}

/* Before anything is asked of the cloud. */
static int judge_list(const struct retire *retire, const char *list) {
    char id[CERTIFICATE_ID_SIZE];
    int r;
    if (retire->connection.settings.retire_topic[0] == '\0')
        return failure_set(retire->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "RetireTopic= in [Renewal] is not set: there is nobody to tell");
    while ((r = list != NULL ? retirement_next(&list, id) : -1) > 0)
        if (strcmp(id, retire->connection.current.certificate.id) == 0)
            r = -1;
    if (r < 0)
        return failure_set(retire->failure, FAILURE_INTERNAL, STEP_WORKER,
                           "the job does not say which certificates, other than the one in use, were replaced");
    return 0;
}

static int retire_all(struct retire *retire, const struct message *job) {
    const char *list = message_get(job, JOB_KEY_OLD);
    if (current_connection_prepare(&retire->connection, job, retire->failure) < 0 || judge_list(retire, list) < 0)
        return -1;
    /* The proof of the new certificate was just before this. */
    current_connection_wait();
    if (current_connection_open(&retire->connection, STEP_RETIRE) < 0) {
        host_explain_denial(retire->connection.client_id, retire->failure);
        return -1;
    }
    while (retirement_next(&list, retire->id) > 0)
        if (tell(retire) < 0)
            return -1;
    if (retire->rejected.message[0] == '\0')
        return 0;
    *retire->failure = retire->rejected;
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

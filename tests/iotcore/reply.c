#include "reply.h"

#include "broker.h"

#include <stdlib.h>
#include <string.h>

struct reply {
    char *client_id;
    char certificate_id[ISSUER_ID_SIZE];
    char *topic; /* NULL: end the connection instead */
    char *payload;
    int64_t due;
    struct reply *next;
};

static void free_reply(struct reply *reply) {
    free(reply->client_id);
    free(reply->topic);
    free(reply->payload);
    free(reply);
}

/* NULL if the device is to get it, else why not. */
static const char *why_lost(const struct standin *standin, const struct connection *connection,
                            const struct reply *reply, int qos) {
    if (connection == NULL || strcmp(connection->identity.certificate_id, reply->certificate_id) != 0)
        return "no longer connected";
    if (qos < 0 && !standin->options.reply_unsubscribed)
        return "not subscribed";
    if (identity_decide(&connection->identity, standin->provisioning.registry, "iot:Receive", "topic", reply->topic) !=
        POLICY_ALLOWED)
        return "no policy allows iot:Receive";
    return NULL;
}

static void deliver(struct standin *standin, const struct reply *reply) {
    const struct connection *connection = connection_find_id(&standin->connections, reply->client_id);
    int qos = connection != NULL ? connection_subscribed(connection, reply->topic) : -1;
    const char *reason = why_lost(standin, connection, reply, qos);
    struct json_object *event = event_new("reply");
    if (reason == NULL && mosquitto_broker_publish_copy(reply->client_id, reply->topic, (int)strlen(reply->payload),
                                                        reply->payload, qos > 0 ? 1 : 0, false, NULL) != 0)
        reason = "the broker did not take it";
    event_text(event, "clientId", reply->client_id);
    event_text(event, "topic", reply->topic);
    event_text(event, "result", reason == NULL ? "sent" : "lost");
    event_text(event, "reason", reason);
    event_write(standin->events, event);
}

static void fulfil(struct standin *standin, const struct reply *reply) {
    if (reply->topic != NULL)
        deliver(standin, reply);
    else
        mosquitto_kick_client_by_clientid(reply->client_id, true);
}

static struct reply *make_reply(const struct identity *identity, const char *topic, const char *payload) {
    struct reply *reply = calloc(1, sizeof *reply);
    if (reply == NULL)
        return NULL;
    memcpy(reply->certificate_id, identity->certificate_id, sizeof reply->certificate_id);
    reply->client_id = strdup(identity->client_id);
    reply->topic = topic != NULL ? strdup(topic) : NULL;
    reply->payload = payload != NULL ? strdup(payload) : NULL;
    if (reply->client_id != NULL && (topic == NULL || (reply->topic != NULL && reply->payload != NULL)))
        return reply;
    free_reply(reply);
    return NULL;
}

static void queue(struct standin *standin, struct reply *reply, unsigned delay_milliseconds) {
    struct reply **link = &standin->replies;
    reply->due = standin_milliseconds() + delay_milliseconds;
    while (*link != NULL)
        link = &(*link)->next;
    *link = reply;
}

void reply_send(struct standin *standin, const struct identity *identity, const char *topic, const char *payload,
                unsigned delay_milliseconds) {
    struct reply *reply = make_reply(identity, topic, payload);
    if (reply == NULL)
        return;
    if (delay_milliseconds > 0) {
        queue(standin, reply, delay_milliseconds);
        return;
    }
    fulfil(standin, reply);
    free_reply(reply);
}

void reply_close(struct standin *standin, const struct identity *identity) {
    struct reply *reply = make_reply(identity, NULL, NULL);
    if (reply != NULL)
        queue(standin, reply, 0);
}

void reply_tick(struct standin *standin) {
    int64_t now = standin_milliseconds();
    for (struct reply **link = &standin->replies; *link != NULL;) {
        struct reply *reply = *link;
        if (reply->due > now) {
            link = &reply->next;
            continue;
        }
        *link = reply->next;
        fulfil(standin, reply);
        free_reply(reply);
    }
}

void reply_clear(struct standin *standin) {
    while (standin->replies != NULL) {
        struct reply *reply = standin->replies;
        standin->replies = reply->next;
        free_reply(reply);
    }
}

#include "access.h"

#include "arrival.h"
#include "jit.h"
#include "json_read.h"
#include "registry_authority.h"
#include "topic.h"

#include <stdio.h>
#include <string.h>

/* AWS General Reference, AWS IoT Core quotas */
#define CLIENT_ID_LIMIT 128

static const char injected[] = "injected fault";

static const char *why_not(const struct standin *standin, const struct identity *identity, const char *action,
                           const char *kind, const char *name) {
    switch (identity_decide(identity, standin->provisioning.registry, action, kind, name)) {
    case POLICY_ALLOWED:
        return NULL;
    case POLICY_DENIED:
        return "a policy denies it";
    case POLICY_NO_STATEMENT:
        break;
    }
    return "no policy allows it";
}

/* Its certificate of that mode belongs to this account only under this name ("Multi-account registration"). */
static bool needs_name(const struct registry *registry, const char *certificate_id) {
    const char *mode = json_text(registry_certificate(registry, certificate_id), "certificateMode");
    return mode != NULL && strcmp(mode, "SNI_ONLY") == 0;
}

/* mosquitto has checked notAfter by the system's clock; here counts the one of the rules. */
static const char *why_no_connection(struct standin *standin, const struct arrival *arrival) {
    const struct identity *identity = &arrival->identity;
    const struct registry *registry = standin->provisioning.registry;
    const char *status = registry_certificate_status(registry, identity->certificate_id);
    if (strlen(identity->client_id) > CLIENT_ID_LIMIT || identity->client_id[0] == '$')
        return "client id not valid";
    if (status == NULL)
        return "certificate not registered";
    if (strcmp(status, "ACTIVE") != 0)
        return status;
    if (!arrival->named && needs_name(registry, identity->certificate_id))
        return "the server name was not sent";
    if (!identity_within_validity(identity, registry_now(registry)))
        return "certificate not within its validity";
    int64_t age = registry_certificate_age(registry, identity->certificate_id);
    if (age >= 0 && age < standin->options.propagation)
        return "registration not propagated yet";
    return why_not(standin, identity, "iot:Connect", "client", identity->client_id);
}

static int refuse(const struct standin *standin, struct json_object *event, const char *reason, bool close) {
    event_text(event, "result", close ? "closed" : "connack");
    event_text(event, "reason", reason);
    event_write(standin->events, event);
    return close ? MOSQ_ERR_UNKNOWN : MOSQ_ERR_AUTH;
}

/* Why not, or NULL; whether to close then. A fault meets only what has nothing else against it. */
static const char *judge(struct standin *standin, const struct arrival *arrival, bool in_time, bool *close) {
    const struct fault_target target = {.stage = FAULT_AT_DOOR, .operations = {[FAULT_CONNECT] = true}};
    const char *reason = why_no_connection(standin, arrival);
    if (reason != NULL)
        return reason;
    if (standin->options.limit_connects && !in_time) {
        /* AWS says 0x97; a plugin of mosquitto has no way to say it. */
        *close = true;
        return "more than one CONNECT per second";
    }
    enum fault_action action = standin_fault(standin, &arrival->identity, target).action;
    if (action == FAULT_HANGUP)
        *close = true;
    return action != FAULT_NONE ? injected : NULL;
}

/* AWS IoT says nothing to a client of MQTT 3.1.1. */
static bool refuse_by_closing(const struct standin *standin, int version) {
    switch (standin->options.refusal) {
    case REFUSAL_CONNACK:
    case REFUSAL_HANDSHAKE_ALERT:
    case REFUSAL_HANDSHAKE_CLOSE:
    case REFUSAL_AFTER_HANDSHAKE_CLOSE:
        break;
    case REFUSAL_CONNACK_ALWAYS:
        return false;
    case REFUSAL_CLOSE:
        return true;
    }
    return version < 5;
}

static int receive(struct standin *standin, const struct mosquitto *client, const struct arrival *arrival) {
    const struct identity *identity = &arrival->identity;
    int version = mosquitto_client_protocol_version(client);
    bool close = refuse_by_closing(standin, version);
    bool in_time = connection_rate(&standin->connections, identity->client_id, standin_milliseconds());
    const char *unregistered = jit_connect(standin, arrival);
    const char *reason = judge(standin, arrival, in_time, &close);
    struct json_object *event = standin_event(reason == NULL ? "connect" : "refused", identity);
    json_object_object_add(event, "mqtt", json_object_new_int(version));
    arrival_tell(arrival, event);
    if (!in_time)
        json_object_object_add(event, "tooSoon", json_object_new_boolean(true));
    if (reason != NULL) {
        event_text(event, "unregistered", unregistered);
        return refuse(standin, event, reason, close);
    }
    if (connection_open(&standin->connections, client, identity, version, mosquitto_client_clean_session(client)) ==
        NULL)
        return refuse(standin, event, "out of memory", true);
    event_text(event, "address", identity->source_address);
    event_write(standin->events, event);
    return MOSQ_ERR_SUCCESS;
}

/* The front is about to refuse it: what a CONNECT sets going begins all the same. */
static int receive_handshake(struct standin *standin, const struct arrival *arrival) {
    const char *unregistered = jit_connect(standin, arrival);
    struct json_object *event = standin_event("refused", &arrival->identity);
    const char *status = registry_certificate_status(standin->provisioning.registry, arrival->identity.certificate_id);
    arrival_tell(arrival, event);
    event_text(event, "unregistered", unregistered);
    event_text(event, "result", "handshake");
    event_text(event, "reason", status != NULL ? status : "certificate not registered");
    event_write(standin->events, event);
    return MOSQ_ERR_AUTH;
}

int access_connect(struct standin *standin, struct mosquitto *client, const char *user_name) {
    struct arrival arrival;
    int result = MOSQ_ERR_AUTH;
    if (!arrival_read(standin, client, user_name, &arrival))
        mosquitto_log_printf(MOSQ_LOG_WARNING, "iotcore: a CONNECT of nobody");
    else if (arrival.handshake)
        result = receive_handshake(standin, &arrival);
    else
        result = receive(standin, client, &arrival);
    arrival_clear(&arrival);
    return result;
}

/* With MQTT 3.1.1 AWS IoT closes the connection and says nothing; an unacknowledged PUBLISH has nothing to carry a
 * reason code, so it ends the connection with MQTT 5 too. */
static int deny(const struct standin *standin, const struct connection *connection, const char *action,
                const struct mosquitto_evt_acl_check *check, const char *reason) {
    struct json_object *event = standin_event("denied", &connection->identity);
    bool close = connection->mqtt_version < 5 || (check->access == MOSQ_ACL_WRITE && check->qos == 0);
    event_text(event, "action", action);
    event_text(event, "topic", check->topic);
    event_text(event, "reason", reason);
    event_write(standin->events, event);
    return close ? MOSQ_ERR_UNKNOWN : MOSQ_ERR_ACL_DENIED;
}

static const char *why_no_publish(const struct standin *standin, const struct connection *connection,
                                  const struct mosquitto_evt_acl_check *check) {
    struct topic_request request;
    if (!topic_within_limits(check->topic))
        return "topic too long";
    switch (topic_classify(check->topic, &request)) {
    case TOPIC_ORDINARY:
    case TOPIC_SERVICE:
        break;
    case TOPIC_REQUEST:
        if (request.format == TOPIC_CBOR)
            return "the stand-in does not speak CBOR";
        break;
    case TOPIC_INVALID:
        return "no such reserved topic";
    }
    if (check->retain && check->topic[0] == '$')
        return "retained message on a reserved topic";
    const char *reason = why_not(standin, &connection->identity, "iot:Publish", "topic", check->topic);
    /* a right of its own, beside iot:Publish */
    if (reason == NULL && check->retain)
        reason = why_not(standin, &connection->identity, "iot:RetainPublish", "topic", check->topic);
    return reason;
}

/* What becomes of a packet that is allowed. The broker ends a connection without a word for any error but those that it
 * has a reason code for. */
static int meet_fault(struct standin *standin, const struct connection *connection, const char *action,
                      const struct mosquitto_evt_acl_check *check, enum fault_operation operation) {
    struct topic_request request;
    struct fault_target target = {.stage = FAULT_AT_DOOR, .topic = check->topic};
    target.operations[operation] = true;
    if (operation == FAULT_PUBLISH && topic_classify(check->topic, &request) == TOPIC_REQUEST)
        target.operations[fault_operation_of(request.operation)] = true;
    switch (standin_fault(standin, &connection->identity, target).action) {
    case FAULT_REFUSE:
        return deny(standin, connection, action, check, injected);
    case FAULT_HANGUP:
        deny(standin, connection, action, check, injected);
        return MOSQ_ERR_CONN_LOST;
    case FAULT_NONE:
    case FAULT_SILENCE:
    case FAULT_REJECT:
    case FAULT_DROP:
    case FAULT_DELAY:
    case FAULT_DUPLICATE:
    case FAULT_CLOSE:
    case FAULT_CUT:
    case FAULT_REPLACE:
    case FAULT_AMEND:
        break;
    }
    return MOSQ_ERR_SUCCESS;
}

static int check_publish(struct standin *standin, const struct connection *connection,
                         const struct mosquitto_evt_acl_check *check) {
    const char *reason = why_no_publish(standin, connection, check);
    if (reason != NULL)
        return deny(standin, connection, "publish", check, reason);
    return meet_fault(standin, connection, "publish", check, FAULT_PUBLISH);
}

static int check_subscribe(struct standin *standin, struct connection *connection,
                           const struct mosquitto_evt_acl_check *check) {
    const char *reason = NULL;
    if (!topic_within_limits(check->topic))
        reason = "filter too long";
    else if (!topic_filter_valid(check->topic))
        reason = "no such reserved topic";
    else
        reason = why_not(standin, &connection->identity, "iot:Subscribe", "topicfilter", check->topic);
    int fault = reason == NULL ? meet_fault(standin, connection, "subscribe", check, FAULT_SUBSCRIBE) : 0;
    if (fault != MOSQ_ERR_SUCCESS)
        return fault;
    if (reason == NULL && !connection_subscribe(connection, check->topic, check->qos))
        reason = "too many subscriptions";
    if (reason != NULL)
        return deny(standin, connection, "subscribe", check, reason);
    struct json_object *event = standin_event("subscribe", &connection->identity);
    event_text(event, "topic", check->topic);
    json_object_object_add(event, "qos", json_object_new_int(check->qos));
    event_write(standin->events, event);
    return MOSQ_ERR_SUCCESS;
}

/* What the broker would hand on to subscribers. Requests and replies of the provisioning API never are: replies go
 * straight to the device that asked. */
static int check_delivery(const struct standin *standin, const struct connection *connection,
                          const struct mosquitto_evt_acl_check *check) {
    if (check->topic[0] == '$' || connection_subscribed(connection, check->topic) < 0)
        return MOSQ_ERR_ACL_DENIED;
    const char *reason = why_not(standin, &connection->identity, "iot:Receive", "topic", check->topic);
    if (reason == NULL)
        return MOSQ_ERR_SUCCESS;
    deny(standin, connection, "receive", check, reason);
    return MOSQ_ERR_ACL_DENIED;
}

int access_check(struct standin *standin, const struct mosquitto_evt_acl_check *check) {
    struct connection *connection = connection_find(&standin->connections, check->client);
    if (connection == NULL)
        return MOSQ_ERR_ACL_DENIED;
    switch (check->access) {
    case MOSQ_ACL_WRITE:
        return check_publish(standin, connection, check);
    case MOSQ_ACL_SUBSCRIBE:
        return check_subscribe(standin, connection, check);
    case MOSQ_ACL_UNSUBSCRIBE:
        connection_unsubscribe(connection, check->topic);
        return MOSQ_ERR_SUCCESS;
    case MOSQ_ACL_READ:
        return check_delivery(standin, connection, check);
    }
    return MOSQ_ERR_ACL_DENIED;
}

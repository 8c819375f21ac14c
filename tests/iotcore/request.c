#include "request.h"

#include "json_read.h"
#include "reply.h"

#include "common/cleanup.h"

#include <stdio.h>
#include <string.h>

static void tell_request(const struct standin *standin, const struct identity *identity,
                         const struct topic_request *request, const struct provisioning_reply *reply) {
    struct json_object *event = event_new(topic_operation_name(request->operation));
    event_text(event, "clientId", identity->client_id);
    event_text(event, "principal", identity->certificate_id);
    event_text(event, "result", reply->accepted ? "accepted" : "rejected");
    if (reply->certificate_id[0] != '\0')
        event_text(event, "certificateId", reply->certificate_id);
    event_text(event, "thingName", reply->thing_name);
    if (reply->repeated)
        json_object_object_add(event, "repeated", json_object_new_boolean(true));
    if (request->template_name[0] != '\0')
        event_text(event, "template", request->template_name);
    if (!reply->accepted) {
        json_object_object_add(event, "statusCode", json_object_new_int(reply->rejection.status_code));
        event_text(event, "errorCode", reply->rejection.error_code);
        event_text(event, "reason", reply->rejection.message);
    }
    event_write(standin->events, event);
}

static const char *amend(struct json_object *reply, const char *text) {
    AUTO_JSON struct json_object *members = json_parse(text, strlen(text));
    json_object_object_foreach(members, name, value) {
        json_object_object_add(reply, name, json_object_get(value));
    }
    return json_object_to_json_string_ext(reply, JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void answer(struct standin *standin, const struct identity *identity, const char *topic,
                   const struct provisioning_reply *reply, const struct fault *fault) {
    AUTO_FREE char *reply_topic = NULL;
    const char *payload = json_object_to_json_string_ext(reply->payload, JSON_C_TO_STRING_NOSLASHESCAPE);
    unsigned delay = reply->delay_milliseconds;
    if (asprintf(&reply_topic, "%s/%s", topic, reply->accepted ? "accepted" : "rejected") < 0)
        return;
    switch (fault->action) {
    case FAULT_SILENCE:
    case FAULT_DROP:
    case FAULT_CUT:
        return;
    case FAULT_CLOSE:
        reply_close(standin, identity);
        return;
    case FAULT_REPLACE:
        payload = fault->payload;
        break;
    case FAULT_AMEND:
        payload = amend(reply->payload, fault->payload);
        break;
    case FAULT_DUPLICATE:
        reply_send(standin, identity, reply_topic, payload, delay);
        break;
    case FAULT_DELAY:
        delay += fault->milliseconds;
        break;
    case FAULT_NONE:
    case FAULT_REFUSE:
    case FAULT_HANGUP:
    case FAULT_REJECT:
        break;
    }
    reply_send(standin, identity, reply_topic, payload, delay);
}

static void injected_rejection(const struct fault *fault, struct provisioning_reply *reply) {
    rejection_set(&reply->rejection, fault->status_code, fault->error_code, "Injected fault");
    reply->payload = provisioning_rejected(&reply->rejection);
}

int request_handle(struct standin *standin, const struct connection *connection, const struct topic_request *request,
                   const struct mosquitto_evt_message *message) {
    const struct identity *identity = &connection->identity;
    struct registry_requester requester = {identity->certificate_id, identity->client_id, connection->number};
    struct fault_target target = {.stage = FAULT_AT_WORK, .topic = message->topic};
    struct provisioning_reply reply = {0};
    target.operations[fault_operation_of(request->operation)] = true;
    struct fault fault = standin_fault(standin, identity, target);
    if (fault.action == FAULT_SILENCE)
        return MOSQ_ERR_SUCCESS;
    if (fault.action == FAULT_REJECT)
        injected_rejection(&fault, &reply);
    else
        provisioning_handle(&standin->provisioning, &requester, request, message->payload, message->payloadlen, &reply);
    if (reply.accepted)
        standin_save(standin);
    tell_request(standin, identity, request, &reply);
    answer(standin, identity, message->topic, &reply, &fault);
    int result = fault.action == FAULT_CUT ? MOSQ_ERR_CONN_LOST : MOSQ_ERR_SUCCESS;
    provisioning_reply_clear(&reply);
    fault_clear(&fault);
    return result;
}

#include "request.h"

#include "function.h"
#include "hook.h"
#include "json_read.h"
#include "reply.h"

#include "common/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
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

/* A request from now on until its reply. */
struct work {
    struct identity identity; /* without a certificate */
    int64_t connection;
    struct topic_request request;
    const char *topic;
    const void *payload;
    size_t size;
    struct fault fault;
};

static void carry_out(struct standin *standin, const struct work *work, struct json_object *hook_answer) {
    struct registry_requester requester = {work->identity.certificate_id, work->identity.client_id, work->connection};
    struct provisioning_reply reply = {0};
    if (work->fault.action == FAULT_REJECT)
        injected_rejection(&work->fault, &reply);
    else
        provisioning_handle(&standin->provisioning, &requester, &work->request, work->payload, work->size, hook_answer,
                            &reply);
    if (reply.accepted)
        standin_save(standin);
    tell_request(standin, &work->identity, &work->request, &reply);
    answer(standin, &work->identity, work->topic, &reply, &work->fault);
    provisioning_reply_clear(&reply);
}

static struct work *free_work(struct work *work) {
    fault_clear(&work->fault);
    free((char *)work->identity.client_id);
    free((char *)work->topic);
    free((void *)work->payload);
    free(work);
    return NULL;
}

/* A copy that does not need the connection and its packet any more; takes the fault. */
static struct work *keep(struct work *work) {
    struct work *copy = calloc(1, sizeof *copy);
    void *payload = malloc(work->size);
    if (copy == NULL || payload == NULL) {
        free(copy);
        free(payload);
        return NULL;
    }
    *copy = *work;
    work->fault = (struct fault){0};
    memcpy(payload, work->payload, work->size);
    copy->payload = payload;
    copy->topic = strdup(work->topic);
    copy->identity.client_id = strdup(work->identity.client_id);
    return copy->topic != NULL && copy->identity.client_id != NULL ? copy : free_work(copy);
}

/* The connection that it came on may have ended; what is done is done all the same. A fault that cuts it finds the
 * request acknowledged. */
static void hook_answered(struct standin *standin, void *context, struct json_object *result, const char *error) {
    struct work *work = context;
    (void)error;
    if (standin != NULL)
        carry_out(standin, work, result);
    if (standin != NULL && work->fault.action == FAULT_CUT)
        reply_close(standin, &work->identity);
    free_work(work);
}

/* False if there is no hook to ask. */
static bool ask_hook(struct standin *standin, struct work *work) {
    struct registry_requester requester = {work->identity.certificate_id, work->identity.client_id, work->connection};
    AUTO_FREE char *arn = NULL;
    if (work->fault.action == FAULT_REJECT)
        return false;
    AUTO_JSON struct json_object *event =
        provisioning_hook_event(&standin->provisioning, &requester, &work->request, work->payload, work->size, &arn);
    struct work *kept = event != NULL ? keep(work) : NULL;
    if (kept != NULL)
        function_call(standin, arn, event, HOOK_TIMEOUT_MILLISECONDS, hook_answered, kept);
    return kept != NULL;
}

int request_handle(struct standin *standin, const struct connection *connection, const struct topic_request *request,
                   const struct mosquitto_evt_message *message) {
    struct fault_target target = {.stage = FAULT_AT_WORK, .topic = message->topic};
    struct work work = {.identity = connection->identity,
                        .connection = connection->number,
                        .request = *request,
                        .topic = message->topic,
                        .payload = message->payload,
                        .size = message->payloadlen};
    work.identity.certificate = NULL;
    work.identity.source_address = NULL;
    target.operations[fault_operation_of(request->operation)] = true;
    work.fault = standin_fault(standin, &connection->identity, target);
    if (work.fault.action == FAULT_SILENCE || ask_hook(standin, &work))
        return MOSQ_ERR_SUCCESS;
    carry_out(standin, &work, NULL);
    int result = work.fault.action == FAULT_CUT ? MOSQ_ERR_CONN_LOST : MOSQ_ERR_SUCCESS;
    fault_clear(&work.fault);
    return result;
}

#include "control.h"

#include "broker.h"
#include "common/cleanup.h"
#include "common/text.h"
#include "control_dispatch.h"
#include "event.h"
#include "json_read.h"
#include "rule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct control {
    struct standin *standin;
    struct control_server *server;
    uint16_t port;
};

/* While a function runs, which asks one thing after the other. */
#define BUSY_MILLISECONDS 10

/* What an operator or a function publishes meets rules, too; "principal()" then is an identity of IAM. */
static bool publish(void *userdata, const char *topic, const void *payload, size_t size, int qos) {
    const struct rule_input input = {topic, "", "AIDAEXAMPLE:stand-in", payload, size};
    if (mosquitto_broker_publish_copy(NULL, topic, (int)size, payload, qos, false, NULL) != 0)
        return false;
    rule_message(userdata, &input);
    return true;
}

static void tell(const struct standin *standin, enum control_operation operation, const struct control_call *call,
                 const struct control_response *response) {
    const char *id = json_text(call->reply, "certificateId");
    struct json_object *event = event_new("control");
    event_text(event, "operation", control_operation_name(operation));
    json_object_object_add(event, "statusCode", json_object_new_int(response->status));
    event_text(event, "errorCode", response->error_code);
    event_text(event, "certificateId", id);
    event_text(event, "name", call->name);
    event_write(standin->events, event);
}

static void answer(void *userdata, const struct control_request *request, struct control_response *response) {
    struct control *control = userdata;
    enum control_operation operation = CONTROL_OPERATION_COUNT;
    struct rejection rejection = {0};
    struct control_uri uri;
    AUTO_JSON struct json_object *reply = json_object_new_object();
    const struct control_publisher publisher = {publish, control->standin};
    struct control_call call = {.publisher = &publisher,
                                .registry = control->standin->provisioning.registry,
                                .endpoint = control->standin->host,
                                .reply = reply,
                                .rejection = &rejection};
    response->status = 200;
    if (control_dispatch(request, &uri, &call, &operation) < 0) {
        text_make_printable(rejection.message);
        response->status = rejection.status_code;
        response->error_code = rejection.error_code;
        control_set(reply, "message", rejection.message);
    } else if (control_changes(operation))
        standin_save(control->standin);
    json_object_put(call.body);
    int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
    response->body = strdup(json_object_to_json_string_ext(reply, flags));
    tell(control->standin, operation, &call, response);
}

/* By rename, so that whoever waits for it reads all of it. */
static int write_port(const char *state, uint16_t port) {
    AUTO_FREE char *path = NULL, *new_path = NULL;
    if (asprintf(&path, "%s/control-port", state) < 0 || asprintf(&new_path, "%s.new", path) < 0)
        return -1;
    FILE *file = fopen(new_path, "we");
    if (file == NULL)
        return -1;
    bool written = fprintf(file, "%u\n", port) > 0;
    return fclose(file) == 0 && written ? rename(new_path, path) : -1;
}

struct control *control_start(struct standin *standin, const char *state, uint16_t port) {
    struct control *control = calloc(1, sizeof *control);
    uint16_t bound;
    if (control == NULL)
        return NULL;
    control->standin = standin;
    if ((control->server = control_server_start(port, &bound)) != NULL && write_port(state, bound) == 0) {
        control->port = bound;
        return control;
    }
    int error = errno;
    control_stop(control);
    errno = error;
    return NULL;
}

uint16_t control_port(const struct control *control) {
    return control != NULL ? control->port : 0;
}

void control_tick(struct control *control, bool busy) {
    if (control != NULL)
        control_server_tick(control->server, answer, control, busy ? BUSY_MILLISECONDS : 0);
}

struct control *control_stop(struct control *control) {
    if (control == NULL)
        return NULL;
    control_server_stop(control->server);
    free(control);
    return NULL;
}

/* The stand-in for AWS IoT Core as a plugin of the mosquitto broker: options in, the broker's events to the parts that
 * deal with them. Options (plugin_opt_NAME in mosquitto.conf):
 *   state             the state directory: registry.json, issuer.key, issuer.pem, hook.json, events, edits/, history/
 *   history           off or on: each version of the registry is kept
 *   host              the endpoint's name
 *   front             off or on: all connections come from the front, see arrival.h
 *   function_program  iotcore-function, see function.h; absent: there are no functions
 *   control_port      the control plane listens there, on 127.0.0.1; 0: on any free port, absent: nowhere
 * and those of option.h. */
#include "access.h"
#include "arrival.h"
#include "broker.h"
#include "control.h"
#include "edit.h"
#include "function.h"
#include "jit.h"
#include "json_read.h"
#include "reply.h"
#include "request.h"
#include "rule.h"
#include "standin.h"
#include "topic.h"

#include "common/cleanup.h"
#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* How much of an ordinary message's payload the event tells. */
#define PAYLOAD_EXCERPT 200
#define TICK_MILLISECONDS 100

#define EXPORT __attribute__((visibility("default")))

EXPORT int mosquitto_plugin_version(int supported_version_count, const int *supported_versions);
EXPORT int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                                 int option_count);
EXPORT int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count);

int64_t standin_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void standin_save(struct standin *standin) {
    int error = registry_save(standin->provisioning.registry);
    if (error < 0)
        mosquitto_log_printf(MOSQ_LOG_ERR, "iotcore: can't write the registry: %s", strerror(-error));
}

struct json_object *standin_event(const char *name, const struct identity *identity) {
    struct json_object *event = event_new(name);
    event_text(event, "clientId", identity->client_id);
    event_text(event, "certificateId", identity->certificate_id);
    return event;
}

struct fault standin_fault(struct standin *standin, const struct identity *identity, struct fault_target target) {
    target.device = registry_certificate_is_device(standin->provisioning.registry, identity->certificate_id);
    struct fault fault = fault_take(&standin->faults, &target);
    if (fault.action == FAULT_NONE)
        return fault;
    struct json_object *event = standin_event("fault", identity);
    event_text(event, "operation", fault.operation_name);
    event_text(event, "action", fault.action_name);
    event_text(event, "topic", target.topic);
    event_write(standin->events, event);
    return fault;
}

static int on_connect(int event, void *event_data, void *userdata) {
    struct mosquitto_evt_basic_auth *data = event_data;
    (void)event;
    return access_connect(userdata, data->client, data->username);
}

static int on_access(int event, void *event_data, void *userdata) {
    (void)event;
    return access_check(userdata, event_data);
}

static void tell_message(const struct standin *standin, const struct connection *connection,
                         const struct mosquitto_evt_message *message) {
    struct json_object *event = standin_event("message", &connection->identity);
    size_t excerpt = message->payloadlen < PAYLOAD_EXCERPT ? message->payloadlen : PAYLOAD_EXCERPT;
    event_text(event, "topic", message->topic);
    json_object_object_add(event, "qos", json_object_new_int(message->qos));
    json_object_object_add(event, "size", json_object_new_int64(message->payloadlen));
    event_bytes(event, "payload", message->payload != NULL ? message->payload : "", excerpt);
    event_write(standin->events, event);
}

/* The broker has checked the right to publish. What the plugin itself sends has no client (mosquitto 2.1). */
static int on_message(int event, void *event_data, void *userdata) {
    struct standin *standin = userdata;
    const struct mosquitto_evt_message *message = event_data;
    const struct connection *connection =
        message->client != NULL ? connection_find(&standin->connections, message->client) : NULL;
    struct topic_request request;
    (void)event;
    if (connection == NULL)
        return MOSQ_ERR_SUCCESS;
    if (topic_classify(message->topic, &request) == TOPIC_REQUEST)
        return request_handle(standin, connection, &request, message);
    tell_message(standin, connection, message);
    const struct rule_input input = {message->topic, connection->identity.client_id,
                                     connection->identity.certificate_id, message->payload, message->payloadlen};
    rule_message(standin, &input);
    return MOSQ_ERR_SUCCESS;
}

static int on_disconnect(int event, void *event_data, void *userdata) {
    struct standin *standin = userdata;
    const struct mosquitto_evt_disconnect *data = event_data;
    struct connection *connection = connection_find(&standin->connections, data->client);
    (void)event;
    if (connection == NULL)
        return MOSQ_ERR_SUCCESS;
    event_write(standin->events, standin_event("disconnect", &connection->identity));
    connection_close(&standin->connections, connection);
    return MOSQ_ERR_SUCCESS;
}

/* "UpdateCertificate": the connections of a certificate that is no longer ACTIVE are ended within a few minutes. So are
 * those of one that has expired, of which AWS says nothing. Those
 * that are to end are marked by the queue, so that the broker may call back while it ends them. */
static void end_refused_connections(struct standin *standin) {
    int64_t now = standin_milliseconds();
    for (struct connection *connection = standin->connections.first; connection != NULL;
         connection = connection->next) {
        const char *status =
            registry_certificate_status(standin->provisioning.registry, connection->identity.certificate_id);
        if (connection->client == NULL ||
            (status != NULL && strcmp(status, "ACTIVE") == 0 &&
             identity_within_validity(&connection->identity, registry_now(standin->provisioning.registry)))) {
            connection->refused_since = 0;
            continue;
        }
        if (connection->refused_since == 0)
            connection->refused_since = now;
        if (now - connection->refused_since < (int64_t)standin->options.disconnect_delay * 1000)
            continue;
        reply_close(standin, &connection->identity);
        connection->refused_since = now;
    }
}

static int on_tick(int event, void *event_data, void *userdata) {
    struct standin *standin = userdata;
    int64_t now = standin_milliseconds();
    (void)event;
    (void)event_data;
    edit_tick(standin);
    function_tick(standin);
    control_tick(standin->control, function_busy(standin));
    end_refused_connections(standin);
    jit_tick(standin);
    reply_tick(standin);
    if (now >= standin->next_expiry) {
        standin->next_expiry = now + 1000;
        if (registry_expire(standin->provisioning.registry))
            standin_save(standin);
    }
#if LIBMOSQUITTO_VERSION_NUMBER >= 2001000
    /* From 2.1 on the broker sleeps until somebody needs it. */
    ((struct mosquitto_evt_tick *)event_data)->next_ms = TICK_MILLISECONDS;
#endif
    return MOSQ_ERR_SUCCESS;
}

/* What counts only at the start. */
struct start_options {
    const char *state;
    const char *host;
    const char *control_port;     /* NULL: no control plane */
    const char *function_program; /* NULL: no functions */
    bool history;
    bool front;
};

static bool read_option(struct standin *standin, const struct mosquitto_opt *option, struct start_options *start) {
    if (strcmp(option->key, "state") == 0)
        start->state = option->value;
    else if (strcmp(option->key, "host") == 0)
        start->host = option->value;
    else if (strcmp(option->key, "front") == 0)
        start->front = strcmp(option->value, "on") == 0;
    else if (strcmp(option->key, "control_port") == 0)
        start->control_port = option->value;
    else if (strcmp(option->key, "function_program") == 0)
        start->function_program = option->value;
    else if (strcmp(option->key, "history") == 0)
        start->history = strcmp(option->value, "on") == 0;
    else
        return option_set(&standin->options, option->key, option->value) == 0;
    return true;
}

static char *state_path(const char *state, const char *name) {
    char *path = NULL;
    return asprintf(&path, "%s/%s", state, name) >= 0 ? path : NULL;
}

static int fail(const char *what, const char *path) {
    mosquitto_log_printf(MOSQ_LOG_ERR, "iotcore: %s %s: %s", what, path,
                         errno != 0 ? strerror(errno) : "not as it should be");
    return -1;
}

static int begin_front(struct standin *standin, const char *state) {
    standin->front_path = state_path(state, "front");
    if (standin->front_path == NULL || (mkdir(standin->front_path, 0700) < 0 && errno != EEXIST))
        return fail("can't make the front's folder in", state);
    arrival_write_options(standin);
    return 0;
}

/* The version that there is at the start is the first that is kept. */
static int begin_history(struct standin *standin, const char *state) {
    AUTO_FREE char *folder = state_path(state, "history");
    if (folder == NULL || (mkdir(folder, 0700) < 0 && errno != EEXIST))
        return fail("can't make the history in", state);
    registry_keep_history(standin->provisioning.registry, folder);
    standin_save(standin);
    return 0;
}

static int begin_control(struct standin *standin, const struct start_options *start) {
    uint64_t port;
    if (text_to_u64(start->control_port, &port) < 0 || port > UINT16_MAX)
        return fail("no such port:", start->control_port);
    standin->control = control_start(standin, start->state, (uint16_t)port);
    return standin->control != NULL ? 0 : fail("can't listen on the control port", start->control_port);
}

static int open_state(struct standin *standin, const struct start_options *start) {
    const char *state = start->state;
    AUTO_FREE char *registry = state_path(state, "registry.json"), *events = state_path(state, "events");
    AUTO_FREE char *key = state_path(state, "issuer.key"), *certificate = state_path(state, "issuer.pem");
    standin->provisioning.hook_path = state_path(state, "hook.json");
    standin->provisioning.keys_path = state_path(state, "keys");
    standin->edits_path = state_path(state, "edits");
    standin->host = strdup(start->host);
    standin->functions_log = state_path(state, "functions.log");
    standin->function_program = start->function_program != NULL ? strdup(start->function_program) : NULL;
    if (standin->host == NULL || standin->functions_log == NULL || registry == NULL || events == NULL || key == NULL ||
        certificate == NULL || standin->provisioning.hook_path == NULL || standin->provisioning.keys_path == NULL ||
        standin->edits_path == NULL)
        return fail("out of memory for", state);
    if ((standin->provisioning.registry = registry_open(registry)) == NULL)
        return fail("can't read", registry);
    if (issuer_load(&standin->provisioning.issuer, key, certificate) < 0)
        return fail("can't use the issuing authority", certificate);
    if ((standin->events = event_log_open(events)) == NULL)
        return fail("can't open", events);
    if (start->front && begin_front(standin, state) < 0)
        return -1;
    if (start->history && begin_history(standin, state) < 0)
        return -1;
    return start->control_port != NULL ? begin_control(standin, start) : 0;
}

static struct standin *standin_free(struct standin *standin) {
    function_clear(standin);
    control_stop(standin->control);
    reply_clear(standin);
    jit_clear(standin);
    connection_close_all(&standin->connections);
    fault_list_clear(&standin->faults);
    event_log_close(standin->events);
    registry_close(standin->provisioning.registry);
    issuer_clear(&standin->provisioning.issuer);
    free((char *)standin->provisioning.hook_path);
    free((char *)standin->provisioning.keys_path);
    free(standin->edits_path);
    free(standin->front_path);
    free(standin->host);
    free(standin->function_program);
    free(standin->functions_log);
    free(standin);
    return NULL;
}

static struct standin *standin_new(const struct mosquitto_opt *options, int option_count) {
    struct start_options start = {.state = ".", .host = "localhost"};
    struct standin *standin = calloc(1, sizeof *standin);
    if (standin == NULL)
        return NULL;
    standin->options = option_defaults();
    standin->provisioning.options = &standin->options;
    for (int i = 0; i < option_count; i++) {
        if (!read_option(standin, &options[i], &start)) {
            mosquitto_log_printf(MOSQ_LOG_ERR, "iotcore: no such option or value: %s %s", options[i].key,
                                 options[i].value);
            return standin_free(standin);
        }
    }
    return open_state(standin, &start) == 0 ? standin : standin_free(standin);
}

int mosquitto_plugin_version(int supported_version_count, const int *supported_versions) {
    for (int i = 0; i < supported_version_count; i++)
        if (supported_versions[i] == MOSQ_PLUGIN_VERSION)
            return MOSQ_PLUGIN_VERSION;
    return -1;
}

static const struct {
    int event;
    MOSQ_FUNC_generic_callback function;
} callbacks[] = {
    {MOSQ_EVT_BASIC_AUTH, on_connect},    {MOSQ_EVT_ACL_CHECK, on_access}, {MOSQ_EVT_MESSAGE, on_message},
    {MOSQ_EVT_DISCONNECT, on_disconnect}, {MOSQ_EVT_TICK, on_tick},
};

int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **userdata, struct mosquitto_opt *options,
                          int option_count) {
    struct standin *standin = standin_new(options, option_count);
    if (standin == NULL)
        return MOSQ_ERR_INVAL;
    standin->plugin = identifier;
    *userdata = standin;
    for (size_t i = 0; i < sizeof callbacks / sizeof *callbacks; i++)
        if (mosquitto_callback_register(identifier, callbacks[i].event, callbacks[i].function, NULL, standin) != 0)
            return MOSQ_ERR_UNKNOWN;
    event_write(standin->events, event_new("start"));
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count) {
    struct standin *standin = userdata;
    (void)options;
    (void)option_count;
    if (standin == NULL)
        return MOSQ_ERR_SUCCESS;
    for (size_t i = 0; i < sizeof callbacks / sizeof *callbacks; i++)
        mosquitto_callback_unregister(standin->plugin, callbacks[i].event, callbacks[i].function, NULL);
    standin_free(standin);
    return MOSQ_ERR_SUCCESS;
}

#include "daemon/bus-private.h"

#include "daemon/log-control.h"
#include "daemon/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUS_NAME "org.enrolld1"
#define BUS_PATH "/org/enrolld1"
#define BUS_INTERFACE "org.enrolld1.Agent"

/* --- properties --- */

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    return sd_bus_message_append(reply, "s", PACKAGE_VERSION);
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    return sd_bus_message_append(reply, "s", status_state_name(*(const enum agent_state *)data));
}

/* Text that is an array in its struct. */
static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    return sd_bus_message_append(reply, "s", (const char *)data);
}

static int get_error(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *data, sd_bus_error *error) {
    const struct status_error *last = data;
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    return sd_bus_message_append(reply, "(ssst)", last->class, last->step, last->message, last->time_usec);
}

static int get_endpoints(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *data, sd_bus_error *error) {
    const char *endpoint = data;
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    return sd_bus_message_append(reply, "as", *endpoint != '\0' ? 1 : 0, endpoint);
}

static int get_methods(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *data, sd_bus_error *error) {
    const struct status *status = data;
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    int r = sd_bus_message_open_container(reply, 'a', "(sss)");
    for (size_t i = 0; r >= 0 && i < status->method_count; i++)
        r = sd_bus_message_append(reply, "(sss)", status->methods[i].name, method_outcome_name(&status->methods[i]),
                                  status->methods[i].message);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_volatile_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                              sd_bus_message *reply, void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    return sd_bus_message_append(reply, "s", volatile_name(*(const enum volatility *)data));
}

static int get_retired(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *data, sd_bus_error *error) {
    const struct retired *retired = data;
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    int r = sd_bus_message_open_container(reply, 'a', "s");
    for (size_t i = 0; r >= 0 && i < retired->count; i++)
        r = sd_bus_message_append(reply, "s", retired->ids[i]);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* --- the interface --- */

/* Every property that changes: where it lies, how it is told. */
static const struct {
    const char *name;
    size_t offset, size;
} members[] = {
#define MEMBER(name, member)                                                                                           \
    { name, offsetof(struct status, member), sizeof(((struct status *)NULL)->member) }
    MEMBER("State", state),
    MEMBER("Method", method),
    MEMBER("Methods", methods),
    MEMBER("Step", step),
    MEMBER("Attempt", attempt),
    MEMBER("NextAttempt", next_attempt_usec),
    MEMBER("LastError", error),
    MEMBER("ThingName", identity.thing_name),
    MEMBER("SerialNumber", identity.serial_number),
    MEMBER("CertificateId", identity.certificate_id),
    MEMBER("Generation", generation),
    MEMBER("KeyBackend", identity.key_backend),
    MEMBER("KeyAlgorithm", identity.key_algorithm),
    MEMBER("KeyOrigin", identity.key_origin),
    MEMBER("NotBefore", identity.not_before_usec),
    MEMBER("NotAfter", identity.not_after_usec),
    MEMBER("RenewAfter", renew_after_usec),
    MEMBER("RenewRule", renew_rule),
    MEMBER("RenewMethod", identity.renew_method),
    MEMBER("RenewHindrance", renew_hindrance),
    MEMBER("RetirePending", retired),
    MEMBER("RefusedSince", refused_since_usec),
    MEMBER("Endpoints", identity.endpoint),
    MEMBER("CredentialDirectory", credential_directory),
    MEMBER("VolatileState", volatile_state),
#undef MEMBER
};
#define MEMBER_COUNT (sizeof members / sizeof *members)

#define PROPERTY(name, signature, getter, member)                                                                      \
    SD_BUS_PROPERTY(name, signature, getter, offsetof(struct bus, published.member),                                   \
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

/* Callers are judged by bus_authorize(); the flag only switches off the library's own rule. */
static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
    PROPERTY("State", "s", get_state, state),
    PROPERTY("Method", "s", get_text, method),
    SD_BUS_PROPERTY("Methods", "a(sss)", get_methods, offsetof(struct bus, published),
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    PROPERTY("Step", "s", get_text, step),
    PROPERTY("Attempt", "u", NULL, attempt),
    PROPERTY("NextAttempt", "t", NULL, next_attempt_usec),
    PROPERTY("LastError", "(ssst)", get_error, error),
    PROPERTY("ThingName", "s", get_text, identity.thing_name),
    PROPERTY("SerialNumber", "s", get_text, identity.serial_number),
    PROPERTY("CertificateId", "s", get_text, identity.certificate_id),
    PROPERTY("Generation", "u", NULL, generation),
    PROPERTY("KeyBackend", "s", get_text, identity.key_backend),
    PROPERTY("KeyAlgorithm", "s", get_text, identity.key_algorithm),
    PROPERTY("KeyOrigin", "s", get_text, identity.key_origin),
    PROPERTY("NotBefore", "t", NULL, identity.not_before_usec),
    PROPERTY("NotAfter", "t", NULL, identity.not_after_usec),
    PROPERTY("RenewAfter", "t", NULL, renew_after_usec),
    PROPERTY("RenewRule", "s", get_text, renew_rule),
    PROPERTY("RenewMethod", "s", get_text, identity.renew_method),
    PROPERTY("RenewHindrance", "s", get_text, renew_hindrance),
    PROPERTY("RetirePending", "as", get_retired, retired),
    PROPERTY("RefusedSince", "t", NULL, refused_since_usec),
    PROPERTY("Endpoints", "as", get_endpoints, identity.endpoint),
    PROPERTY("CredentialDirectory", "s", NULL, credential_directory),
    PROPERTY("VolatileState", "s", get_volatile_state, volatile_state),
    SD_BUS_METHOD_WITH_ARGS("Enroll", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", id), bus_enroll, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Renew", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", id), bus_renew, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Check", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", id), bus_check, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("CreateRequest", SD_BUS_ARGS("s", subject), SD_BUS_RESULT("u", id), bus_create_request,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetRequest", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", request), bus_get_request,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetCertificate", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", chain), bus_get_certificate,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Import", SD_BUS_ARGS("h", chain, "h", key), SD_BUS_RESULT("u", id), bus_import,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ImportCertificate", SD_BUS_ARGS("h", chain), SD_BUS_RESULT("u", id),
                            bus_import_certificate, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetConfiguration", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssssu)", settings),
                            bus_get_configuration, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListPlugins", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ss)", methods), bus_list_plugins,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Diagnose", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", id), bus_diagnose,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetDiagnosis", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssss)", rows), bus_get_diagnosis,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, bus_forget, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("u", id), SD_BUS_NO_RESULT, bus_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, bus_reload, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL_WITH_ARGS("JobRemoved", SD_BUS_ARGS("u", id, "s", verb, "s", result, "s", detail), 0),
    SD_BUS_SIGNAL_WITH_ARGS("IdentityChanged", SD_BUS_ARGS("u", generation), 0),
    SD_BUS_VTABLE_END,
};

/* --- signals --- */

static void log_emit(const char *what, int r) {
    if (r < 0)
        log_message(LOG_WARNING, "cannot emit %s: %s", what, strerror(-r));
}

/* Member by member, as most of a status is never used, and memory that nobody has written to costs nothing. */
static size_t take_over(struct bus *bus, const struct status *status, char *ret_names[MEMBER_COUNT + 1]) {
    size_t count = 0;
    for (size_t i = 0; i < MEMBER_COUNT; i++) {
        char *published = (char *)&bus->published + members[i].offset;
        const char *present = (const char *)status + members[i].offset;
        if (memcmp(published, present, members[i].size) == 0)
            continue;
        memcpy(published, present, members[i].size);
        ret_names[count++] = (char *)members[i].name;
    }
    bus->published.method_count = status->method_count;
    ret_names[count] = NULL;
    return count;
}

void bus_publish(struct bus *bus, const struct status *status) {
    char *names[MEMBER_COUNT + 1];
    if (bus != NULL && take_over(bus, status, names) > 0)
        log_emit("PropertiesChanged", sd_bus_emit_properties_changed_strv(bus->bus, BUS_PATH, BUS_INTERFACE, names));
}

void bus_job_removed(struct bus *bus, uint32_t id, const char *verb, const char *result, const char *detail) {
    if (bus != NULL)
        log_emit("JobRemoved",
                 sd_bus_emit_signal(bus->bus, BUS_PATH, BUS_INTERFACE, "JobRemoved", "usss", id, verb, result, detail));
}

void bus_identity_changed(struct bus *bus, uint32_t generation) {
    if (bus != NULL)
        log_emit("IdentityChanged",
                 sd_bus_emit_signal(bus->bus, BUS_PATH, BUS_INTERFACE, "IdentityChanged", "u", generation));
}

/* --- the connection --- */

static int on_name_lost(sd_bus_message *message, void *data, sd_bus_error *error) {
    const char *name = NULL;
    (void)data;
    (void)error;
    if (sd_bus_message_read(message, "s", &name) < 0 || strcmp(name, BUS_NAME) != 0)
        return 0;
    log_message(LOG_ERR, "the bus name " BUS_NAME " is lost");
    return sd_event_exit(sd_bus_get_event(sd_bus_message_get_bus(message)), EXIT_FAILURE);
}

static int set_up(struct bus *bus, sd_event *event) {
    int r = sd_bus_open_system(&bus->bus);
    if (r >= 0)
        r = sd_bus_set_exit_on_disconnect(bus->bus, 1);
    if (r >= 0)
        r = sd_bus_attach_event(bus->bus, event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_add_object_vtable(bus->bus, NULL, BUS_PATH, BUS_INTERFACE, vtable, bus);
    if (r >= 0)
        r = log_control_open(bus->bus, bus_authorize);
    if (r >= 0)
        r = sd_bus_match_signal(bus->bus, NULL, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                "NameLost", on_name_lost, bus);
    return r < 0 ? r : 0;
}

int bus_open(sd_event *event, struct agent *agent, struct bus **ret) {
    struct bus *bus = calloc(1, sizeof *bus);
    if (bus == NULL)
        return -ENOMEM;
    bus->agent = agent;
    char *names[MEMBER_COUNT + 1];
    take_over(bus, agent_status(agent), names);
    int r = set_up(bus, event);
    if (r < 0)
        bus_close(bus);
    else
        *ret = bus;
    return r;
}

int bus_take_name(struct bus *bus) {
    int r = sd_bus_request_name(bus->bus, BUS_NAME, 0);
    return r < 0 ? r : 0;
}

struct bus *bus_close(struct bus *bus) {
    if (bus == NULL)
        return NULL;
    sd_bus_flush_close_unref(bus->bus);
    free(bus);
    return NULL;
}

/* --- introspection --- */

static int on_introspected(sd_bus_message *reply, void *data, sd_bus_error *error) {
    (void)error;
    *(sd_bus_message **)data = sd_bus_message_ref(reply);
    return 0;
}

/* Asks the object itself, over a pair of sockets: the library has no other way to print a vtable. */
static int ask(sd_bus *server, sd_bus *client, sd_bus_message **ret) {
    struct bus object = {.published = {.credential_directory = ""}};
    int pair[2];
    sd_id128_t id;
    int r = sd_id128_randomize(&id);
    if (r < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return r < 0 ? r : -errno;
    r = sd_bus_set_fd(server, pair[0], pair[0]);
    if (r >= 0)
        r = sd_bus_set_fd(client, pair[1], pair[1]);
    if (r >= 0)
        r = sd_bus_set_server(server, 1, id);
    if (r >= 0)
        r = sd_bus_add_object_vtable(server, NULL, BUS_PATH, BUS_INTERFACE, vtable, &object);
    if (r >= 0)
        r = sd_bus_start(server);
    if (r >= 0)
        r = sd_bus_start(client);
    if (r >= 0)
        r = sd_bus_call_method_async(client, NULL, NULL, BUS_PATH, "org.freedesktop.DBus.Introspectable", "Introspect",
                                     on_introspected, ret, NULL);
    while (r >= 0 && *ret == NULL) {
        r = sd_bus_process(server, NULL);
        if (r >= 0)
            r = sd_bus_process(client, NULL);
    }
    return r;
}

int bus_introspect(FILE *stream) {
    sd_bus *server = NULL, *client = NULL;
    sd_bus_message *reply = NULL;
    const char *text = NULL;
    int r = sd_bus_new(&server);
    if (r >= 0)
        r = sd_bus_new(&client);
    if (r >= 0)
        r = ask(server, client, &reply);
    if (r >= 0)
        r = sd_bus_message_read(reply, "s", &text);
    if (r >= 0 && (fputs(text, stream) < 0 || fflush(stream) != 0))
        r = -errno;
    sd_bus_message_unref(reply);
    sd_bus_close_unref(client);
    sd_bus_close_unref(server);
    return r < 0 ? r : 0;
}

#include "daemon/bus.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/settings.h"
#include "common/text.h"
#include "daemon/agent.h"
#include "daemon/group.h"
#include "daemon/log-control.h"
#include "daemon/log.h"

#include <systemd/sd-bus.h>

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUS_NAME "org.enrolld1"
#define BUS_PATH "/org/enrolld1"
#define BUS_INTERFACE "org.enrolld1.Agent"
#define BUS_ERROR "org.enrolld1.Error."
#define SUBJECT_MAX 1024 /* bytes */

struct bus {
    sd_bus *bus;
    struct agent *agent;
    struct status published; /* what the properties say */
};

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

/* Nothing renews yet. */
static int get_never(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    return sd_bus_message_append(reply, "t", UINT64_C(0));
}

/* --- methods --- */

static const struct {
    const char *name, *text;
} answers[] = {
    [ANSWER_ALREADY_PROVISIONED] = {BUS_ERROR "AlreadyProvisioned", "This device is provisioned already"},
    [ANSWER_BUSY] = {BUS_ERROR "Busy", "Something of the kind is being done already: call again in a moment"},
    [ANSWER_NO_SUCH_JOB] = {BUS_ERROR "NoSuchJob", "No such job is running"},
    [ANSWER_INVALID_CONFIGURATION] = {BUS_ERROR "InvalidConfiguration", NULL},
    [ANSWER_FAILED] = {BUS_ERROR "Failed", NULL},
};

/* text: what is wrong. */
static int set_answer(sd_bus_error *error, enum agent_answer answer, const char *text) {
    return sd_bus_error_set(error, answers[answer].name, answers[answer].text != NULL ? answers[answer].text : text);
}

/* The array of group numbers: is that of the administrators among them? */
static int read_groups(sd_bus_message *reply, bool *ret) {
    gid_t admin;
    bool known = group_find(GROUP_ADMIN, &admin) == 0;
    const void *array = NULL;
    size_t size = 0;
    int r = sd_bus_message_enter_container(reply, 'v', "au");
    if (r >= 0)
        r = sd_bus_message_read_array(reply, 'u', &array, &size);
    if (r >= 0)
        r = sd_bus_message_exit_container(reply);
    for (size_t i = 0; i < size / sizeof(uint32_t) && known && r >= 0; i++)
        if (((const uint32_t *)array)[i] == admin)
            *ret = true;
    return r;
}

/* True if one of the dictionary's entries lets the caller in. */
static bool is_allowed(sd_bus_message *reply) {
    uint32_t uid = UINT32_MAX;
    bool in_group = false;
    int r = sd_bus_message_enter_container(reply, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
        const char *name = NULL;
        r = sd_bus_message_read(reply, "s", &name);
        if (r < 0)
            break;
        if (strcmp(name, "UnixUserID") == 0)
            r = sd_bus_message_read(reply, "v", "u", &uid);
        else if (strcmp(name, "UnixGroupIDs") == 0)
            r = read_groups(reply, &in_group);
        else
            r = sd_bus_message_skip(reply, "v");
        if (r >= 0)
            r = sd_bus_message_exit_container(reply);
    }
    /* Its own user: so that who runs the daemon by hand controls it. In service that is "enrolld", whose calls, those
     * of a worker among them, the policy of the bus lets through no more than anybody's. */
    return r >= 0 && (uid == 0 || uid == geteuid() || in_group);
}

/* Root, the daemon's own user, the group: as the bus knows the caller (GetConnectionCredentials of the D-Bus
 * specification), which does not race with the caller's end as /proc would, and is right in a user namespace.
 * sd_bus_query_sender_creds(3) cannot: it learns groups from /proc only. */
static int authorize(sd_bus_message *message, sd_bus_error *error) {
    sd_bus_message *reply = NULL;
    bool allowed = false;
    if (sd_bus_call_method(sd_bus_message_get_bus(message), "org.freedesktop.DBus", "/org/freedesktop/DBus",
                           "org.freedesktop.DBus", "GetConnectionCredentials", NULL, &reply, "s",
                           sd_bus_message_get_sender(message)) >= 0)
        allowed = is_allowed(reply);
    sd_bus_message_unref(reply);
    if (allowed)
        return 0;
    return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
                            "Only root and members of the group " GROUP_ADMIN " may do this");
}

/* Enroll() -> u: AccessDenied, AlreadyProvisioned, Busy, InvalidConfiguration */
static int method_enroll(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    uint32_t id = 0;
    int r = authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_enroll(bus->agent, &id, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
    return sd_bus_reply_method_return(message, "u", id);
}

/* What would not fit into a job's message, or not be one line of it; NULL: nothing is wrong. */
static const char *judge_subject(const char *subject) {
    if (strlen(subject) > SUBJECT_MAX)
        return "The subject is longer than 1024 bytes";
    return strpbrk(subject, "\r\n") != NULL ? "The subject has a line break" : NULL;
}

/* CreateRequest(s subject) -> u: AccessDenied, AlreadyProvisioned, Busy, InvalidConfiguration */
static int method_create_request(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    const char *subject = NULL;
    uint32_t id = 0;
    int r = authorize(message, error);
    if (r >= 0)
        r = sd_bus_message_read(message, "s", &subject);
    if (r < 0)
        return r;
    const char *wrong = judge_subject(subject);
    if (wrong != NULL)
        return set_answer(error, ANSWER_INVALID_CONFIGURATION, wrong);
    enum agent_answer answer = agent_request(bus->agent, subject, &id, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
    return sd_bus_reply_method_return(message, "u", id);
}

/* GetRequest() -> s: AccessDenied, NoRequest */
static int method_get_request(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    int r = authorize(message, error);
    if (r < 0)
        return r;
    const char *pem = agent_request_pem(bus->agent);
    if (pem == NULL)
        return sd_bus_error_set(error, BUS_ERROR "NoRequest", "No request was made since enrolld has started");
    return sd_bus_reply_method_return(message, "s", pem);
}

/* A copy of a caller's descriptor. What is in it is the worker's business; that it is a file, and no pipe or device
 * that might hold that one up, is ours. */
static int take_file(sd_bus_message *message, int *ret, sd_bus_error *error) {
    struct stat status;
    int fd = -1;
    int r = sd_bus_message_read(message, "h", &fd);
    if (r < 0)
        return r;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || status.st_size == 0 || status.st_size > MEMFD_SIZE_MAX ||
        (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY || (fcntl(fd, F_GETFL) & O_PATH) != 0)
        return sd_bus_error_set(error, BUS_ERROR "InvalidFile",
                                "A certificate or key must come as a regular file or memfd of 1 byte to 64 KiB");
    *ret = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return *ret < 0 ? -errno : 0;
}

static int import(sd_bus_message *message, struct bus *bus, bool with_key, sd_bus_error *error) {
    AUTO_CLOSE int certificate = -1;
    AUTO_CLOSE int private_key = -1;
    struct failure failure;
    uint32_t id = 0;
    int r = authorize(message, error);
    if (r >= 0)
        r = take_file(message, &certificate, error);
    if (r >= 0 && with_key)
        r = take_file(message, &private_key, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_import(bus->agent, take_fd(&certificate), take_fd(&private_key), &id, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
    return sd_bus_reply_method_return(message, "u", id);
}

/* Import(h chain, h key) -> u: AccessDenied, Busy, InvalidConfiguration, InvalidFile */
static int method_import(sd_bus_message *message, void *data, sd_bus_error *error) {
    return import(message, data, true, error);
}

/* ImportCertificate(h chain) -> u: the same */
static int method_import_certificate(sd_bus_message *message, void *data, sd_bus_error *error) {
    return import(message, data, false, error);
}

/* The list as the worker gives it: pairs of texts, each ended by a NUL. */
static int append_plugins(sd_bus_message *reply, const char *text, size_t size) {
    size_t at = 0;
    int r = sd_bus_message_open_container(reply, 'a', "(ss)");
    while (r >= 0 && at < size) {
        const char *name = text + at, *help = name + strlen(name) + 1;
        if (help >= text + size || !text_is_utf8(name, strlen(name)) || !text_is_utf8(help, strlen(help)))
            return -EBADMSG;
        at = (size_t)(help - text) + strlen(help) + 1;
        r = sd_bus_message_append(reply, "(ss)", name, help);
    }
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static void on_plugins(const char *text, size_t size, const struct failure *failure, void *data) {
    sd_bus_message *call = data, *reply = NULL;
    int r = text != NULL ? sd_bus_message_new_method_return(call, &reply) : -EIO;
    if (r >= 0)
        r = append_plugins(reply, text, size);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    if (r < 0)
        (void)sd_bus_reply_method_errorf(call, BUS_ERROR "Failed", "The methods cannot be listed: %s",
                                         text != NULL ? strerror(-r) : failure->message);
    sd_bus_message_unref(reply);
    sd_bus_message_unref(call);
}

/* ListPlugins() -> a(ss): AccessDenied, Busy, Failed */
static int method_list_plugins(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    int r = authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_list_plugins(bus->agent, on_plugins, sd_bus_message_ref(message), &failure);
    if (answer == ANSWER_YES) /* answered by on_plugins() */
        return 1;
    sd_bus_message_unref(message);
    return set_answer(error, answer, failure.message);
}

/* Cancel(u id): AccessDenied, NoSuchJob */
static int method_cancel(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    uint32_t id = 0;
    int r = authorize(message, error);
    if (r >= 0)
        r = sd_bus_message_read(message, "u", &id);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_cancel(bus->agent, id);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, NULL);
    return sd_bus_reply_method_return(message, NULL);
}

/* Reload(): AccessDenied, InvalidConfiguration */
static int method_reload(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    int r = authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_reload(bus->agent, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
    return sd_bus_reply_method_return(message, NULL);
}

struct rows {
    sd_bus_message *reply;
    int r;
};

/* "" and 0 as origin: the default. */
static void append_row(const struct setting_row *row, void *data) {
    struct rows *rows = data;
    if (rows->r >= 0)
        rows->r = sd_bus_message_append(rows->reply, "(ssssu)", row->section, row->key, row->value,
                                        row->file != NULL ? row->file : "", (uint32_t)row->line);
}

static int append_configuration(sd_bus_message *reply, const struct configuration *configuration) {
    struct rows rows = {reply, sd_bus_message_open_container(reply, 'a', "(ssssu)")};
    settings_enumerate(configuration, append_row, &rows);
    return rows.r < 0 ? rows.r : sd_bus_message_close_container(reply);
}

/* GetConfiguration() -> a(ssssu): AccessDenied, InvalidConfiguration */
static int method_get_configuration(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    const struct configuration *configuration = NULL;
    sd_bus_message *reply = NULL;
    struct failure failure;
    int r = authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_get_configuration(bus->agent, &configuration, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = append_configuration(reply, configuration);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
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
    MEMBER("CertificateId", identity.certificate_id),
    MEMBER("Generation", generation),
    MEMBER("KeyBackend", identity.key_backend),
    MEMBER("KeyAlgorithm", identity.key_algorithm),
    MEMBER("KeyOrigin", identity.key_origin),
    MEMBER("NotBefore", identity.not_before_usec),
    MEMBER("NotAfter", identity.not_after_usec),
    MEMBER("Endpoints", identity.endpoint),
    MEMBER("CredentialDirectory", credential_directory),
#undef MEMBER
};
#define MEMBER_COUNT (sizeof members / sizeof *members)

#define PROPERTY(name, signature, getter, member)                                                                      \
    SD_BUS_PROPERTY(name, signature, getter, offsetof(struct bus, published.member),                                   \
                    SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

/* Callers are judged by authorize(); the flag only switches off the library's own rule. */
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
    PROPERTY("CertificateId", "s", get_text, identity.certificate_id),
    PROPERTY("Generation", "u", NULL, generation),
    PROPERTY("KeyBackend", "s", get_text, identity.key_backend),
    PROPERTY("KeyAlgorithm", "s", get_text, identity.key_algorithm),
    PROPERTY("KeyOrigin", "s", get_text, identity.key_origin),
    PROPERTY("NotBefore", "t", NULL, identity.not_before_usec),
    PROPERTY("NotAfter", "t", NULL, identity.not_after_usec),
    SD_BUS_PROPERTY("RenewAfter", "t", get_never, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    PROPERTY("Endpoints", "as", get_endpoints, identity.endpoint),
    PROPERTY("CredentialDirectory", "s", NULL, credential_directory),
    SD_BUS_METHOD_WITH_ARGS("Enroll", SD_BUS_NO_ARGS, SD_BUS_RESULT("u", id), method_enroll,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("CreateRequest", SD_BUS_ARGS("s", subject), SD_BUS_RESULT("u", id), method_create_request,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetRequest", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", request), method_get_request,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Import", SD_BUS_ARGS("h", chain, "h", key), SD_BUS_RESULT("u", id), method_import,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ImportCertificate", SD_BUS_ARGS("h", chain), SD_BUS_RESULT("u", id),
                            method_import_certificate, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("GetConfiguration", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ssssu)", settings),
                            method_get_configuration, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("ListPlugins", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ss)", methods), method_list_plugins,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("u", id), SD_BUS_NO_RESULT, method_cancel,
                            SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL_WITH_ARGS("JobRemoved", SD_BUS_ARGS("u", id, "s", verb, "s", result, "s", detail), 0),
    SD_BUS_SIGNAL_WITH_ARGS("IdentityChanged", SD_BUS_ARGS("u", generation), 0),
    SD_BUS_VTABLE_END,
};

/* --- signals --- */

static void log_emit(const char *what, int r) {
    if (r < 0)
        log_message(LOG_WARNING, "cannot emit %s: %s", what, strerror(-r));
}

void bus_publish(struct bus *bus, const struct status *status) {
    char *names[MEMBER_COUNT + 1];
    size_t count = 0;
    if (bus == NULL)
        return;
    for (size_t i = 0; i < MEMBER_COUNT; i++)
        if (memcmp((const char *)&bus->published + members[i].offset, (const char *)status + members[i].offset,
                   members[i].size) != 0)
            names[count++] = (char *)members[i].name;
    names[count] = NULL;
    bus->published = *status;
    if (count > 0)
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
        r = log_control_open(bus->bus, authorize);
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
    bus->published = *agent_status(agent);
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

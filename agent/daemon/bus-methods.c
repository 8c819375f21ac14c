#include "daemon/bus-private.h"

#include "common/cleanup.h"
#include "common/diagnosis.h"
#include "common/memfd.h"
#include "common/settings.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define SUBJECT_MAX 1024 /* bytes */

static const struct {
    const char *name, *text;
} answers[] = {
    [ANSWER_ALREADY_PROVISIONED] = {BUS_ERROR "AlreadyProvisioned", "This device is provisioned already"},
    [ANSWER_BUSY] = {BUS_ERROR "Busy", "Something of the kind is being done already"},
    [ANSWER_NO_SUCH_JOB] = {BUS_ERROR "NoSuchJob", "No such job is running"},
    [ANSWER_INVALID_CONFIGURATION] = {BUS_ERROR "InvalidConfiguration", NULL},
    [ANSWER_CLOCK_NOT_SET] = {BUS_ERROR "ClockNotSet", NULL},
    [ANSWER_NO_IDENTITY] = {BUS_ERROR "NoIdentity", "This device has no identity"},
    [ANSWER_NOT_RENEWABLE] = {BUS_ERROR "NotRenewable", NULL},
    [ANSWER_FAILED] = {BUS_ERROR "Failed", NULL},
};

/* text: what is wrong. */
static int set_answer(sd_bus_error *error, enum agent_answer answer, const char *text) {
    return sd_bus_error_set(error, answers[answer].name, answers[answer].text != NULL ? answers[answer].text : text);
}

/* The number of the job, or why there is none. */
static int answer_job(sd_bus_message *message, enum agent_answer answer, uint32_t id, const struct failure *failure,
                      sd_bus_error *error) {
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure->message);
    return sd_bus_reply_method_return(message, "u", id);
}

/* What has no arguments and begins a job, for whom `authorize` lets in. */
static int begin(sd_bus_message *message, const struct bus *bus,
                 int (*authorize)(sd_bus_message *message, sd_bus_error *error),
                 enum agent_answer (*ask)(struct agent *agent, uint32_t *ret_id, struct failure *failure),
                 sd_bus_error *error) {
    struct failure failure;
    uint32_t id = 0;
    int r = authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = ask(bus->agent, &id, &failure);
    return answer_job(message, answer, id, &failure, error);
}

/* Enroll() -> u: AccessDenied, AlreadyProvisioned, Busy, ClockNotSet, InvalidConfiguration */
int bus_enroll(sd_bus_message *message, void *data, sd_bus_error *error) {
    return begin(message, data, bus_authorize, agent_enroll, error);
}

/* Renew() -> u: AccessDenied, Busy, ClockNotSet, InvalidConfiguration, NoIdentity, NotRenewable */
int bus_renew(sd_bus_message *message, void *data, sd_bus_error *error) {
    return begin(message, data, bus_authorize, agent_renew, error);
}

/* Check() -> u: AccessDenied, Busy, InvalidConfiguration, NoIdentity */
int bus_check(sd_bus_message *message, void *data, sd_bus_error *error) {
    return begin(message, data, bus_authorize_user, agent_check, error);
}

/* What would not fit into a job's message, or not be one line of it; NULL: nothing is wrong. */
static const char *judge_subject(const char *subject) {
    if (strlen(subject) > SUBJECT_MAX)
        return "The subject is longer than 1024 bytes";
    return strpbrk(subject, "\r\n") != NULL ? "The subject has a line break" : NULL;
}

/* CreateRequest(s subject) -> u: AccessDenied, Busy, InvalidConfiguration */
int bus_create_request(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    const char *subject = NULL;
    uint32_t id = 0;
    int r = bus_authorize(message, error);
    if (r >= 0)
        r = sd_bus_message_read(message, "s", &subject);
    if (r < 0)
        return r;
    const char *wrong = judge_subject(subject);
    if (wrong != NULL)
        return set_answer(error, ANSWER_INVALID_CONFIGURATION, wrong);
    enum agent_answer answer = agent_request(bus->agent, subject, &id, &failure);
    return answer_job(message, answer, id, &failure, error);
}

/* GetRequest() -> s: AccessDenied, NoRequest */
int bus_get_request(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    int r = bus_authorize(message, error);
    if (r < 0)
        return r;
    const char *pem = agent_request_pem(bus->agent);
    if (pem == NULL)
        return sd_bus_error_set(error, BUS_ERROR "NoRequest", "No request was made since enrolld has started");
    return sd_bus_reply_method_return(message, "s", pem);
}

/* GetCertificate() -> s: AccessDenied, Failed, NoIdentity */
int bus_get_certificate(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    AUTO_FREE char *pem = NULL;
    struct failure failure;
    int r = bus_authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_certificate(bus->agent, &pem, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
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
    int r = bus_authorize(message, error);
    if (r >= 0)
        r = take_file(message, &certificate, error);
    if (r >= 0 && with_key)
        r = take_file(message, &private_key, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_import(bus->agent, take_fd(&certificate), take_fd(&private_key), &id, &failure);
    return answer_job(message, answer, id, &failure, error);
}

/* Import(h chain, h key) -> u: AccessDenied, Busy, InvalidConfiguration, InvalidFile */
int bus_import(sd_bus_message *message, void *data, sd_bus_error *error) {
    return import(message, data, true, error);
}

/* ImportCertificate(h chain) -> u: the same */
int bus_import_certificate(sd_bus_message *message, void *data, sd_bus_error *error) {
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
int bus_list_plugins(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    int r = bus_authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_list_plugins(bus->agent, on_plugins, sd_bus_message_ref(message), &failure);
    if (answer == ANSWER_YES) /* answered by on_plugins() */
        return 1;
    sd_bus_message_unref(message);
    return set_answer(error, answer, failure.message);
}

/* Diagnose() -> u: AccessDenied, Busy, InvalidConfiguration */
int bus_diagnose(sd_bus_message *message, void *data, sd_bus_error *error) {
    return begin(message, data, bus_authorize, agent_diagnose, error);
}

static int append_diagnosis(sd_bus_message *reply, const char *rows, size_t size) {
    struct diagnosis_row row;
    size_t at = 0;
    int r = sd_bus_message_open_container(reply, 'a', "(ssss)");
    while (r >= 0 && (r = diagnosis_next(rows, size, &at, &row)) > 0)
        r = sd_bus_message_append(reply, "(ssss)", row.what, row.verdict, row.text, row.advice);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* GetDiagnosis() -> a(ssss): AccessDenied, NoDiagnosis */
int bus_get_diagnosis(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    sd_bus_message *reply = NULL;
    size_t size = 0;
    int r = bus_authorize(message, error);
    if (r < 0)
        return r;
    const char *rows = agent_diagnosis(bus->agent, &size);
    if (rows == NULL)
        return sd_bus_error_set(error, BUS_ERROR "NoDiagnosis", "No diagnosis was made since enrolld has started");
    r = sd_bus_message_new_method_return(message, &reply);
    if (r >= 0)
        r = append_diagnosis(reply, rows, size);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}

/* Forget(): AccessDenied, Busy, Failed */
int bus_forget(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    int r = bus_authorize(message, error);
    if (r < 0)
        return r;
    enum agent_answer answer = agent_forget(bus->agent, &failure);
    if (answer != ANSWER_YES)
        return set_answer(error, answer, failure.message);
    return sd_bus_reply_method_return(message, NULL);
}

/* Cancel(u id): AccessDenied, NoSuchJob */
int bus_cancel(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    uint32_t id = 0;
    int r = bus_authorize(message, error);
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
int bus_reload(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    struct failure failure;
    int r = bus_authorize(message, error);
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
int bus_get_configuration(sd_bus_message *message, void *data, sd_bus_error *error) {
    struct bus *bus = data;
    const struct configuration *configuration = NULL;
    sd_bus_message *reply = NULL;
    struct failure failure;
    int r = bus_authorize(message, error);
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

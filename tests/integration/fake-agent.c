/* org.enrolld1 as a client sees it, for tests of enrollctl: keeps what it is given, and answers as it is told.
 *
 *     fake-agent DIRECTORY
 *
 * Into the directory go, per call: `calls` (the method's name, a line each), `subject`, `chain`, `key` (what the
 * descriptors hold, if they are sealed). From there come: `result` and `detail` of JobRemoved (else "done" and nothing;
 * "none": it ends without a word, "later": the job does not end), `error` and `message` of calls (else they are
 * accepted), `request`; of Renew and Check `steps`, a word for each that they tell; `settings` of GetConfiguration, a
 * line "SECTION KEY VALUE" each; and the properties below, by their names. Stands ready when it has printed a line. */
#include "common/cleanup.h"
#include "common/memfd.h"

#include <systemd/sd-bus.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define PATH "/org/enrolld1"
#define INTERFACE "org.enrolld1.Agent"
#define TEXT_MAX 1024

static uint32_t job = 6;
static char step[TEXT_MAX];

/* Reads a file of the directory without the end of its last line; the default if there is none. */
static const char *read_text(const char *name, const char *otherwise, char text[static TEXT_MAX]) {
    FILE *file = fopen(name, "re");
    if (file == NULL)
        return otherwise;
    size_t size = fread(text, 1, TEXT_MAX - 1, file);
    fclose(file);
    while (size > 0 && text[size - 1] == '\n')
        size--;
    text[size] = '\0';
    return text;
}

static void write_file(const char *name, const char *mode, const void *data, size_t size) {
    FILE *file = fopen(name, mode);
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        perror(name);
}

static void keep_call(sd_bus_message *call) {
    char line[TEXT_MAX];
    int size = snprintf(line, sizeof line, "%s\n", sd_bus_message_get_member(call));
    write_file("calls", "ae", line, (size_t)size);
}

static int keep_descriptor(sd_bus_message *call, const char *name) {
    AUTO_FREE char *data = NULL;
    size_t size = 0;
    int fd = -1, r = sd_bus_message_read(call, "h", &fd);
    if (r < 0)
        return r;
    if (!memfd_is_sealed(fd))
        return sd_bus_error_set(NULL, SD_BUS_ERROR_INVALID_ARGS, "not sealed");
    r = memfd_read(fd, &data, &size);
    if (r >= 0)
        write_file(name, "we", data, size);
    return r;
}

/* Accepts the call or not; the end of the job comes behind the reply. */
static int answer(sd_bus_message *call, const char *verb, sd_bus_error *ret_error) {
    char name[TEXT_MAX], message[TEXT_MAX], result_text[TEXT_MAX], detail[TEXT_MAX];
    const char *error = read_text("error", NULL, name), *result = read_text("result", "done", result_text);
    if (error != NULL)
        return sd_bus_error_set(ret_error, error, read_text("message", "refused", message));
    int r = sd_bus_reply_method_return(call, "u", ++job);
    if (strcmp(result, "none") == 0)
        return sd_bus_flush(sd_bus_message_get_bus(call)) < 0 || r < 0 ? r : (exit(EXIT_SUCCESS), 0);
    if (r >= 0 && strcmp(result, "later") != 0)
        r = sd_bus_emit_signal(sd_bus_message_get_bus(call), PATH, INTERFACE, "JobRemoved", "usss", job, verb, result,
                               read_text("detail", "", detail));
    return r < 0 ? r : 1;
}

static int on_create_request(sd_bus_message *call, void *data, sd_bus_error *error) {
    const char *subject = NULL;
    (void)data;
    keep_call(call);
    int r = sd_bus_message_read(call, "s", &subject);
    if (r < 0)
        return r;
    write_file("subject", "we", subject, strlen(subject));
    return answer(call, "request", error);
}

static int on_get_request(sd_bus_message *call, void *data, sd_bus_error *error) {
    char text[TEXT_MAX];
    (void)data, (void)error;
    keep_call(call);
    return sd_bus_reply_method_return(call, "s", read_text("request", "", text));
}

static int on_import(sd_bus_message *call, void *data, sd_bus_error *error) {
    (void)data;
    keep_call(call);
    int r = keep_descriptor(call, "chain");
    if (r >= 0 && strcmp(sd_bus_message_get_member(call), "Import") == 0)
        r = keep_descriptor(call, "key");
    return r < 0 ? r : answer(call, "import", error);
}

/* Tells its steps, then answers. */
static int on_use(sd_bus_message *call, void *data, sd_bus_error *error) {
    char text[TEXT_MAX], *rest = text;
    const char *steps = read_text("steps", "", text);
    bool renews = strcmp(sd_bus_message_get_member(call), "Renew") == 0;
    int r = 0;
    (void)data;
    keep_call(call);
    for (char *word; r >= 0 && steps[0] != '\0' && (word = strsep(&rest, " ")) != NULL;) {
        snprintf(step, sizeof step, "%s", word);
        r = sd_bus_emit_properties_changed(sd_bus_message_get_bus(call), PATH, INTERFACE, "Step", NULL);
    }
    return r < 0 ? r : answer(call, renews ? "renew" : "check", error);
}

static int on_diagnose(sd_bus_message *call, void *data, sd_bus_error *error) {
    (void)data;
    return answer(call, "diagnose", error);
}

static int on_get_diagnosis(sd_bus_message *call, void *data, sd_bus_error *error) {
    (void)data, (void)error;
    return sd_bus_reply_method_return(call, "a(ssss)", 0);
}

static int on_get_configuration(sd_bus_message *call, void *data, sd_bus_error *error) {
    char text[TEXT_MAX], *rest = text, *line;
    sd_bus_message *reply = NULL;
    const char *settings = read_text("settings", "", text);
    (void)data, (void)error;
    int r = sd_bus_message_new_method_return(call, &reply);
    if (r >= 0)
        r = sd_bus_message_open_container(reply, 'a', "(ssssu)");
    while (r >= 0 && settings[0] != '\0' && (line = strsep(&rest, "\n")) != NULL) {
        const char *section = strsep(&line, " "), *key = strsep(&line, " ");
        r = sd_bus_message_append(reply, "(ssssu)", section, key, line != NULL ? line : "", "enrolld.conf", 1);
    }
    if (r >= 0)
        r = sd_bus_message_close_container(reply);
    if (r >= 0)
        r = sd_bus_send(NULL, reply, NULL);
    sd_bus_message_unref(reply);
    return r < 0 ? r : 1;
}

static int on_list_plugins(sd_bus_message *call, void *data, sd_bus_error *error) {
    (void)data, (void)error;
    keep_call(call);
    return sd_bus_reply_method_return(call, "a(ss)", 2, "fleet-claim", "by a shared claim\n\nTemplate=NAME\n", "jitp",
                                      "by the maker's CA\n");
}

static int get_methods(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *data, sd_bus_error *error) {
    char outcome[TEXT_MAX];
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    if (strcmp(read_text("outcome", "", outcome), "") == 0)
        return sd_bus_message_append(reply, "a(sss)", 1, "jitp", "", "");
    return sd_bus_message_append(reply, "a(sss)", 2, "jitp", outcome, "said \"no\"", "fleet-claim", "", "");
}

static int get_step(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *data, sd_bus_error *error) {
    (void)bus, (void)path, (void)interface, (void)property, (void)data, (void)error;
    return sd_bus_message_append(reply, "s", step);
}

static int get_text(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *data, sd_bus_error *error) {
    char text[TEXT_MAX];
    (void)bus, (void)path, (void)interface, (void)data, (void)error;
    return sd_bus_message_append(reply, "s", read_text(property, "", text));
}

static int get_time(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *data, sd_bus_error *error) {
    char text[TEXT_MAX];
    (void)bus, (void)path, (void)interface, (void)data, (void)error;
    return sd_bus_message_append(reply, "t", (uint64_t)strtoull(read_text(property, "0", text), NULL, 10));
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                      void *data, sd_bus_error *error) {
    char text[TEXT_MAX];
    (void)bus, (void)path, (void)interface, (void)data, (void)error;
    return sd_bus_message_append(reply, "u", (uint32_t)strtoul(read_text(property, "0", text), NULL, 10));
}

/* CLASS STEP TIME MESSAGE */
static int get_error(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *data, sd_bus_error *error) {
    char text[TEXT_MAX], *rest = text;
    (void)bus, (void)path, (void)interface, (void)data, (void)error;
    if (read_text(property, "", text)[0] == '\0')
        return sd_bus_message_append(reply, "(ssst)", "", "", "", (uint64_t)0);
    const char *class = strsep(&rest, " "), *name = strsep(&rest, " "), *time = strsep(&rest, " ");
    return sd_bus_message_append(reply, "(ssst)", class, name, rest, (uint64_t)strtoull(time, NULL, 10));
}

/* Words. */
static int get_list(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *data, sd_bus_error *error) {
    char text[TEXT_MAX], *rest = text;
    const char *words = read_text(property, "", text);
    (void)bus, (void)path, (void)interface, (void)data, (void)error;
    int r = sd_bus_message_open_container(reply, 'a', "s");
    for (char *word; r >= 0 && words[0] != '\0' && (word = strsep(&rest, " ")) != NULL;)
        r = sd_bus_message_append(reply, "s", word);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const sd_bus_vtable vtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_PROPERTY("Methods", "a(sss)", get_methods, 0, 0),
    SD_BUS_PROPERTY("Step", "s", get_step, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
    SD_BUS_PROPERTY("State", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("ThingName", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("CertificateId", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("RenewRule", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("RenewMethod", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("RenewHindrance", "s", get_text, 0, 0),
    SD_BUS_PROPERTY("LastError", "(ssst)", get_error, 0, 0),
    SD_BUS_PROPERTY("Attempt", "u", get_number, 0, 0),
    SD_BUS_PROPERTY("NextAttempt", "t", get_time, 0, 0),
    SD_BUS_PROPERTY("NotAfter", "t", get_time, 0, 0),
    SD_BUS_PROPERTY("RenewAfter", "t", get_time, 0, 0),
    SD_BUS_PROPERTY("RefusedSince", "t", get_time, 0, 0),
    SD_BUS_PROPERTY("RetirePending", "as", get_list, 0, 0),
    SD_BUS_METHOD("Renew", "", "u", on_use, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Check", "", "u", on_use, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Diagnose", "", "u", on_diagnose, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("GetDiagnosis", "", "a(ssss)", on_get_diagnosis, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("GetConfiguration", "", "a(ssssu)", on_get_configuration, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("CreateRequest", "s", "u", on_create_request, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("GetRequest", "", "s", on_get_request, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("Import", "hh", "u", on_import, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("ImportCertificate", "h", "u", on_import, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_METHOD("ListPlugins", "", "a(ss)", on_list_plugins, SD_BUS_VTABLE_UNPRIVILEGED),
    SD_BUS_SIGNAL("JobRemoved", "usss", 0),
    SD_BUS_VTABLE_END,
};

int main(int argc, char **argv) {
    sd_bus *bus = NULL;
    if (argc != 2 || chdir(argv[1]) < 0)
        return EXIT_FAILURE;
    int r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = sd_bus_add_object_vtable(bus, NULL, PATH, INTERFACE, vtable, NULL);
    if (r >= 0)
        r = sd_bus_request_name(bus, "org.enrolld1", 0);
    if (r >= 0 && (puts("ready") < 0 || fflush(stdout) != 0))
        r = -1;
    while (r >= 0) {
        r = sd_bus_process(bus, NULL);
        if (r == 0)
            r = sd_bus_wait(bus, UINT64_MAX);
    }
    fprintf(stderr, "fake-agent: %s\n", strerror(-r));
    return EXIT_FAILURE;
}

/* D-Bus: calls with any name, arguments and sender, through the library into the handlers, which are included
 * with their table. Client and server talk over a pair of sockets; the bus that tells who calls is this file, and so is
 * the agent. Each call has one answer, and the agent is only asked for those who may. */
#include <stdarg.h>
#include <stddef.h>
#include <systemd/sd-bus.h>

static int call_the_bus(sd_bus *bus, const char *destination, const char *path, const char *interface,
                        const char *member, sd_bus_error *error, sd_bus_message **reply, const char *types, ...);
#define sd_bus_call_method call_the_bus
#include "agent/daemon/bus-caller.c"
#include "agent/daemon/bus-methods.c"
#include "agent/daemon/bus.c"
#undef sd_bus_call_method

#include "fuzz.h"

#include <sys/mman.h>

#define ADMIN_GROUP 4242
#define IDENTITY_GROUP 4243
#define DEPTH_MAX 4
#define ROUNDS_MAX 1000

static struct scene {
    struct bus object;
    sd_bus *server, *client;
    struct input caller;      /* what the bus says of the caller */
    enum agent_answer answer; /* of the agent */
    bool may;                 /* whether that caller may, by this file's own judgement */
    bool may_check;           /* or Check() at least */
    int file;                 /* that a caller hands over: of a right size, or empty */
    unsigned asked;           /* how often the agent was */
    unsigned answers;         /* that the client has got */
    bool is_error;
    char error_name[256];
} scene;

/* --- instead of the agent and the group file --- */

int group_find(const char *name, gid_t *ret) {
    bool is_admin = strcmp(name, GROUP_ADMIN) == 0;
    REQUIRE(is_admin || strcmp(name, GROUP_IDENTITY) == 0);
    *ret = is_admin ? ADMIN_GROUP : IDENTITY_GROUP;
    return 0;
}

const struct status *agent_status(const struct agent *agent) {
    (void)agent;
    return &scene.object.published;
}

static enum agent_answer answer_if_allowed(struct failure *failure) {
    REQUIRE(scene.may);
    scene.asked++;
    if (scene.answer != ANSWER_YES && failure != NULL)
        (void)failure_set(failure, FAILURE_INVALID, "configuration", "wrong");
    return scene.answer;
}

enum agent_answer agent_enroll(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    (void)agent;
    *ret_id = 7;
    return answer_if_allowed(failure);
}

enum agent_answer agent_renew(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    (void)agent;
    *ret_id = 12;
    return answer_if_allowed(failure);
}

enum agent_answer agent_check(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    (void)agent;
    *ret_id = 13;
    REQUIRE(scene.may || scene.may_check);
    scene.may = true;
    return answer_if_allowed(failure);
}

enum agent_answer agent_cancel(struct agent *agent, uint32_t id) {
    (void)agent, (void)id;
    return answer_if_allowed(NULL);
}

enum agent_answer agent_diagnose(struct agent *agent, uint32_t *ret_id, struct failure *failure) {
    (void)agent;
    *ret_id = 10;
    return answer_if_allowed(failure);
}

const char *agent_diagnosis(const struct agent *agent, size_t *ret_size) {
    static const char rows[] = "dns\0wrong\0no answer\0is the network up?";
    (void)agent;
    REQUIRE(scene.may);
    *ret_size = sizeof rows;
    return scene.answer == ANSWER_YES ? rows : NULL;
}

enum agent_answer agent_certificate(const struct agent *agent, char **ret_pem, struct failure *failure) {
    (void)agent;
    enum agent_answer answer = answer_if_allowed(failure);
    if (answer == ANSWER_YES)
        *ret_pem = strdup("-----BEGIN");
    return answer;
}

enum agent_answer agent_forget(struct agent *agent, struct failure *failure) {
    (void)agent;
    return answer_if_allowed(failure);
}

enum agent_answer agent_reload(struct agent *agent, struct failure *failure) {
    (void)agent;
    return answer_if_allowed(failure);
}

enum agent_answer agent_request(struct agent *agent, const char *subject, uint32_t *ret_id, struct failure *failure) {
    (void)agent;
    REQUIRE(text_is_utf8(subject, strlen(subject)));
    *ret_id = 8;
    return answer_if_allowed(failure);
}

const char *agent_request_pem(const struct agent *agent) {
    (void)agent;
    REQUIRE(scene.may);
    return scene.answer == ANSWER_YES ? "-----BEGIN" : NULL;
}

enum agent_answer agent_import(struct agent *agent, int certificate, int private_key, uint32_t *ret_id,
                               struct failure *failure) {
    (void)agent;
    REQUIRE(certificate >= 0);
    close(certificate);
    if (private_key >= 0)
        close(private_key);
    *ret_id = 9;
    return answer_if_allowed(failure);
}

enum agent_answer agent_list_plugins(struct agent *agent, agent_listed *listed, void *data, struct failure *failure) {
    static const char list[] = "fleet-claim\0by a claim\0jitp\0just in time";
    (void)agent;
    enum agent_answer answer = answer_if_allowed(failure);
    if (answer == ANSWER_YES)
        listed(list, sizeof list, failure, data);
    return answer;
}

enum agent_answer agent_get_configuration(const struct agent *agent, const struct configuration **ret,
                                          struct failure *failure) {
    static char section[] = "jitp", key[] = "Patience", value[] = "1h", file[] = "/etc/enrolld/enrolld.conf";
    static struct configuration_entry entry = {section, key, value, file, 3};
    static const struct configuration configuration = {&entry, 1};
    (void)agent;
    *ret = &configuration;
    return answer_if_allowed(failure);
}

/* --- the bus: who is it? --- */

struct groups {
    bool admin, identity;
};

static int append_groups(sd_bus_message *reply, struct input *input, struct groups *in) {
    uint32_t groups[8];
    size_t count = input_byte(input) % 8;
    for (size_t i = 0; i < count; i++) {
        uint8_t kind = input_byte(input);
        groups[i] = kind % 4 == 0 ? ADMIN_GROUP : kind % 4 == 1 ? IDENTITY_GROUP : (uint32_t)input_number(input, 2);
        in->admin |= groups[i] == ADMIN_GROUP;
        in->identity |= groups[i] == IDENTITY_GROUP;
    }
    int r = sd_bus_message_open_container(reply, 'v', "au");
    if (r >= 0)
        r = sd_bus_message_append_array(reply, 'u', groups, count * sizeof *groups);
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* One entry of the dictionary: right, of a wrong type, or one that is not known. */
static int append_entry(sd_bus_message *reply, struct input *input, uint32_t *uid, struct groups *in, bool *good) {
    uint8_t kind = input_byte(input);
    const char *name = kind % 3 == 0 ? "UnixUserID" : kind % 3 == 1 ? "UnixGroupIDs" : "ProcessID";
    bool wrong_type = kind >= 224;
    int r = sd_bus_message_open_container(reply, 'e', "sv");
    if (r >= 0)
        r = sd_bus_message_append(reply, "s", name);
    if (wrong_type) {
        *good = *good && kind % 3 == 2;
        r = sd_bus_message_append(reply, "v", "s", "0");
    } else if (kind % 3 == 0) {
        *uid = kind < 96 ? 0 : (uint32_t)input_number(input, 4);
        r = sd_bus_message_append(reply, "v", "u", *uid);
    } else if (kind % 3 == 1)
        r = append_groups(reply, input, in);
    else
        r = sd_bus_message_append(reply, "v", "(ss)", "any", "thing");
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int append_credentials(sd_bus_message *reply, struct input *input) {
    uint32_t uid = UINT32_MAX;
    struct groups in = {0};
    bool good = true;
    size_t count = input_byte(input) % 6;
    int r = sd_bus_message_open_container(reply, 'a', "{sv}");
    for (size_t i = 0; i < count && r >= 0 && good; i++)
        r = append_entry(reply, input, &uid, &in, &good);
    scene.may = good && (uid == 0 || uid == geteuid() || in.admin);
    scene.may_check = good && in.identity;
    return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int call_the_bus(sd_bus *bus, const char *destination, const char *path, const char *interface,
                        const char *member, sd_bus_error *error, sd_bus_message **reply, const char *types, ...) {
    sd_bus_message *message = NULL;
    (void)destination, (void)path, (void)interface, (void)error;
    REQUIRE(strcmp(member, "GetConnectionCredentials") == 0 && strcmp(types, "s") == 0);
    scene.may = scene.may_check = false;
    uint8_t kind = input_byte(&scene.caller);
    if (kind == 1)
        return -ENOTCONN;
    /* A signal, as the library makes no answer to a call that was never sent; its body is read as any. */
    REQUIRE(sd_bus_message_new_signal(bus, &message, "/", "a.b", "C") >= 0);
    REQUIRE((kind == 2 ? sd_bus_message_append(message, "s", "not a dictionary")
                       : append_credentials(message, &scene.caller)) >= 0);
    REQUIRE(sd_bus_message_seal(message, 1, 0) >= 0 && sd_bus_message_rewind(message, 1) >= 0);
    *reply = message;
    return 0;
}

/* --- the caller --- */

static int append_value(sd_bus_message *call, struct input *input, unsigned depth);

static int append_basic(sd_bus_message *call, struct input *input, char type) {
    uint64_t number = input_number(input, 8);
    char *text = NULL;
    int r, truth = (int)(number & 1), fd = scene.file;
    switch (type) {
    case 's':
    case 'o':
    case 'g':
        text = input_text(input_part(input));
        r = sd_bus_message_append_basic(call, type, text);
        free(text);
        return r;
    case 'b':
        return sd_bus_message_append_basic(call, type, &truth);
    case 'h':
        return sd_bus_message_append_basic(call, type, &fd);
    default:
        return sd_bus_message_append_basic(call, type, &number);
    }
}

static int append_container(sd_bus_message *call, struct input *input, char type, unsigned depth) {
    static const char *const contents[] = {"u", "s", "ay", "(us)", "v", "a{sv}"};
    const char *content = type == 'r' ? "uv" : contents[input_byte(input) % 6];
    int r = sd_bus_message_open_container(call, type, content);
    if (r >= 0 && type == 'v' && strcmp(content, "v") == 0)
        r = append_value(call, input, depth + 1);
    else if (r >= 0 && type == 'r') {
        r = append_basic(call, input, 'u');
        if (r >= 0)
            r = append_container(call, input, 'v', depth + 1);
    } else if (r >= 0 && (strcmp(content, "u") == 0 || strcmp(content, "s") == 0))
        r = append_basic(call, input, content[0]);
    return r < 0 ? r : sd_bus_message_close_container(call);
}

static int append_value(sd_bus_message *call, struct input *input, unsigned depth) {
    static const char types[] = "uuuusogybnqixtdhhavr";
    char type = types[input_byte(input) % (sizeof types - 1)];
    if (strchr("avr", type) == NULL)
        return append_basic(call, input, type);
    return depth < DEPTH_MAX ? append_container(call, input, type, depth) : append_basic(call, input, 'u');
}

static int on_answer(sd_bus_message *reply, void *data, sd_bus_error *error) {
    const sd_bus_error *failed = sd_bus_message_get_error(reply);
    (void)data, (void)error;
    scene.answers++;
    scene.is_error = failed != NULL;
    if (failed != NULL)
        snprintf(scene.error_name, sizeof scene.error_name, "%s", failed->name);
    return 0;
}

/* A call by the names that are there, or by any. */
static int make_call(struct input *input, sd_bus_message **ret) {
    static const struct {
        const char *interface, *member;
    } known[] = {
        {BUS_INTERFACE, "Enroll"},
        {BUS_INTERFACE, "Cancel"},
        {BUS_INTERFACE, "Reload"},
        {BUS_INTERFACE, "CreateRequest"},
        {BUS_INTERFACE, "GetRequest"},
        {BUS_INTERFACE, "Import"},
        {BUS_INTERFACE, "ImportCertificate"},
        {BUS_INTERFACE, "ListPlugins"},
        {NULL, "Enroll"},
        {"org.freedesktop.DBus.Properties", "Get"},
        {"org.freedesktop.DBus.Properties", "Set"},
        {"org.freedesktop.DBus.Properties", "GetAll"},
        {"org.freedesktop.DBus.Introspectable", "Introspect"},
        {BUS_INTERFACE, "GetConfiguration"}, /* later ones last */
        {BUS_INTERFACE, "Forget"},
        {BUS_INTERFACE, "Diagnose"},
        {BUS_INTERFACE, "GetDiagnosis"},
        {BUS_INTERFACE, "GetCertificate"},
    };
    enum { KNOWN = sizeof known / sizeof *known };
    uint8_t choice = input_byte(input);
    if (choice < 200)
        return sd_bus_message_new_method_call(scene.client, ret, NULL, BUS_PATH, known[choice % KNOWN].interface,
                                              known[choice % KNOWN].member);
    char *path = input_text(input_part(input)), *interface = input_text(input_part(input)),
         *member = input_text(input_part(input));
    int r = sd_bus_message_new_method_call(scene.client, ret, NULL, path, interface, member);
    free(path);
    free(interface);
    free(member);
    return r;
}

/* --- both ends --- */

static void open_scene(void) {
    int pair[2];
    sd_id128_t id;
    scene.object.published = (struct status){.credential_directory = "/var/lib/enrolld/current"};
    REQUIRE(sd_id128_randomize(&id) >= 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    REQUIRE(sd_bus_new(&scene.server) >= 0 && sd_bus_new(&scene.client) >= 0);
    REQUIRE(sd_bus_set_fd(scene.server, pair[0], pair[0]) >= 0 && sd_bus_set_fd(scene.client, pair[1], pair[1]) >= 0);
    REQUIRE(sd_bus_set_server(scene.server, 1, id) >= 0);
    REQUIRE(sd_bus_add_object_vtable(scene.server, NULL, BUS_PATH, BUS_INTERFACE, vtable, &scene.object) >= 0);
    REQUIRE(sd_bus_negotiate_fds(scene.server, 1) >= 0 && sd_bus_negotiate_fds(scene.client, 1) >= 0);
    scene.file = memfd_create("file", MFD_CLOEXEC);
    REQUIRE(scene.file >= 0 && write(scene.file, "x", 1) == 1);
    REQUIRE(sd_bus_start(scene.server) >= 0 && sd_bus_start(scene.client) >= 0);
}

static void close_scene(void) {
    sd_bus_close_unref(scene.client);
    sd_bus_close_unref(scene.server);
    close(scene.file);
}

/* Runs both until the call is answered: what never is fails here. */
static void wait_for_the_answer(void) {
    for (unsigned round = 0; scene.answers == 0; round++) {
        REQUIRE(round < ROUNDS_MAX);
        REQUIRE(sd_bus_process(scene.server, NULL) >= 0);
        REQUIRE(sd_bus_process(scene.client, NULL) >= 0);
    }
    REQUIRE(scene.answers == 1);
}

static void check_answer(void) {
    if (!scene.is_error)
        REQUIRE(scene.asked == 0 || scene.answer == ANSWER_YES);
    else if (strcmp(scene.error_name, BUS_ERROR "NoRequest") == 0 ||
             strcmp(scene.error_name, BUS_ERROR "NoDiagnosis") == 0 ||
             strcmp(scene.error_name, BUS_ERROR "InvalidFile") == 0)
        REQUIRE(scene.may && scene.asked == 0);
    else if (strcmp(scene.error_name, BUS_ERROR "InvalidConfiguration") == 0 && scene.asked == 0)
        REQUIRE(scene.may); /* a subject that the handler itself refuses */
    else if (strncmp(scene.error_name, BUS_ERROR, strlen(BUS_ERROR)) == 0)
        REQUIRE(scene.asked == 1 && strcmp(scene.error_name, answers[scene.answer].name) == 0);
    else
        REQUIRE(scene.asked == 0 && strncmp(scene.error_name, "org.freedesktop.DBus.Error.", 27) == 0);
}

static void call(struct input *input) {
    sd_bus_message *message = NULL;
    size_t values = input_byte(input) % 6;
    int r = make_call(input, &message);
    for (size_t i = 0; i < values && r >= 0; i++)
        r = append_value(message, input, 0);
    if (r >= 0)
        r = sd_bus_call_async(scene.client, NULL, message, on_answer, NULL, UINT64_MAX);
    sd_bus_message_unref(message);
    if (r < 0) /* not a message */
        return;
    wait_for_the_answer();
    check_answer();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = {data, size};
    if (scene.client == NULL) {
        open_scene();
        atexit(close_scene);
    }
    scene.answer = (enum agent_answer)(input_byte(&input) % (ANSWER_FAILED + 1));
    scene.caller = input_part(&input);
    scene.may = scene.may_check = false;
    scene.asked = scene.answers = 0;
    call(&input);
    return 0;
}

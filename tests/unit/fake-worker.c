#include "fake-worker.h"

#include "common/channel.h"
#include "common/cleanup.h"
#include "common/job.h"
#include "common/memfd.h"
#include "daemon/retired.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static const enum file_role roles[] = {FILE_CERTIFICATE, FILE_PRIVATE_KEY, FILE_ROOT_CA, FILE_IDENTITY};

static void send_message(struct message *message) {
    int r = channel_send(CHANNEL_WORKER_FD, message);
    message_clear(message);
    if (r < 0)
        fprintf(stderr, "# fake worker: cannot send: %s\n", strerror(-r));
}

static void send_progress(const char *step) {
    struct message message;
    message_init(&message, MESSAGE_PROGRESS);
    message_add(&message, JOB_KEY_STEP, step);
    send_message(&message);
}

static void send_unusable(void) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "failed");
    message_add(&message, JOB_KEY_CLASS, "invalid");
    message_add(&message, JOB_KEY_STEP, "configuration");
    message_add(&message, JOB_KEY_MESSAGE, "there is no claim");
    message_add(&message, JOB_KEY_UNUSABLE, "yes");
    send_message(&message);
}

/* Of a check that has failed: the identity it has looked at. */
static void add_known(struct message *message) {
    message_add(message, JOB_KEY_METHOD, "fleet-claim");
    message_add(message, JOB_KEY_CERTIFICATE_ID, fake_certificate_id(1));
}

static void send_failed(const char *class, const char *text, const char *lost) {
    const char *retry_after = getenv(FAKE_FACT_PREFIX "RETRY_AFTER");
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "failed");
    message_add(&message, JOB_KEY_CLASS, class);
    message_add(&message, JOB_KEY_STEP, "key");
    message_add(&message, JOB_KEY_MESSAGE, text);
    if (lost != NULL)
        message_add(&message, JOB_KEY_LOST, lost), add_known(&message);
    if (retry_after != NULL)
        message_add(&message, JOB_KEY_RETRY_AFTER, retry_after);
    send_message(&message);
}

static void send_refused(void) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "failed");
    message_add(&message, JOB_KEY_CLASS, "denied");
    message_add(&message, JOB_KEY_STEP, "prove");
    message_add(&message, JOB_KEY_MESSAGE, "the cloud refuses this identity");
    message_add(&message, JOB_KEY_REFUSED, "yes");
    send_message(&message);
}

static void send_enrolled(unsigned count) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "done");
    for (unsigned i = 0; i < count; i++) {
        const char *name = file_role_name(roles[i]);
        message_attach(&message, roles[i], memfd_create_sealed(name, name, strlen(name)));
    }
    send_message(&message);
}

const char *fake_certificate_id(unsigned generation) {
    static char id[65];
    snprintf(id, sizeof id, "%064x", generation);
    return id;
}

/* What the test says (fake-worker.h), or else this. */
static void add_fact(struct message *message, const char *key, const char *otherwise) {
    char variable[64];
    snprintf(variable, sizeof variable, FAKE_FACT_PREFIX "%s", key);
    const char *value = getenv(variable);
    message_add(message, key, value != NULL ? value : otherwise);
}

static void send_checked(const char *certificate_id, const char *not_after, bool with_root_ca) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "done");
    add_fact(&message, JOB_KEY_METHOD, "fleet-claim");
    message_add(&message, JOB_KEY_THING_NAME, "gateway-1");
    message_add(&message, JOB_KEY_CERTIFICATE_ID, certificate_id);
    message_add(&message, JOB_KEY_KEY_BACKEND, "tpm2");
    message_add(&message, JOB_KEY_KEY_ALGORITHM, "ecdsa-p256");
    message_add(&message, JOB_KEY_KEY_ORIGIN, "tpm");
    add_fact(&message, JOB_KEY_NOT_BEFORE, "1700000000");
    add_fact(&message, JOB_KEY_NOT_AFTER, not_after);
    message_add(&message, JOB_KEY_ENDPOINT, "example-ats.iot.eu-west-1.amazonaws.com");
    add_fact(&message, JOB_KEY_ISSUED_AT, "1700000060");
    add_fact(&message, JOB_KEY_RENEW_METHOD, "fleet-claim");
    add_fact(&message, JOB_KEY_HINDRANCE, "");
    add_fact(&message, JOB_KEY_IMPORTED, "no");
    if (with_root_ca)
        message_attach(&message, FILE_ROOT_CA, memfd_create_sealed("root-ca", "other authorities", 17));
    send_message(&message);
}

static void send_one_file(enum file_role role, const char *text, size_t size) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "done");
    message_attach(&message, role, memfd_create_sealed("file", text, size));
    send_message(&message);
}

static void send_receipt(void) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "done");
    message_add(&message, JOB_KEY_CERTIFICATE_ID, "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    send_message(&message);
}

static void send_bare(void) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "done");
    send_message(&message);
}

static unsigned generation; /* of the job */

static char replaced[RETIRED_TEXT_MAX]; /* of the job */

/* All but the first of them are retired. */
static void send_told(void) {
    struct message message;
    for (char *rest = replaced, *id = strsep(&rest, " "); rest != NULL;) {
        id = strsep(&rest, " ");
        message_init(&message, MESSAGE_PROGRESS);
        message_add(&message, JOB_KEY_STEP, "retire");
        message_add(&message, JOB_KEY_OLD, id);
        send_message(&message);
    }
}

static void send_done(const char *verb) {
    static const char list[] = "fleet-claim\0by a claim", rows[] = "dns\0ok\0it answers\0";
    if (strcmp(verb, JOB_ENROLL) == 0 || strcmp(verb, JOB_RENEW) == 0)
        send_enrolled(4);
    else if (strcmp(verb, JOB_PROVE) == 0 || strcmp(verb, JOB_RETIRE) == 0)
        send_bare();
    else if (strcmp(verb, JOB_REQUEST) == 0)
        send_one_file(FILE_REQUEST, "the request", 11);
    else if (strcmp(verb, JOB_IMPORT) == 0)
        send_receipt();
    else if (strcmp(verb, JOB_PLUGINS) == 0)
        send_one_file(FILE_PLUGINS, list, sizeof list);
    else if (strcmp(verb, JOB_DIAGNOSE) == 0)
        send_one_file(FILE_DIAGNOSIS, rows, sizeof rows);
    else
        send_checked(fake_certificate_id(generation), "2524607999", false);
}

/* A result with one file that the daemon must refuse. */
static void send_file(enum file_role role, int fd) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "done");
    for (unsigned i = 0; i < 4; i++)
        if (roles[i] != role)
            message_attach(&message, roles[i], memfd_create_sealed("file", "x", 1));
    message_attach(&message, role, fd);
    send_message(&message);
}

static int make_unsealed(off_t size) {
    int fd = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return ftruncate(fd, size) == 0 ? fd : -1;
}

static void send_bytes(size_t size) {
    char bytes[2 * CHANNEL_MESSAGE_MAX];
    memset(bytes, 'x', sizeof bytes);
    if (send(CHANNEL_WORKER_FD, bytes, size, MSG_NOSIGNAL) < 0)
        fprintf(stderr, "# fake worker: cannot send: %s\n", strerror(errno));
}

/* True when the daemon has said that it is durable. */
static bool send_kept(enum file_role role, const char *text) {
    struct pollfd channel = {.fd = CHANNEL_WORKER_FD, .events = POLLIN};
    struct message message, answer;
    const char *reason = NULL;
    message_init(&message, MESSAGE_CHECKPOINT);
    message_attach(&message, role, memfd_create_sealed("kept", text, strlen(text)));
    send_message(&message);
    poll(&channel, 1, -1);
    if (channel_receive(CHANNEL_WORKER_FD, 1, &answer, &reason) != 1)
        return false;
    bool go_on = answer.type == MESSAGE_CONTINUE;
    message_clear(&answer);
    return go_on;
}

static bool send_checkpoint(const char *text) {
    return send_kept(FILE_CHECKPOINT, text);
}

static void send_resume(void) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    message_add(&message, JOB_KEY_RESULT, "resume");
    send_message(&message);
}

/* Until the test has made the file "go" beside the record. */
static void wait_for_go(void) {
    char path[128];
    snprintf(path, sizeof path, "%s", getenv(FAKE_RECORD_VARIABLE));
    strcpy(strrchr(path, '/') + 1, "go");
    while (access(path, F_OK) < 0)
        poll(NULL, 0, 10);
}

static int misbehave_at_checkpoint(const char *behaviour, const char *verb) {
    struct message message;
    if (strcmp(behaviour, "checkpoint-empty") == 0)
        send_checkpoint("");
    else if (strcmp(behaviour, "checkpoint-flood") == 0)
        while (send_checkpoint("again"))
            ;
    else if (strcmp(behaviour, "checkpoint-late") == 0)
        send_done(verb), send_checkpoint("late");
    else if (strcmp(behaviour, "checkpoint-bare") == 0) {
        message_init(&message, MESSAGE_CHECKPOINT);
        send_message(&message);
    } else if (strcmp(behaviour, "continue") == 0) {
        message_init(&message, MESSAGE_CONTINUE);
        send_message(&message);
    } else if (strcmp(behaviour, "resume-bare") == 0)
        send_resume();
    else
        return 99;
    return 0;
}

static void wait_for_ever(void) {
    for (;;)
        pause();
}

/* What a worker must find around itself. */
static void send_surroundings(void) {
    const char *wrong = "";
    struct rlimit limit;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, NULL, &mask);
    if (sigismember(&mask, SIGCHLD) || sigismember(&mask, SIGTERM))
        wrong = "signals are blocked";
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) < 0 || action.sa_handler != SIG_DFL)
        wrong = "SIGPIPE is not the default";
    if (getenv("NOTIFY_SOCKET") != NULL || getenv("WATCHDOG_USEC") != NULL || getenv("LISTEN_FDS") != NULL ||
        getenv("DBUS_SYSTEM_BUS_ADDRESS") != NULL)
        wrong = "the environment is that of the daemon";
    if (getenv("FAKE_KEPT") == NULL)
        wrong = "the environment is empty";
    getrlimit(RLIMIT_NOFILE, &limit);
    for (int fd = CHANNEL_WORKER_FD + 1; fd < (int)(limit.rlim_cur < 1024 ? limit.rlim_cur : 1024); fd++)
        if (fcntl(fd, F_GETFD) >= 0)
            wrong = "a descriptor is open";
    char byte;
    if (read(STDIN_FILENO, &byte, 1) != 0)
        wrong = "standard input is not empty";
    send_failed("internal", *wrong == '\0' ? "as it should be" : wrong, false);
}

/* A process that holds the channel after its parent has ended; it ends with the channel. */
static void leave_child(void) {
    if (fork() == 0) {
        struct pollfd channel = {.fd = CHANNEL_WORKER_FD};
        poll(&channel, 1, -1);
        _exit(0);
    }
}

static bool is_zombie(pid_t pid) {
    char path[64], line[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *stream = fopen(path, "re");
    if (stream == NULL)
        return false;
    char *read = fgets(line, sizeof line, stream);
    fclose(stream);
    return read != NULL && strstr(line, ") Z ") != NULL;
}

/* A tracer (a debugger, the leak detector of a sanitizer) keeps the end of this process from its parent for a while,
 * though its pidfd tells at once. Where tracing is forbidden this process just ends. */
static void end_traced(void) {
    int ready[2];
    char byte;
    pid_t worker = getpid();
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0); /* of Yama, fails where that is not */
    if (pipe(ready) < 0)
        return;
    if (fork() == 0) {
        close(CHANNEL_WORKER_FD);
        bool traced = ptrace(PTRACE_SEIZE, worker, NULL, NULL) == 0;
        close(ready[0]);
        close(ready[1]);
        while (traced && !is_zombie(worker))
            usleep(1000);
        usleep(100000);
        _exit(0);
    }
    close(ready[1]);
    (void)!read(ready[0], &byte, 1);
}

static int misbehave(const char *behaviour, const char *verb) {
    static const char bad_rows[] = "dns\0ok\0it answers\0\0tcp\0splendid\0open\0";
    if (strcmp(behaviour, "garbage") == 0)
        send_bytes(100);
    else if (strcmp(behaviour, "huge") == 0)
        send_bytes(2 * CHANNEL_MESSAGE_MAX);
    else if (strcmp(behaviour, "twice") == 0)
        send_done(verb), send_done(verb);
    else if (strcmp(behaviour, "late-progress") == 0)
        send_done(verb), send_progress("prove");
    else if (strcmp(behaviour, "flood") == 0)
        for (unsigned i = 0; i < 1001; i++)
            send_progress("prove");
    else if (strcmp(behaviour, "unsealed") == 0)
        send_file(FILE_ROOT_CA, make_unsealed(5));
    else if (strcmp(behaviour, "large") == 0)
        send_file(FILE_ROOT_CA, make_unsealed(MEMFD_SIZE_MAX + 1));
    else if (strcmp(behaviour, "empty") == 0)
        send_file(FILE_ROOT_CA, memfd_create_sealed("empty", "", 0));
    else if (strcmp(behaviour, "extra") == 0)
        send_file(FILE_CONFIGURATION, memfd_create_sealed("extra", "x", 1));
    else if (strcmp(behaviour, "missing") == 0)
        send_enrolled(3);
    else if (strcmp(behaviour, "no-facts") == 0)
        send_checked("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0", "2524607999", false);
    else if (strcmp(behaviour, "far-future") == 0)
        send_checked("0123", "18446744073709551615", false);
    else if (strcmp(behaviour, "riddle") == 0) {
        setenv(FAKE_FACT_PREFIX JOB_KEY_RENEW_METHOD, "", 1);
        send_checked("0123", "2524607999", false);
    } else if (strcmp(behaviour, "root-ca") == 0)
        send_checked(fake_certificate_id(generation), "2524607999", true);
    else if (strcmp(behaviour, "empty-root-ca") == 0)
        send_one_file(FILE_ROOT_CA, "", 0);
    else if (strcmp(behaviour, "bad-rows") == 0)
        send_one_file(FILE_DIAGNOSIS, bad_rows, sizeof bad_rows);
    else if (strcmp(behaviour, "unknown-class") == 0)
        send_failed("sorry", "no class of that name", false);
    else if (strcmp(behaviour, "no-message") == 0)
        send_failed("network", "", false);
    else if (strcmp(behaviour, "linger") == 0)
        send_done(verb), leave_child();
    else if (strcmp(behaviour, "exit-1") == 0) {
        send_done(verb);
        return 1;
    } else if (strcmp(behaviour, "crash") == 0)
        abort();
    else if (strcmp(behaviour, "traced") == 0)
        end_traced();
    else if (strcmp(behaviour, "silence") == 0)
        wait_for_ever();
    else if (strcmp(behaviour, "stubborn") == 0) {
        signal(SIGTERM, SIG_IGN);
        send_progress("key");
        wait_for_ever();
    } else if (strcmp(behaviour, "hold") == 0) {
        send_progress("claim");
        wait_for_ever();
    } else if (strcmp(behaviour, "none") != 0)
        return misbehave_at_checkpoint(behaviour, verb);
    return 0;
}

static int behave(const char *behaviour, const char *verb) {
    const char *class = getenv(FAKE_CLASS_VARIABLE);
    if (class == NULL)
        class = "network";
    if (strcmp(behaviour, "done") == 0)
        send_progress("key"), send_progress("claim"), send_done(verb);
    else if (strcmp(behaviour, "busy") == 0) {
        for (unsigned i = 0; i < 1000; i++)
            send_progress("prove");
        send_done(verb);
    } else if (strcmp(behaviour, "failed") == 0)
        send_failed(class, "the fake worker was told to fail", NULL);
    else if (strcmp(behaviour, "fail-at-go") == 0) {
        send_progress("claim");
        wait_for_go();
        send_failed(class, "the fake worker was told to fail", NULL);
    } else if (strncmp(behaviour, "failed-", 7) == 0)
        send_failed(behaviour + 7, "the fake worker was told to fail so", NULL);
    else if (strcmp(behaviour, "checkpoint-hold") == 0) {
        send_progress("claim");
        wait_for_go();
        send_checkpoint("as far as this");
        wait_for_ever();
    } else if (strcmp(behaviour, "unusable") == 0)
        send_unusable();
    else if (strcmp(behaviour, "all-but-first") == 0)
        send_told(), send_failed("cloud-busy", "nobody answers", NULL);
    else if (strcmp(behaviour, "refused") == 0)
        send_refused();
    else if (strcmp(behaviour, "staged") == 0) {
        if (!send_kept(FILE_STAGED, "what waits"))
            return 97;
        send_done(verb);
    } else if (strcmp(behaviour, "lost") == 0)
        send_failed(class, "the key is lost", JOB_LOST_YES);
    else if (strcmp(behaviour, "moved") == 0 && generation > 1)
        send_done(verb); /* the key of its successor is here */
    else if (strcmp(behaviour, "elsewhere") == 0 || strcmp(behaviour, "moved") == 0)
        send_failed("tpm", "the key is in another TPM", JOB_LOST_ELSEWHERE);
    else if (strcmp(behaviour, "checkpoint") == 0) {
        if (!send_checkpoint("as far as this"))
            return 97;
        send_done(verb);
    } else if (strcmp(behaviour, "resume") == 0) {
        if (!send_checkpoint("as far as this"))
            return 97;
        send_resume();
    } else if (strcmp(behaviour, "surroundings") == 0)
        send_surroundings();
    else
        return misbehave(behaviour, verb);
    return 0;
}

/* The word behind "VERB=" in the list, or "METHOD=". False if it is not there. */
static bool find_behaviour(const char *name, char *ret, size_t size) {
    const char *list = getenv(FAKE_WORKER_VARIABLE), *found = NULL;
    char key[66];
    snprintf(key, sizeof key, "%s=", name);
    if (list != NULL)
        found = strstr(list, key);
    if (found != NULL)
        snprintf(ret, size, "%.*s", (int)strcspn(found + strlen(key), " "), found + strlen(key));
    else
        snprintf(ret, size, "none");
    return found != NULL;
}

static void record(const char *verb, const char *old) {
    const char *path = getenv(FAKE_RECORD_VARIABLE);
    FILE *stream = path != NULL ? fopen(path, "a") : NULL;
    if (stream == NULL)
        return;
    fprintf(stream, "%s%s%s\n", verb, old != NULL ? " " : "", old != NULL ? old : "");
    fclose(stream);
}

int fake_worker_run(void) {
    struct message job;
    const char *reason = NULL;
    char behaviour[32], verb[32], method[64] = "";
    struct pollfd channel = {.fd = CHANNEL_WORKER_FD, .events = POLLIN};
    poll(&channel, 1, -1);
    if (channel_receive(CHANNEL_WORKER_FD, 0, &job, &reason) != 1)
        return 98;
    snprintf(verb, sizeof verb, "%s", message_get(&job, JOB_KEY_VERB));
    if (message_get(&job, JOB_KEY_METHOD) != NULL)
        snprintf(method, sizeof method, "%s", message_get(&job, JOB_KEY_METHOD));
    uint64_t number = 0;
    message_get_number(&job, JOB_KEY_GENERATION, &number);
    generation = (unsigned)number;
    record(verb, message_get(&job, JOB_KEY_OLD));
    if (message_get(&job, JOB_KEY_OLD) != NULL)
        snprintf(replaced, sizeof replaced, "%s", message_get(&job, JOB_KEY_OLD));
    message_clear(&job);
    find_behaviour(method[0] != '\0' && find_behaviour(method, NULL, 0) ? method : verb, behaviour, sizeof behaviour);
    return behave(behaviour, verb);
}

int fake_worker_unit_run(const char *name, const struct unit_test tests[], int argc, char **argv) {
    sigset_t mask;
    if (getenv(FAKE_WORKER_VARIABLE) != NULL)
        return fake_worker_run();
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    umask(0077);
    return unit_run(name, tests, argc, argv);
}

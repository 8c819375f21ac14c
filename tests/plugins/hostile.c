/* A provisioning method that misbehaves as its option Behaviour= says, when it enrols and when it renews: what the
 * daemon must survive. Loaded as any plugin is, and built on the real header; it alone also knows the channel that a
 * plugin is not told of. */
#include "common/channel.h"
#include "common/cleanup.h"
#include "common/job.h"
#include "common/memfd.h"

#include <enrolld/plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define MEMORY_MAX (256UL * 1024 * 1024)

static const struct enrolld_option options[] = {
    {"Behaviour", ENROLLD_OPTION_TEXT, true, "how to misbehave", .use = ENROLLD_USE_BOTH},
    {"Certificate", ENROLLD_OPTION_FILE, false, "what it says was issued", .use = ENROLLD_USE_BOTH},
    {NULL, ENROLLD_OPTION_TEXT, false, NULL},
};

static void wait_for_ever(void) {
    for (;;)
        pause();
}

/* --- crashes and ends --- */

/* The handlers of a sanitizer would turn the signal into an exit status. */
static int end_by(int number) {
    signal(number, SIG_DFL);
    return raise(number);
}

static int end(const struct enrolld_host *host, const char *how) {
    (void)host;
    if (strcmp(how, "crash") == 0)
        return end_by(SIGSEGV);
    if (strcmp(how, "abort") == 0)
        return end_by(SIGABRT);
    _exit(strcmp(how, "exit-0") == 0 ? 0 : 1);
}

/* --- hangs --- */

static int hang(const struct enrolld_host *host, const char *how) {
    host->step(host, ENROLLD_STEP_CLAIM);
    if (strcmp(how, "stubborn") == 0)
        signal(SIGTERM, SIG_IGN);
    volatile bool busy = strcmp(how, "busy") == 0;
    while (busy)
        ;
    wait_for_ever();
    return 0;
}

/* --- the channel --- */

static void send_text(const char *text) {
    (void)!send(CHANNEL_WORKER_FD, text, strlen(text), MSG_NOSIGNAL);
}

static void send_message(struct message *message) {
    (void)channel_send(CHANNEL_WORKER_FD, message);
    message_clear(message);
}

/* An identity of four files that are none. */
static void send_forged_identity(void) {
    static const enum file_role roles[] = {FILE_CERTIFICATE, FILE_PRIVATE_KEY, FILE_ROOT_CA, FILE_IDENTITY};
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    (void)message_add(&message, JOB_KEY_RESULT, "done");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        (void)message_attach(&message, roles[i], memfd_create_sealed("forged", "{}", 2));
    send_message(&message);
}

static void send_large_files(void) {
    static char content[MEMFD_SIZE_MAX];
    for (int i = 0; i < 100; i++) {
        struct message message;
        message_init(&message, MESSAGE_PROGRESS);
        (void)message_add(&message, JOB_KEY_STEP, ENROLLD_STEP_CLAIM);
        (void)message_attach(&message, FILE_CERTIFICATE, memfd_create_sealed("large", content, sizeof content));
        send_message(&message);
    }
}

/* A checkpoint that is none; the daemon keeps it unread, and answers. */
static void send_checkpoint(void) {
    struct message message;
    message_init(&message, MESSAGE_CHECKPOINT);
    (void)message_attach(&message, FILE_CHECKPOINT, memfd_create_sealed("rubbish", "{\"stage\":7", 10));
    send_message(&message);
}

/* It holds the channel after its parent has ended, and ends with it. */
static void leave_child(void) {
    struct pollfd channel = {.fd = CHANNEL_WORKER_FD};
    if (fork() == 0) {
        poll(&channel, 1, -1);
        _exit(0);
    }
}

static int forge(const struct enrolld_host *host, const char *how) {
    static const char failed[] = "VERSION=1\nTYPE=result\nRESULT=failed\nCLASS=network\nSTEP=claim\nMESSAGE=forged\n";
    if (strcmp(how, "garbage") == 0)
        send_text("\x01\xff garbage");
    else if (strcmp(how, "job") == 0)
        send_text("VERSION=1\nTYPE=job\nVERB=enroll\n");
    else if (strcmp(how, "result-without-files") == 0)
        send_text("VERSION=1\nTYPE=result\nRESULT=done\n");
    else if (strcmp(how, "result-lost") == 0)
        send_text("VERSION=1\nTYPE=result\nRESULT=failed\nCLASS=tpm\nSTEP=key\nMESSAGE=gone\nLOST=yes\n");
    else if (strcmp(how, "result-refused") == 0)
        send_text("VERSION=1\nTYPE=result\nRESULT=failed\nCLASS=denied\nSTEP=prove\nMESSAGE=no\nREFUSED=yes\n");
    else if (strcmp(how, "resume") == 0) {
        char answer[512];
        send_checkpoint();
        (void)recv(CHANNEL_WORKER_FD, answer, sizeof answer, 0); /* left unread it would reset the channel: unix(7) */
        send_text("VERSION=1\nTYPE=result\nRESULT=resume\n");
        _exit(0);
    } else if (strcmp(how, "endless-checkpoints") == 0)
        for (int i = 0; i < 100; i++)
            send_checkpoint();
    else if (strcmp(how, "second-result") == 0)
        send_text(failed);
    else if (strcmp(how, "forged-identity") == 0) {
        send_forged_identity();
        _exit(0);
    } else if (strcmp(how, "large-files") == 0)
        send_large_files();
    else if (strcmp(how, "leave-child") == 0)
        leave_child();
    else if (strcmp(how, "close-channel") == 0) {
        close(CHANNEL_WORKER_FD);
        wait_for_ever();
    }
    return host->fail(host, ENROLLD_CLASS_INTERNAL, "this comes behind what was forged");
}

/* --- lies to the host --- */

static int lie(const struct enrolld_host *host, const char *how) {
    const char *certificate = host->option(host, "Certificate");
    if (strcmp(how, "nothing") == 0)
        return 0;
    if (strcmp(how, "success-after-failure") == 0)
        return host->fail(host, ENROLLD_CLASS_NETWORK, "this is not the end") + 1;
    if (strcmp(how, "failure-without-reason") == 0)
        return -1;
    if (strcmp(how, "certificate-of-another-key") == 0)
        return host->take_certificate(host, certificate, "0", "secret");
    if (strcmp(how, "certificate-ignored") == 0) {
        (void)host->take_certificate(host, certificate, "0", "secret");
        return host->take_thing(host, "thing", NULL);
    }
    if (strcmp(how, "certificate-is-none") == 0)
        return host->take_certificate(host, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "0",
                                      "secret");
    if (strcmp(how, "registered") == 0 || strcmp(how, "registered-for-another-thing") == 0) {
        if (host->take_certificate(host, certificate, NULL, NULL) < 0)
            return -1;
        return host->take_thing(host, strcmp(how, "registered") == 0 ? "" : "another-thing", NULL);
    }
    if (strcmp(how, "registration-of-nothing") == 0)
        return host->registration(host, ENROLLD_REGISTRATION_SPENT);
    return host->take_thing(host, "thing", NULL); /* "thing-without-certificate" */
}

/* --- words --- */

static int say(const struct enrolld_host *host, const char *how) {
    AUTO_FREE char *text = NULL;
    if (strcmp(how, "unknown-step") == 0)
        host->step(host, "nonsense");
    else if (strcmp(how, "long-step") == 0)
        host->step(host, "a step whose name is much longer than any that there is");
    else if (strcmp(how, "step-with-controls") == 0)
        host->step(host, "claim\x1b[31m\nCLASS=network");
    else if (strcmp(how, "endless-steps") == 0)
        for (;;)
            host->step(host, ENROLLD_STEP_CLAIM);
    else if (strcmp(how, "output") == 0)
        for (int i = 0; i < 20000; i++)
            printf("%080d\n", i);
    else if ((text = malloc(1 << 20)) != NULL) { /* "long-message" */
        memset(text, '\n', 1 << 20);
        text[(1 << 20) - 1] = '\0';
    }
    return host->fail(host, ENROLLD_CLASS_INTERNAL, "enough of it %s", text != NULL ? text : "");
}

/* --- beyond the process --- */

/* Until there is no more; a limit of its own, as no test may take all of the machine's. */
static int take_memory(const struct enrolld_host *host) {
    const struct rlimit limit = {MEMORY_MAX, MEMORY_MAX};
    if (setrlimit(RLIMIT_DATA, &limit) < 0)
        return host->fail(host, ENROLLD_CLASS_INVALID, "no limit: %s", strerror(errno));
    for (size_t size = 1 << 20;;) {
        char *block = malloc(size);
        if (block == NULL)
            return host->fail(host, ENROLLD_CLASS_INTERNAL, "there is no more memory");
        memset(block, 1, size);
    }
}

/* Where it may write, as in a test where all have one user, it leaves rubbish. */
static int write_state(const struct enrolld_host *host) {
    const char *state = getenv("STATE_DIRECTORY");
    int directory = open(state != NULL ? state : "/var/lib/enrolld", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)mkdirat(directory, "incoming", 0700);
    (void)mkdirat(directory, "incoming/identity.json", 0700);
    (void)mkdirat(directory, "generations/1", 0700);
    (void)symlinkat("/", directory, "current.new");
    close(directory);
    return host->fail(host, ENROLLD_CLASS_INTERNAL, "the state directory was written");
}

static int reach_out(const struct enrolld_host *host, const char *how) {
    char *const arguments[] = {NULL};
    const char *nobody[] = {"x"};
    if (strcmp(how, "memory") == 0)
        return take_memory(host);
    if (strcmp(how, "state-directory") == 0)
        return write_state(host);
    if (strcmp(how, "exec") == 0) {
        execve("/bin/true", arguments, arguments);
        return host->fail(host, ENROLLD_CLASS_INTERNAL, "exec: %s", strerror(errno));
    }
    return host->subscribe(host, nobody, 1); /* "no-connection" */
}

/* --- out of order --- */

static int disorder(const struct enrolld_host *host, const char *how) {
    struct enrolld_refusal refusal;
    struct enrolld_reply reply;
    if (strcmp(how, "prove-nothing") == 0)
        return host->try_identity(host, &refusal);
    if (host->connect_current(host) < 0)
        return -1;
    if (strcmp(how, "subscribe-to-others") == 0) {
        const char *others[] = {"things/another/secret"};
        return host->subscribe(host, others, 1);
    }
    if (strcmp(how, "connect-twice") == 0 && host->connect_current(host) < 0)
        return -1;
    if (strcmp(how, "request-behind-the-end") == 0) {
        host->disconnect(host);
        return host->exchange(host, "nobody", "{}", 2, &reply);
    }
    return host->fail(host, ENROLLD_CLASS_INTERNAL, "it connects, and that is all");
}

static int misbehave(const struct enrolld_host *host) {
    static const struct {
        const char *prefix; /* GROUP/HOW */
        int (*function)(const struct enrolld_host *host, const char *how);
    } groups[] = {
        {"end/", end}, {"hang/", hang},       {"forge/", forge},    {"lie/", lie},
        {"say/", say}, {"reach/", reach_out}, {"order/", disorder},
    };
    const char *behaviour = host->option(host, "Behaviour");
    host->step(host, ENROLLD_STEP_CLAIM);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++)
        if (strncmp(behaviour, groups[i].prefix, strlen(groups[i].prefix)) == 0)
            return groups[i].function(host, behaviour + strlen(groups[i].prefix));
    return host->fail(host, ENROLLD_CLASS_INVALID, "Behaviour=%s is unknown", behaviour);
}

static const struct enrolld_method methods[] = {
    {"hostile", "misbehaves", options, false},
    {NULL, NULL, NULL, false},
};

const struct enrolld_plugin enrolld_plugin = {
    .abi = ENROLLD_PLUGIN_ABI,
    .size = sizeof(struct enrolld_plugin),
    .host_size = sizeof(struct enrolld_host),
    .method_size = sizeof(struct enrolld_method),
    .option_size = sizeof(struct enrolld_option),
    .methods = methods,
    .enroll = misbehave,
    .renew = misbehave,
};

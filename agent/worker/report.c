#include "worker/report.h"

#include "common/cleanup.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* For the daemon to make a checkpoint durable on a slow card that is busy with other things. */
#define CONTINUE_TIMEOUT_MS 60000

static int channel = -1;
static FILE *printed_on; /* NULL: standard output */
static const char *staged_path;

/* The last words of a job that is stuck, ready to be sent by a signal handler. */
static char stuck_words[CHANNEL_MESSAGE_MAX + 1];
static size_t stuck_size;

void report_open(int fd) {
    channel = fd;
}

void report_print_on(FILE *stream) {
    printed_on = stream;
}

__attribute__((format(printf, 1, 2))) static void print(const char *format, ...) {
    FILE *stream = printed_on != NULL ? printed_on : stdout;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stream, format, arguments);
    va_end(arguments);
    fflush(stream);
}

void report_keep_staged(const char *path) {
    staged_path = path;
}

bool report_has_channel(void) {
    return channel >= 0;
}

void report_step(const char *step) {
    struct message message;
    if (channel < 0) {
        print("%s ...\n", step);
        return;
    }
    message_init(&message, MESSAGE_PROGRESS);
    if (message_add(&message, JOB_KEY_STEP, step) == 0)
        (void)channel_send(channel, &message); /* a daemon that is gone has hung up: SIGTERM is on its way */
}

void report_refusal(const struct failure *failure) {
    enum failure_class class = failure->class == FAILURE_DENIED ? FAILURE_NOT_YET : failure->class;
    struct message message;
    if (channel < 0) {
        print("%s: %s; asking again ...\n", failure->step, failure->message);
        return;
    }
    message_init(&message, MESSAGE_PROGRESS);
    if (message_add(&message, JOB_KEY_STEP, failure->step) == 0 &&
        message_add(&message, JOB_KEY_MESSAGE, failure->message) == 0 &&
        message_add(&message, JOB_KEY_CLASS, failure_class_name(class)) == 0)
        (void)channel_send(channel, &message);
}

void report_note(const char *step, const char *text) {
    struct message message;
    if (channel < 0) {
        print("%s: %s\n", step, text);
        return;
    }
    message_init(&message, MESSAGE_PROGRESS);
    if (message_add(&message, JOB_KEY_STEP, step) == 0 && message_add(&message, JOB_KEY_NOTE, text) == 0)
        (void)channel_send(channel, &message);
}

void report_retired(const char *certificate_id) {
    struct message message;
    if (channel < 0) {
        print("%s: certificate %s\n", STEP_RETIRE, certificate_id);
        return;
    }
    message_init(&message, MESSAGE_PROGRESS);
    if (message_add(&message, JOB_KEY_STEP, STEP_RETIRE) == 0 &&
        message_add(&message, JOB_KEY_OLD, certificate_id) == 0)
        (void)channel_send(channel, &message);
}

/* 0, or a negative errno. */
static int await_continue(void) {
    struct message answer;
    const char *reason = NULL;
    struct pollfd ready = {.fd = channel, .events = POLLIN};
    int r;
    do /* the signal of main.c's watch_channel() comes with the answer */
        r = poll(&ready, 1, CONTINUE_TIMEOUT_MS);
    while (r < 0 && errno == EINTR);
    if (r <= 0)
        return r < 0 ? -errno : -ETIMEDOUT;
    r = channel_receive(channel, 0, &answer, &reason);
    if (r != 1)
        return r == 0 ? -EPIPE : r;
    enum message_type type = answer.type;
    message_clear(&answer);
    return type == MESSAGE_CONTINUE ? 0 : -EPROTO;
}

static int write_file(const char *path, const char *text, size_t size) {
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    errno = ENOSPC; /* what a short write means */
    return write(fd, text, size) == (ssize_t)size && fsync(fd) == 0 ? 0 : -errno;
}

/* For a person: the daemon does this with more care, in its store. */
static int replace_staged(const char *text, size_t size) {
    AUTO_FREE char *path = NULL;
    if (staged_path == NULL)
        return 0;
    if (asprintf(&path, "%s.new", staged_path) < 0)
        return -ENOMEM;
    int r = write_file(path, text, size);
    if (r == 0 && rename(path, staged_path) < 0)
        r = -errno;
    return r;
}

/* 0, or a negative errno. */
static int hand_over(enum file_role role, const char *text, size_t size) {
    struct message message;
    message_init(&message, MESSAGE_CHECKPOINT);
    int fd = memfd_create_sealed(file_role_name(role), text, size);
    int r = fd < 0 ? fd : message_attach(&message, role, fd);
    if (r == 0)
        r = channel_send(channel, &message);
    message_clear(&message);
    return r < 0 ? r : await_continue();
}

int report_checkpoint(enum file_role role, const char *text, size_t size, struct failure *failure) {
    int r = 0;
    if (channel >= 0)
        r = hand_over(role, text, size);
    else if (role == FILE_STAGED)
        r = replace_staged(text, size);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "the file %s of %zu bytes could not be stored: %s",
                           file_role_name(role), size, strerror(-r));
    return 0;
}

int report_resume(void) {
    struct message message;
    message_init(&message, MESSAGE_RESULT);
    int r = message_add(&message, JOB_KEY_RESULT, "resume");
    return r < 0 || channel < 0 ? r : channel_send(channel, &message);
}

static void print_fields(const struct message *message) {
    for (size_t i = 0; i < message->field_count; i++)
        print("%-16s %s\n", message->text + message->fields[i].key, message->text + message->fields[i].value);
}

int report_done(struct message *result) {
    int r = 0;
    if (channel < 0)
        print_fields(result);
    else {
        r = message_add(result, JOB_KEY_RESULT, "done");
        if (r == 0)
            r = channel_send(channel, result);
    }
    message_clear(result);
    return r;
}

static void fill_verdict(struct message *message, const struct report_verdict *verdict) {
    if (verdict->lost != NULL)
        (void)message_add(message, JOB_KEY_LOST, verdict->lost);
    if (verdict->refused)
        (void)message_add(message, JOB_KEY_REFUSED, "yes");
    if (verdict->certificate_id[0] != '\0')
        (void)message_add(message, JOB_KEY_CERTIFICATE_ID, verdict->certificate_id);
    if (verdict->method[0] != '\0')
        (void)message_add(message, JOB_KEY_METHOD, verdict->method);
}

static void fill_failure(struct message *message, const struct failure *failure, const struct report_verdict *verdict) {
    message_init(message, MESSAGE_RESULT);
    (void)message_add(message, JOB_KEY_RESULT, "failed");
    (void)message_add(message, JOB_KEY_CLASS, failure_class_name(failure->class));
    (void)message_add(message, JOB_KEY_STEP, failure->step);
    (void)message_add(message, JOB_KEY_MESSAGE, failure->message);
    if (failure->retry_after_s > 0)
        (void)message_add_number(message, JOB_KEY_RETRY_AFTER, failure->retry_after_s);
    if (failure->unusable)
        (void)message_add(message, JOB_KEY_UNUSABLE, "yes");
    if (verdict != NULL)
        fill_verdict(message, verdict);
}

void report_failure(const struct failure *failure, const struct report_verdict *verdict) {
    struct message message;
    if (channel < 0) {
        fprintf(stderr, "failed (%s) at step %s: %s\n", failure_class_name(failure->class), failure->step,
                failure->message);
        if (verdict != NULL && verdict->refused)
            fprintf(stderr, "the cloud itself has refused this identity, beyond doubt\n");
        return;
    }
    fill_failure(&message, failure, verdict);
    (void)channel_send(channel, &message);
}

void report_prepare_stuck(const struct failure *failure) {
    struct message message;
    int files[FILE_ROLE_COUNT];
    size_t count = 0;
    if (channel < 0) {
        int n = snprintf(stuck_words, sizeof stuck_words, "failed (%s) at step %s: %s\n",
                         failure_class_name(failure->class), failure->step, failure->message);
        stuck_size = n > 0 ? (size_t)n : 0;
        return;
    }
    fill_failure(&message, failure, NULL);
    int n = message_encode(&message, stuck_words, sizeof stuck_words, files, &count);
    stuck_size = n > 0 ? (size_t)n : 0;
}

void report_stuck(void) {
    ssize_t n;
    if (channel < 0)
        n = write(STDERR_FILENO, stuck_words, stuck_size);
    else
        n = send(channel, stuck_words, stuck_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)n; /* the process ends now; without its words the daemon still sees that */
}

#include "worker/report.h"

#include "common/cleanup.h"
#include "common/job.h"
#include "common/memfd.h"
#include "common/step.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* For the daemon to make a checkpoint durable on a slow card that is busy with other things. */
#define CONTINUE_TIMEOUT_MS 60000

static int channel = -1;

/* The last words of a job that is stuck, ready to be sent by a signal handler. */
static char stuck_words[CHANNEL_MESSAGE_MAX + 1];
static size_t stuck_size;

void report_open(int fd) {
    channel = fd;
}

bool report_has_channel(void) {
    return channel >= 0;
}

void report_step(const char *step) {
    struct message message;
    if (channel < 0) {
        printf("%s ...\n", step);
        fflush(stdout);
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
        printf("%s: %s; asking again ...\n", failure->step, failure->message);
        fflush(stdout);
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
        printf("%s: %s\n", step, text);
        fflush(stdout);
        return;
    }
    message_init(&message, MESSAGE_PROGRESS);
    if (message_add(&message, JOB_KEY_STEP, step) == 0 && message_add(&message, JOB_KEY_NOTE, text) == 0)
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

int report_checkpoint(const char *text, size_t size, struct failure *failure) {
    struct message message;
    if (channel < 0)
        return 0;
    message_init(&message, MESSAGE_CHECKPOINT);
    int fd = memfd_create_sealed(file_role_name(FILE_CHECKPOINT), text, size);
    int r = fd < 0 ? fd : message_attach(&message, FILE_CHECKPOINT, fd);
    if (r == 0)
        r = channel_send(channel, &message);
    message_clear(&message);
    if (r == 0)
        r = await_continue();
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "a checkpoint of %zu bytes could not be stored: %s",
                           size, strerror(-r));
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
        printf("%-16s %s\n", message->text + message->fields[i].key, message->text + message->fields[i].value);
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

static void fill_failure(struct message *message, const struct failure *failure, const char *lost) {
    message_init(message, MESSAGE_RESULT);
    (void)message_add(message, JOB_KEY_RESULT, "failed");
    (void)message_add(message, JOB_KEY_CLASS, failure_class_name(failure->class));
    (void)message_add(message, JOB_KEY_STEP, failure->step);
    (void)message_add(message, JOB_KEY_MESSAGE, failure->message);
    if (failure->retry_after_s > 0)
        (void)message_add_number(message, JOB_KEY_RETRY_AFTER, failure->retry_after_s);
    if (failure->unusable)
        (void)message_add(message, JOB_KEY_UNUSABLE, "yes");
    if (lost != NULL)
        (void)message_add(message, JOB_KEY_LOST, lost);
}

void report_failure(const struct failure *failure, const char *lost) {
    struct message message;
    if (channel < 0) {
        fprintf(stderr, "failed (%s) at step %s: %s\n", failure_class_name(failure->class), failure->step,
                failure->message);
        return;
    }
    fill_failure(&message, failure, lost);
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

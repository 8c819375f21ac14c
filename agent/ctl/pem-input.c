#include "ctl/pem-input.h"

#include "ctl/watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define SILENCE_S 2
#define CHUNK_SIZE 4096
#define NO_DEADLINE UINT64_MAX

struct input {
    int fd;
    const char *name;
    bool needs_certificate, needs_key;
    bool is_file, is_terminal;
    bool silent; /* it ended so */
    struct pem_stream *stream;
};

/* --- signals: they are taken only while we wait, and act when the terminal is as it was --- */

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
#define SIGNAL_COUNT (sizeof signals / sizeof *signals)

struct signal_state {
    sigset_t mask;
    struct sigaction actions[SIGNAL_COUNT];
};

static volatile sig_atomic_t caught;

static void on_signal(int number) {
    caught = number;
}

static void signals_hold(struct signal_state *ret) {
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t held;
    sigemptyset(&held);
    caught = 0;
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaddset(&held, signals[i]);
    sigprocmask(SIG_BLOCK, &held, &ret->mask);
    for (size_t i = 0; i < SIGNAL_COUNT; i++) {
        sigaction(signals[i], NULL, &ret->actions[i]);
        if (ret->actions[i].sa_handler != SIG_IGN) /* nohup(1) */
            sigaction(signals[i], &action, NULL);
    }
}

static void signals_release(const struct signal_state *state) {
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        sigaction(signals[i], &state->actions[i], NULL);
    if (caught != 0)
        raise(caught);
    sigprocmask(SIG_SETMASK, &state->mask, NULL); /* here it ends the process */
}

/* --- the terminal --- */

/* Without echo, bytes as they come: the last line may lack its end, and no byte is a command but those of ISIG. No stop
 * (SUSP): it would leave the shell without echo. What has been sent already is kept. */
static int terminal_begin(int fd, struct termios *ret) {
    struct termios quiet;
    if (tcgetattr(fd, ret) < 0)
        return -errno;
    quiet = *ret;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON);
    quiet.c_cc[VMIN] = 1;
    quiet.c_cc[VTIME] = 0;
    quiet.c_cc[VSUSP] = _POSIX_VDISABLE;
    return tcsetattr(fd, TCSADRAIN, &quiet) < 0 ? -errno : 0;
}

/* --- reading --- */

static bool has_all(const struct input *input) {
    if (!pem_stream_may_end(input->stream))
        return false;
    return pem_stream_problem(input->stream) != PEM_PROBLEM_NONE ||
           ((!input->needs_certificate || pem_stream_count(input->stream, PEM_CHAIN) > 0) &&
            (!input->needs_key || pem_stream_count(input->stream, PEM_KEY) > 0));
}

/* Waits for input: 1 if there is some, 0 after silence, a negative errno; -EINTR: a signal has come. */
static int wait_for_input(const struct input *input, const sigset_t *mask) {
    uint64_t deadline = !input->is_file && has_all(input) ? watch_now() + SILENCE_S * UINT64_C(1000000) : NO_DEADLINE;
    for (;;) {
        struct pollfd poll = {.fd = input->fd, .events = POLLIN};
        uint64_t now = watch_now(), left = deadline > now ? deadline - now : 0;
        struct timespec timeout = {.tv_sec = (time_t)(left / 1000000), .tv_nsec = (long)(left % 1000000) * 1000};
        int r = ppoll(&poll, 1, deadline != NO_DEADLINE ? &timeout : NULL, mask);
        if (caught != 0)
            return -EINTR;
        if (r >= 0 || errno != EINTR)
            return r >= 0 ? r : -errno;
    }
}

/* Returns 1 if more may come, 0 at the end, or a negative errno. */
static int read_some(struct input *input) {
    char chunk[CHUNK_SIZE];
    bool more = true;
    /* From a terminal byte by byte: what is behind EOT is for its next reader. */
    ssize_t n = read(input->fd, chunk, input->is_terminal ? 1 : sizeof chunk);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN ? 1 : -errno;
    for (ssize_t i = 0; i < n && more; i++)
        more = pem_stream_feed(input->stream, chunk[i]);
    explicit_bzero(chunk, sizeof chunk);
    return n > 0 && more;
}

static int read_all(struct input *input, const sigset_t *mask) {
    int r;
    do {
        r = wait_for_input(input, mask);
        if (r == 0)
            input->silent = true;
        if (r > 0)
            r = read_some(input);
    } while (r > 0);
    pem_stream_finish(input->stream);
    return r;
}

static int read_terminal(struct input *input, const sigset_t *mask) {
    struct termios before;
    int r = terminal_begin(input->fd, &before);
    if (r < 0)
        return r;
    fprintf(stderr, "enrollctl: reading PEM from %s. It ends by Ctrl-D, or %d seconds after its last block.\n",
            input->name, SILENCE_S);
    r = read_all(input, mask);
    bool good = r >= 0 && pem_stream_problem(input->stream) == PEM_PROBLEM_NONE;
    tcsetattr(input->fd, good ? TCSADRAIN : TCSAFLUSH, &before);
    return r;
}

static void note_silence(const struct input *input) {
    size_t certificates = pem_stream_count(input->stream, PEM_CHAIN);
    fprintf(stderr, "enrollctl: %s was silent for %d seconds: taken for its end, after %zu certificate%s%s.\n",
            input->name, SILENCE_S, certificates, certificates == 1 ? "" : "s",
            pem_stream_count(input->stream, PEM_KEY) > 0 ? " and a private key" : "");
}

int pem_input_read(int fd, const char *name, bool needs_certificate, bool needs_key, struct pem_stream *stream) {
    struct input input = {.fd = fd,
                          .name = name,
                          .needs_certificate = needs_certificate,
                          .needs_key = needs_key,
                          .is_terminal = isatty(fd) == 1,
                          .stream = stream};
    struct signal_state state;
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    input.is_file = S_ISREG(status.st_mode);
    signals_hold(&state);
    int r = input.is_terminal ? read_terminal(&input, &state.mask) : read_all(&input, &state.mask);
    signals_release(&state);
    if (r >= 0 && input.silent && pem_stream_problem(stream) == PEM_PROBLEM_NONE)
        note_silence(&input);
    return r;
}

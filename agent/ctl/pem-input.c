#include "ctl/pem-input.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#define SILENCE_S 2
#define CHUNK_SIZE 4096

struct input {
    int fd, signals;
    const char *name;
    bool needs_certificate, needs_key;
    bool is_file, is_terminal;
    bool silent; /* it ended so */
    struct pem_stream *stream;
};

/* --- signals: they are taken from a descriptor while we wait, and act when the terminal is as it was --- */

static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

/* Keeps the mask that was. Returns the descriptor, or a negative errno. */
static int signals_hold(sigset_t *ret_mask) {
    sigset_t held;
    sigemptyset(&held);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction action;
        if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN) /* nohup(1) */
            sigaddset(&held, signals[i]);
    }
    int fd = signalfd(-1, &held, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0 || sigprocmask(SIG_BLOCK, &held, ret_mask) < 0)
        return -errno;
    return fd;
}

/* One that came earlier than we were done acts now. */
static void signals_release(int fd, const sigset_t *mask) {
    struct signalfd_siginfo caught;
    if (read(fd, &caught, sizeof caught) == sizeof caught)
        raise((int)caught.ssi_signo);
    close(fd);
    sigprocmask(SIG_SETMASK, mask, NULL);
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

/* Waits for input: 1 if there is some, 0 after silence, -EINTR: a signal has come, or another negative errno. */
static int wait_for_input(const struct input *input) {
    int silence = !input->is_file && has_all(input) ? SILENCE_S * 1000 : -1;
    struct pollfd polled[] = {{.fd = input->signals, .events = POLLIN}, {.fd = input->fd, .events = POLLIN}};
    int r;
    do
        r = poll(polled, sizeof polled / sizeof *polled, silence);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    return polled[0].revents != 0 ? -EINTR : r;
}

/* Returns 1 if more may come, 0 at the end, or a negative errno. After a problem a terminal is still read: the rest is
 * not for its next reader. */
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
    return n > 0 && more && (input->is_terminal || pem_stream_problem(input->stream) == PEM_PROBLEM_NONE);
}

static int read_all(struct input *input) {
    int r;
    do {
        r = wait_for_input(input);
        if (r == 0)
            input->silent = true;
        if (r > 0)
            r = read_some(input);
    } while (r > 0);
    pem_stream_finish(input->stream);
    return r;
}

static int read_terminal(struct input *input) {
    struct termios before;
    int r = terminal_begin(input->fd, &before);
    if (r < 0)
        return r;
    fprintf(stderr, "enrollctl: reading PEM from %s. It ends by Ctrl-D, or %d seconds after its last block.\n",
            input->name, SILENCE_S);
    r = read_all(input);
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
    struct stat status;
    sigset_t mask;
    if (fstat(fd, &status) < 0)
        return -errno;
    input.is_file = S_ISREG(status.st_mode);
    input.signals = signals_hold(&mask);
    if (input.signals < 0)
        return input.signals;
    int r = input.is_terminal ? read_terminal(&input) : read_all(&input);
    signals_release(input.signals, &mask);
    if (r >= 0 && input.silent && pem_stream_problem(stream) == PEM_PROBLEM_NONE)
        note_silence(&input);
    return r;
}

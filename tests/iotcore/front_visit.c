#include "front.h"

#include "common/cleanup.h"
#include "connect_packet.h"

#include <openssl/err.h>

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* For a handshake and a CONNECT, together; for a peer that takes nothing; for one that is to hear of the end. */
enum { ARRIVAL_MILLISECONDS = 30000, STALL_MILLISECONDS = 60000, LINGER_MILLISECONDS = 2000 };

#define TYPE_CONNACK 0x20

static int64_t now_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tell(const struct front_visit *visit, const char *what) {
    fprintf(stderr, "%" PRIu64 " %s %s %s: %s\n", visit->number, visit->address,
            visit->ssl != NULL ? SSL_get_version(visit->ssl) : "-",
            visit->ssl != NULL && SSL_get_servername(visit->ssl, TLSEXT_NAMETYPE_host_name) != NULL
                ? SSL_get_servername(visit->ssl, TLSEXT_NAMETYPE_host_name)
                : "-",
            what);
}

/* Waits until the socket is ready; false if it isn't in time. */
static bool wait_ready(int fd, short events, int64_t deadline) {
    struct pollfd poll_fd = {.fd = fd, .events = events};
    int64_t left = deadline - now_milliseconds();
    return left > 0 && poll(&poll_fd, 1, (int)left) == 1;
}

/* After SSL_accept(), SSL_read() or SSL_write() has not done it: whether to try again. SSL_get_error() also looks at
 * the thread's queue of errors, which therefore is emptied before each of them. */
static bool wait_tls(const struct front_visit *visit, int result, int64_t deadline) {
    switch (SSL_get_error(visit->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return wait_ready(visit->fd, POLLIN, deadline);
    case SSL_ERROR_WANT_WRITE:
        return wait_ready(visit->fd, POLLOUT, deadline);
    }
    return false;
}

static bool write_device(const struct front_visit *visit, const uint8_t *bytes, size_t size) {
    int64_t deadline = now_milliseconds() + STALL_MILLISECONDS;
    while (size > 0) {
        ERR_clear_error();
        int written = SSL_write(visit->ssl, bytes, (int)size);
        if (written > 0) {
            bytes += written;
            size -= (size_t)written;
        } else if (!wait_tls(visit, written, deadline)) {
            return false;
        }
    }
    return true;
}

static bool write_broker(int broker, const uint8_t *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = send(broker, bytes, size, MSG_NOSIGNAL);
        if (written <= 0)
            return false;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

/* A socket with a limit on waiting. */
static int connect_broker(const struct front *front) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = STALL_MILLISECONDS / 1000};
    AUTO_CLOSE int broker = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (broker < 0 || strlen(front->broker_path) >= sizeof address.sun_path)
        return -1;
    memcpy(address.sun_path, front->broker_path, strlen(front->broker_path) + 1);
    if (setsockopt(broker, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(broker, (struct sockaddr *)&address, sizeof address) < 0)
        return -1;
    return take_fd(&broker);
}

void front_visit_announce(const struct front_visit *visit) {
    uint8_t connect[] = {0x10, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0};
    uint8_t packet[sizeof connect + CONNECT_PACKET_ROOM(20)], answer[16];
    char number[21];
    snprintf(number, sizeof number, "%" PRIu64, visit->number);
    size_t size = connect_packet_rewrite(connect, sizeof connect, number, packet);
    AUTO_CLOSE int broker = connect_broker(visit->front);
    if (broker < 0 || front_note_write(visit, true) < 0 || !write_broker(broker, packet, size))
        tell(visit, "the broker can't be told");
    else if (wait_ready(broker, POLLIN, now_milliseconds() + ARRIVAL_MILLISECONDS))
        (void)!read(broker, answer, sizeof answer);
    front_note_remove(visit);
}

static bool shake_hands(struct front_visit *visit, int64_t deadline) {
    for (;;) {
        ERR_clear_error();
        int result = SSL_accept(visit->ssl);
        if (result == 1)
            return true;
        if (!wait_tls(visit, result, deadline))
            return false;
    }
}

/* Reads at least one whole CONNECT; what has come behind it stays behind it. Returns the size of the packet, 0 if there
 * is none. */
static size_t read_connect(const struct front_visit *visit, uint8_t *buffer, size_t *ret_filled, int64_t deadline) {
    size_t filled = 0, size = 0;
    for (;;) {
        ERR_clear_error();
        int got = SSL_read(visit->ssl, buffer + filled, (int)(CONNECT_PACKET_LIMIT - filled));
        if (got <= 0 && !wait_tls(visit, got, deadline))
            return 0;
        if (got <= 0)
            continue;
        filled += (size_t)got;
        switch (connect_packet_measure(buffer, filled, &size)) {
        case CONNECT_PACKET_INCOMPLETE:
            break;
        case CONNECT_PACKET_WHOLE:
            *ret_filled = filled;
            return size;
        case CONNECT_PACKET_MALFORMED:
            return 0;
        }
    }
}

/* Sends the CONNECT on, and what came with it. Returns the connection to the broker, or -1. */
static int introduce(const struct front_visit *visit, int64_t deadline) {
    char number[21];
    size_t filled;
    AUTO_FREE uint8_t *buffer = malloc(CONNECT_PACKET_LIMIT),
                      *packet = malloc(CONNECT_PACKET_LIMIT + CONNECT_PACKET_ROOM(sizeof number));
    if (buffer == NULL || packet == NULL)
        return -1;
    size_t size = read_connect(visit, buffer, &filled, deadline);
    snprintf(number, sizeof number, "%" PRIu64, visit->number);
    size_t rewritten = size > 0 ? connect_packet_rewrite(buffer, size, number, packet) : 0;
    if (rewritten == 0) {
        tell(visit, "no CONNECT, or a malformed one");
        return -1;
    }
    AUTO_CLOSE int broker = connect_broker(visit->front);
    if (broker < 0 || front_note_write(visit, false) < 0 || !write_broker(broker, packet, rewritten) ||
        !write_broker(broker, buffer + size, filled - size)) {
        tell(visit, "the broker does not listen");
        return -1;
    }
    return take_fd(&broker);
}

/* From the device to the broker; false at the end. */
static bool pass_on(const struct front_visit *visit, int broker) {
    uint8_t buffer[16384];
    do {
        ERR_clear_error();
        int got = SSL_read(visit->ssl, buffer, sizeof buffer);
        if (got <= 0) {
            int error = SSL_get_error(visit->ssl, got);
            return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
        }
        if (!write_broker(broker, buffer, (size_t)got))
            return false;
    } while (SSL_pending(visit->ssl) > 0);
    return true;
}

/* From the broker to the device; false at the end. The first thing that it may say is CONNACK: a DISCONNECT before it
 * is the broker's way of refusing without one, of which a device of AWS IoT sees nothing. */
static bool pass_back(const struct front_visit *visit, int broker, bool *answered) {
    uint8_t buffer[16384];
    ssize_t got = read(broker, buffer, sizeof buffer);
    if (got <= 0 || (!*answered && buffer[0] != TYPE_CONNACK))
        return false;
    *answered = true;
    return write_device(visit, buffer, (size_t)got);
}

/* Returns true if the device has got a CONNACK. */
static bool relay(const struct front_visit *visit, int broker) {
    struct pollfd fds[] = {{.fd = visit->fd, .events = POLLIN}, {.fd = broker, .events = POLLIN}};
    bool answered = false, open = SSL_pending(visit->ssl) == 0 || pass_on(visit, broker);
    while (open && poll(fds, 2, -1) > 0) {
        if (fds[1].revents != 0)
            open = pass_back(visit, broker, &answered);
        if (open && fds[0].revents != 0)
            open = pass_on(visit, broker);
    }
    return answered;
}

/* The device may still send: closing at once would answer that by a reset, which could overtake what it is to read. */
static void hang_up(const struct front_visit *visit, bool politely) {
    int64_t deadline = now_milliseconds() + LINGER_MILLISECONDS;
    char rest[4096];
    if (politely)
        SSL_shutdown(visit->ssl);
    shutdown(visit->fd, SHUT_WR);
    while (wait_ready(visit->fd, POLLIN, deadline) && recv(visit->fd, rest, sizeof rest, 0) > 0)
        continue;
}

/* Returns true if the device got a CONNACK: its connection is to end as TLS wants it then. */
static bool attend(struct front_visit *visit) {
    int64_t deadline = now_milliseconds() + ARRIVAL_MILLISECONDS;
    if (!shake_hands(visit, deadline)) {
        tell(visit, "no handshake");
        return false;
    }
    if (visit->refusal == FRONT_REFUSE_AFTER_HANDSHAKE &&
        !front_note_is_active(visit, sk_X509_value(visit->chain, 0))) {
        front_visit_announce(visit);
        tell(visit, "refused after the handshake");
        return false;
    }
    AUTO_CLOSE int broker = introduce(visit, deadline);
    if (broker < 0)
        return false;
    bool answered = relay(visit, broker);
    tell(visit, answered ? "ended" : "closed without CONNACK");
    front_note_remove(visit);
    return answered;
}

void front_visit_serve(struct front_visit *visit) {
    front_note_read_options(visit);
    visit->ssl = front_tls_start(visit);
    if (visit->ssl != NULL)
        hang_up(visit, attend(visit));
    SSL_free(visit->ssl);
    sk_X509_pop_free(visit->chain, X509_free);
    close(visit->fd);
    atomic_fetch_sub(&visit->front->visits, 1);
    free(visit);
}

#include "worker/relay.h"

#include "common/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* One TLS record's payload (RFC 8446 section 5.1). */
#define BUFFER_SIZE 16384

/* Filled only when it is empty: what is left of a TLS write has to be offered again unchanged. */
struct buffer {
    uint8_t data[BUFFER_SIZE];
    size_t start, end;
};

struct relay {
    struct tls *tls;
    int socket;
    int listener; /* until the one connection, then -1 */
    int peer;     /* our end of the connection, -1 before */
    char directory[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    struct sockaddr_un address;
    struct buffer up;   /* library to server */
    struct buffer down; /* server to library */
    bool peer_closed;   /* seen only when `up` is empty: nothing of it is left */
    bool peer_told;     /* that the TLS side has ended */
    enum relay_end end;
    int error;
    size_t received;
    uint8_t first[RELAY_FIRST_SIZE];
};

static void cleanup_relay(struct relay **relay) {
    relay_free(*relay);
}

static void listener_close(struct relay *relay) {
    if (relay->listener >= 0) {
        close(relay->listener);
        unlink(relay->address.sun_path);
    }
    if (relay->directory[0] != '\0')
        rmdir(relay->directory);
    relay->listener = -1;
    relay->directory[0] = '\0';
}

/* Listens in a new directory below base; a negative errno if that cannot be. */
static int listener_open(struct relay *relay, const char *base) {
    char directory[sizeof relay->directory];
    if (base == NULL || base[0] != '/')
        return -ENOENT;
    if (snprintf(directory, sizeof directory, "%s/relay-XXXXXX", base) >= (int)(sizeof directory - strlen("/tls")))
        return -ENAMETOOLONG;
    if (mkdtemp(directory) == NULL) /* mode 0700 */
        return -errno;
    strcpy(relay->directory, directory);
    relay->address.sun_family = AF_UNIX;
    snprintf(relay->address.sun_path, sizeof relay->address.sun_path, "%.*s/tls",
             (int)(sizeof relay->address.sun_path - sizeof "/tls"), directory);
    AUTO_CLOSE int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&relay->address, sizeof relay->address) < 0) {
        int error = -errno;
        listener_close(relay);
        return error;
    }
    relay->listener = take_fd(&listener);
    if (listen(relay->listener, 1) < 0) {
        int error = -errno;
        listener_close(relay);
        return error;
    }
    return 0;
}

int relay_open(struct tls *tls, int socket, const char *step, struct relay **ret, struct failure *failure) {
    const char *bases[] = {getenv("RUNTIME_DIRECTORY"), getenv("TMPDIR"), "/tmp"};
    CLEANUP(cleanup_relay) struct relay *relay = calloc(1, sizeof *relay);
    int result = -ENOMEM;
    if (relay == NULL)
        return failure_set(failure, FAILURE_INTERNAL, step, "out of memory");
    relay->tls = tls;
    relay->socket = socket;
    relay->listener = relay->peer = -1;
    for (size_t i = 0; result < 0 && i < sizeof bases / sizeof bases[0]; i++)
        result = listener_open(relay, bases[i]);
    if (result < 0)
        return failure_set(failure, FAILURE_INTERNAL, step,
                           "cannot make a private socket below $RUNTIME_DIRECTORY, $TMPDIR or /tmp: %s",
                           strerror(-result));
    *ret = TAKE_POINTER(relay);
    return 0;
}

const char *relay_path(const struct relay *relay) {
    return relay->address.sun_path;
}

static bool buffer_is_empty(const struct buffer *buffer) {
    return buffer->start == buffer->end;
}

static void peer_accept(struct relay *relay) {
    struct ucred credentials;
    socklen_t size = sizeof credentials;
    AUTO_CLOSE int peer = accept4(relay->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (peer < 0)
        return;
    listener_close(relay);
    if (getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0 || credentials.pid != getpid()) {
        relay->end = RELAY_REFUSED;
        return;
    }
    relay->peer = take_fd(&peer);
}

static void relay_end_with(struct relay *relay, int error) {
    if (relay->end != RELAY_RUNNING)
        return;
    relay->end = error == 0 ? RELAY_CLOSED : error == -EPROTO ? RELAY_ALERT : RELAY_CUT;
    relay->error = error;
}

/* The functions below return true if they moved something. */
static bool peer_read(struct relay *relay) {
    if (relay->peer_closed || !buffer_is_empty(&relay->up))
        return false;
    ssize_t size = recv(relay->peer, relay->up.data, BUFFER_SIZE, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    relay->peer_closed = size <= 0;
    relay->up.start = 0;
    relay->up.end = size > 0 ? (size_t)size : 0;
    return size > 0;
}

static bool session_write(struct relay *relay) {
    struct buffer *up = &relay->up;
    if (buffer_is_empty(up) || relay->end != RELAY_RUNNING)
        return false;
    int size = tls_write(relay->tls, up->data + up->start, up->end - up->start);
    if (size == -EAGAIN)
        return false;
    if (size <= 0)
        relay_end_with(relay, size);
    else
        up->start += (size_t)size;
    return size > 0;
}

static bool session_read(struct relay *relay) {
    struct buffer *down = &relay->down;
    if (!buffer_is_empty(down) || relay->end != RELAY_RUNNING)
        return false;
    int size = tls_read(relay->tls, down->data, BUFFER_SIZE);
    if (size == -EAGAIN)
        return false;
    if (size <= 0) {
        relay_end_with(relay, size);
        return false;
    }
    for (int i = 0; i < size && relay->received + (size_t)i < RELAY_FIRST_SIZE; i++)
        relay->first[relay->received + (size_t)i] = down->data[i];
    relay->received += (size_t)size;
    if (relay->received > RELAY_RECEIVED_MAX)
        relay->end = RELAY_FLOODED;
    down->start = 0;
    down->end = (size_t)size;
    return true;
}

static bool peer_write(struct relay *relay) {
    struct buffer *down = &relay->down;
    if (buffer_is_empty(down))
        return false;
    ssize_t size = send(relay->peer, down->data + down->start, down->end - down->start, MSG_NOSIGNAL);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    /* A library that has closed its side has no use for the rest. */
    down->start = size < 0 ? down->end : down->start + (size_t)size;
    return size > 0;
}

/* Hands the end of each side to the other once the bytes before it are through. */
static void ends_pass(struct relay *relay) {
    if (relay->peer_closed && relay->end == RELAY_RUNNING)
        tls_shutdown(relay->tls);
    if (relay->end != RELAY_RUNNING && buffer_is_empty(&relay->down) && !relay->peer_told) {
        shutdown(relay->peer, SHUT_WR);
        relay->peer_told = true;
    }
}

void relay_run(struct relay *relay) {
    if (relay->listener >= 0)
        peer_accept(relay);
    if (relay->peer < 0)
        return;
    bool moved;
    do {
        moved = peer_read(relay);
        moved |= session_write(relay);
        moved |= session_read(relay);
        moved |= peer_write(relay);
    } while (moved);
    ends_pass(relay);
}

static struct pollfd pollfd_for(int descriptor, bool in, bool out) {
    short events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0));
    return (struct pollfd){events != 0 ? descriptor : -1, events, 0};
}

void relay_prepare(const struct relay *relay, struct pollfd descriptors[RELAY_DESCRIPTORS]) {
    bool running = relay->end == RELAY_RUNNING && relay->peer >= 0;
    int unix_socket = relay->listener >= 0 ? relay->listener : relay->peer;
    descriptors[0] =
        pollfd_for(unix_socket, relay->listener >= 0 || (!relay->peer_closed && buffer_is_empty(&relay->up)),
                   !buffer_is_empty(&relay->down));
    descriptors[1] =
        pollfd_for(relay->socket, running && buffer_is_empty(&relay->down), running && tls_wants_write(relay->tls));
}

enum relay_end relay_ended(const struct relay *relay) {
    return relay->end;
}

int relay_error(const struct relay *relay) {
    return relay->error;
}

const struct tls *relay_tls(const struct relay *relay) {
    return relay->tls;
}

bool relay_is_flushed(const struct relay *relay) {
    return relay->end != RELAY_RUNNING || relay->peer_closed;
}

const uint8_t *relay_first_bytes(const struct relay *relay, size_t *ret_size) {
    *ret_size = relay->received < RELAY_FIRST_SIZE ? relay->received : RELAY_FIRST_SIZE;
    return relay->first;
}

struct relay *relay_free(struct relay *relay) {
    if (relay == NULL)
        return NULL;
    listener_close(relay);
    if (relay->peer >= 0)
        close(relay->peer);
    explicit_bzero(relay, sizeof *relay); /* the last bytes that went through */
    free(relay);
    return NULL;
}

/* The TLS front of the stand-in for AWS IoT Core: iotcore-front DIR, with the directory that iotcore-setup --front
 * made. DIR/front.json says the rest: address, port, host, certificate, key, broker, notes, registry. */
#include "front.h"

#include "common/cleanup.h"
#include "json_read.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int fail(const char *what, const char *which) {
    fprintf(stderr, "iotcore-front: %s: %s\n", what, which);
    return -1;
}

/* IPv4 or IPv6, as the address is written. */
static int open_listener(const char *address, int port) {
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    bool is_six = inet_pton(AF_INET6, address, &six.sin6_addr) == 1;
    if (!is_six && inet_pton(AF_INET, address, &four.sin_addr) != 1)
        return fail("not an address", address);
    const int on = 1;
    const struct sockaddr *name = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    AUTO_CLOSE int listener = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(listener, name, is_six ? sizeof six : sizeof four) < 0 || listen(listener, 128) < 0)
        return fail("can't listen", strerror(errno));
    return take_fd(&listener);
}

static int read_text(struct json_object *settings, const char *name, char **ret) {
    const char *text = json_text(settings, name);
    *ret = text != NULL ? strdup(text) : NULL;
    return *ret != NULL ? 0 : fail("front.json lacks", name);
}

static int configure(struct front *front, struct json_object *settings) {
    const char *certificate = json_text(settings, "certificate"), *key = json_text(settings, "key");
    const char *address = json_text(settings, "address");
    int port = json_object_get_int(json_member(settings, "port", json_type_int));
    if (read_text(settings, "host", &front->host) < 0 || read_text(settings, "broker", &front->broker_path) < 0 ||
        read_text(settings, "notes", &front->notes_path) < 0 ||
        read_text(settings, "registry", &front->registry_path) < 0)
        return -1;
    if (certificate == NULL || key == NULL || address == NULL || port <= 0 || port > UINT16_MAX)
        return fail("front.json lacks", "certificate, key, address or port");
    if ((front->context = front_tls_context(certificate, key)) == NULL)
        return fail("can't use certificate and key", certificate);
    front->listener = open_listener(address, port);
    return front->listener < 0 ? -1 : 0;
}

static void *serve(void *visit) {
    front_visit_serve(visit);
    return NULL;
}

static void describe_peer(int fd, char *text, size_t size) {
    struct sockaddr_storage peer;
    socklen_t length = sizeof peer;
    text[0] = '\0';
    if (getpeername(fd, (struct sockaddr *)&peer, &length) < 0)
        return;
    const void *address = peer.ss_family == AF_INET6 ? (const void *)&((struct sockaddr_in6 *)&peer)->sin6_addr
                                                     : (const void *)&((struct sockaddr_in *)&peer)->sin_addr;
    inet_ntop(peer.ss_family, address, text, (socklen_t)size);
}

/* A thread of its own for each, so that a device can keep only itself waiting. */
static void receive(struct front *front, int fd) {
    const int on = 1;
    pthread_t thread;
    struct front_visit *visit = calloc(1, sizeof *visit);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (visit == NULL || atomic_load(&front->visits) >= FRONT_VISITS) {
        free(visit);
        close(fd);
        return;
    }
    visit->front = front;
    visit->fd = fd;
    visit->number = atomic_fetch_add(&front->last_number, 1) + 1;
    describe_peer(fd, visit->address, sizeof visit->address);
    atomic_fetch_add(&front->visits, 1);
    if (pthread_create(&thread, NULL, serve, visit) == 0) {
        pthread_detach(thread);
        return;
    }
    atomic_fetch_sub(&front->visits, 1);
    free(visit);
    close(fd);
}

static struct json_object *read_settings(const char *directory) {
    AUTO_FREE char *path = NULL;
    if (asprintf(&path, "%s/front.json", directory) < 0)
        return NULL;
    struct json_object *settings = json_parse_file(path);
    if (settings == NULL)
        fail("can't read", path);
    return settings;
}

static const char usage[] = "Usage: iotcore-front DIR\n"
                            "The TLS front of the stand-in for AWS IoT Core that `iotcore-setup DIR --front` has made; "
                            "runs beside its broker.\n";

int main(int argc, char **argv) {
    static struct front front;
    bool help = argc == 2 && strcmp(argv[1], "--help") == 0;
    if (argc != 2 || help) {
        fputs(usage, help ? stdout : stderr);
        return help ? EXIT_SUCCESS : 2;
    }
    AUTO_JSON struct json_object *settings = read_settings(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    if (settings == NULL || configure(&front, settings) < 0)
        return EXIT_FAILURE;
    for (;;) {
        int fd = accept4(front.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            receive(&front, fd);
        else if (errno != EINTR && errno != ECONNABORTED)
            return fail("accept", strerror(errno)) < 0;
    }
}

#include "worker/relay.h"

#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STEP "prove"

/* In the place of tls.c: a plain socket, with faults on demand. */
struct tls {
    int socket;
    int read_end;  /* what tls_read() gives once the socket is empty, if not 0 or `closed` */
    bool closed;   /* tls_read() gives 0 then */
    int write_end; /* what tls_write() gives, if not 0 */
    size_t write_max;
    size_t unwritten; /* the size of the write that got -EAGAIN: it must be repeated */
    bool shut;
};

int tls_read(struct tls *tls, void *data, size_t size) {
    ssize_t result = recv(tls->socket, data, size, MSG_DONTWAIT);
    if (result > 0)
        return (int)result;
    if (tls->closed)
        return 0;
    return tls->read_end != 0 ? tls->read_end : -EAGAIN;
}

int tls_write(struct tls *tls, const void *data, size_t size) {
    if (tls->write_end == -EAGAIN)
        tls->unwritten = size;
    if (tls->write_end != 0)
        return tls->write_end;
    if (tls->unwritten != 0)
        ASSERT_NUMBER((long long)size, (long long)tls->unwritten);
    tls->unwritten = 0;
    ssize_t result = send(tls->socket, data, size < tls->write_max ? size : tls->write_max, MSG_DONTWAIT);
    return result < 0 ? -errno : (int)result;
}

bool tls_wants_write(const struct tls *tls) {
    return tls->write_end == -EAGAIN;
}

void tls_shutdown(struct tls *tls) {
    tls->shut = true;
}

/* A relay between `library` and `server`. */
struct bench {
    struct tls tls;
    struct relay *relay;
    int library;
    int server;
    struct failure failure;
};

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connect(client, (struct sockaddr *)&address, sizeof address) == 0)
        return client;
    int error = -errno;
    close(client);
    return error;
}

static void bench_open(struct bench *bench) {
    int sockets[2];
    memset(bench, 0, sizeof *bench);
    CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) == 0);
    bench->tls = (struct tls){.socket = sockets[0], .write_max = SIZE_MAX};
    bench->server = sockets[1];
    bench->library = -1;
    int result = relay_open(&bench->tls, sockets[0], STEP, &bench->relay, &bench->failure);
    ASSERT_TEXT(bench->failure.message, "");
    CU_ASSERT_FATAL(result == 0);
}

static void bench_begin(struct bench *bench) {
    bench_open(bench);
    bench->library = connect_to(relay_path(bench->relay));
    CU_ASSERT_FATAL(bench->library >= 0);
    relay_run(bench->relay);
}

static void bench_end(struct bench *bench) {
    relay_free(bench->relay);
    close(bench->tls.socket);
    close(bench->server);
    if (bench->library >= 0)
        close(bench->library);
}

static void assert_bytes(int from, const char *expected) {
    char text[64] = "";
    ssize_t size = recv(from, text, sizeof text - 1, 0);
    ASSERT_NUMBER(size, (long long)strlen(expected));
    ASSERT_TEXT(text, expected);
}

static void test_both_ways(void) {
    struct bench bench;
    bench_begin(&bench);
    send(bench.library, "CONNECT", 7, 0);
    relay_run(bench.relay);
    assert_bytes(bench.server, "CONNECT");
    send(bench.server, "CONNACK", 7, 0);
    relay_run(bench.relay);
    assert_bytes(bench.library, "CONNACK");
    size_t size;
    const uint8_t *first = relay_first_bytes(bench.relay, &size);
    ASSERT_NUMBER((long long)size, 4);
    CU_ASSERT(memcmp(first, "CONN", 4) == 0);
    ASSERT_NUMBER(relay_ended(bench.relay), RELAY_RUNNING);
    bench_end(&bench);
}

/* Sends `total` bytes into one end and takes them out at the other, each as slow as the other side is. */
static void stream(struct bench *bench, int from, int to, size_t total) {
    static uint8_t data[65536];
    size_t sent = 0, received = 0;
    unsigned rounds = 0;
    while (received < total && rounds++ < 100000) {
        uint8_t chunk[65536];
        size_t wanted = total - sent < sizeof chunk ? total - sent : sizeof chunk;
        for (size_t i = 0; i < wanted; i++)
            chunk[i] = (uint8_t)((sent + i) * 31 >> 3);
        ssize_t result = wanted > 0 ? send(from, chunk, wanted, 0) : 0;
        sent += result > 0 ? (size_t)result : 0;
        relay_run(bench->relay);
        result = recv(to, data, 10007, 0);
        for (ssize_t i = 0; i < result; i++)
            if (data[i] != (uint8_t)((received + (size_t)i) * 31 >> 3))
                CU_FAIL_FATAL("a byte changed on its way");
        received += result > 0 ? (size_t)result : 0;
    }
    ASSERT_NUMBER((long long)received, (long long)total);
}

static void test_streams(void) {
    struct bench bench;
    bench_begin(&bench);
    stream(&bench, bench.library, bench.server, 3000000);
    stream(&bench, bench.server, bench.library, 3000000);
    bench.tls.write_max = 7;
    stream(&bench, bench.library, bench.server, 10000);
    bench_end(&bench);
}

/* A server that takes nothing must not make the relay swallow more than its buffer. */
static void test_buffers_are_bounded(void) {
    struct bench bench;
    char data[4096] = "";
    size_t sent = 0;
    ssize_t result;
    struct pollfd descriptors[RELAY_DESCRIPTORS];
    bench_begin(&bench);
    bench.tls.write_end = -EAGAIN;
    while ((result = send(bench.library, data, sizeof data, 0)) > 0) {
        sent += (size_t)result;
        relay_run(bench.relay);
    }
    int queue = 0;
    socklen_t size = sizeof queue;
    getsockopt(bench.library, SOL_SOCKET, SO_SNDBUF, &queue, &size);
    CU_ASSERT(sent <= (size_t)queue + 16384);
    relay_prepare(bench.relay, descriptors);
    ASSERT_NUMBER(descriptors[0].fd, -1);
    ASSERT_NUMBER(descriptors[1].events, POLLIN | POLLOUT);
    bench.tls.write_end = 0;
    relay_run(bench.relay); /* the fake checks that the same bytes are offered again */
    bench_end(&bench);
}

static void test_private_socket(void) {
    struct bench bench;
    struct stat status;
    char path[128];
    bench_open(&bench);
    snprintf(path, sizeof path, "%s", relay_path(bench.relay));
    char *slash = strrchr(path, '/');
    *slash = '\0';
    CU_ASSERT(stat(path, &status) == 0);
    ASSERT_NUMBER(status.st_mode & 07777, 0700);
    struct pollfd descriptors[RELAY_DESCRIPTORS];
    relay_prepare(bench.relay, descriptors);
    ASSERT_NUMBER(descriptors[0].events, POLLIN);
    ASSERT_NUMBER(descriptors[1].fd, -1);
    bench.library = connect_to(relay_path(bench.relay));
    CU_ASSERT(bench.library >= 0);
    relay_run(bench.relay);
    CU_ASSERT(stat(path, &status) < 0);
    *slash = '/';
    ASSERT_NUMBER(connect_to(path), -ENOENT);
    bench_end(&bench);
    bench_open(&bench);
    snprintf(path, sizeof path, "%s", relay_path(bench.relay));
    bench_end(&bench);
    CU_ASSERT(stat(path, &status) < 0);
    *strrchr(path, '/') = '\0';
    CU_ASSERT(stat(path, &status) < 0);
}

static void test_other_process(void) {
    struct bench bench;
    bench_open(&bench);
    pid_t child = fork();
    if (child == 0)
        _exit(connect_to(relay_path(bench.relay)) >= 0 ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    ASSERT_NUMBER(status, 0);
    relay_run(bench.relay);
    ASSERT_NUMBER(relay_ended(bench.relay), RELAY_REFUSED);
    CU_ASSERT(connect_to(relay_path(bench.relay)) < 0);
    bench_end(&bench);
}

static void test_library_ends(void) {
    struct bench bench;
    bench_begin(&bench);
    bench.tls.write_end = -EAGAIN;
    send(bench.library, "DISCONNECT", 10, 0);
    close(bench.library);
    bench.library = -1;
    relay_run(bench.relay);
    CU_ASSERT(!relay_is_flushed(bench.relay));
    CU_ASSERT(!bench.tls.shut);
    bench.tls.write_end = 0;
    relay_run(bench.relay);
    assert_bytes(bench.server, "DISCONNECT");
    CU_ASSERT(relay_is_flushed(bench.relay));
    CU_ASSERT(bench.tls.shut);
    struct pollfd descriptors[RELAY_DESCRIPTORS];
    relay_prepare(bench.relay, descriptors);
    ASSERT_NUMBER(descriptors[0].fd, -1); /* else poll() would spin on POLLHUP */
    bench_end(&bench);
}

static void assert_server_end(int result, enum relay_end end, int error) {
    struct bench bench;
    bench_begin(&bench);
    send(bench.server, "last words", 10, 0);
    bench.tls.closed = result == 0;
    bench.tls.read_end = result;
    relay_run(bench.relay);
    ASSERT_NUMBER(relay_ended(bench.relay), end);
    ASSERT_NUMBER(relay_error(bench.relay), error);
    assert_bytes(bench.library, "last words");
    assert_bytes(bench.library, ""); /* end of file */
    struct pollfd descriptors[RELAY_DESCRIPTORS];
    relay_prepare(bench.relay, descriptors);
    ASSERT_NUMBER(descriptors[1].fd, -1);
    bench_end(&bench);
}

static void test_server_ends(void) {
    assert_server_end(0, RELAY_CLOSED, 0);
    assert_server_end(-EPROTO, RELAY_ALERT, -EPROTO);
    assert_server_end(-EPIPE, RELAY_CUT, -EPIPE);
    assert_server_end(-ECONNRESET, RELAY_CUT, -ECONNRESET);
    assert_server_end(-EBADMSG, RELAY_CUT, -EBADMSG);
}

static void test_write_fails(void) {
    struct bench bench;
    bench_begin(&bench);
    bench.tls.write_end = -ECONNRESET;
    send(bench.library, "CONNECT", 7, 0);
    relay_run(bench.relay);
    ASSERT_NUMBER(relay_ended(bench.relay), RELAY_CUT);
    ASSERT_NUMBER(relay_error(bench.relay), -ECONNRESET);
    CU_ASSERT(relay_is_flushed(bench.relay));
    assert_bytes(bench.library, "");
    bench_end(&bench);
}

static void test_flood(void) {
    struct bench bench;
    char data[65536] = "";
    bench_begin(&bench);
    for (size_t sent = 0; sent <= RELAY_RECEIVED_MAX + sizeof data && relay_ended(bench.relay) == RELAY_RUNNING;) {
        ssize_t result = send(bench.server, data, sizeof data, 0);
        sent += result > 0 ? (size_t)result : 0;
        relay_run(bench.relay);
        while (recv(bench.library, data, sizeof data, 0) > 0)
            ;
    }
    ASSERT_NUMBER(relay_ended(bench.relay), RELAY_FLOODED);
    bench_end(&bench);
}

static void assert_base(const char *runtime, const char *temporary, const char *expected) {
    struct bench bench;
    setenv("RUNTIME_DIRECTORY", runtime, 1);
    setenv("TMPDIR", temporary, 1);
    bench_open(&bench);
    char path[128];
    snprintf(path, sizeof path, "%.*s", (int)strlen(expected), relay_path(bench.relay));
    ASSERT_TEXT(path, expected);
    bench_end(&bench);
    unsetenv("RUNTIME_DIRECTORY");
    unsetenv("TMPDIR");
}

static void test_where_it_is(void) {
    char base[] = "/tmp/enrolld-unit-XXXXXX", other[] = "/tmp/enrolld-unit-XXXXXX", endless[128];
    CU_ASSERT_FATAL(mkdtemp(base) != NULL && mkdtemp(other) != NULL);
    memset(endless, 'x', sizeof endless);
    memcpy(endless, "/tmp/", 5);
    endless[sizeof endless - 1] = '\0';
    assert_base(base, other, base);
    assert_base("/nonexistent", other, other);
    assert_base("", other, other);
    assert_base("relative", other, other);
    assert_base(endless, other, other);
    assert_base("/nonexistent", "/nonexistent", "/tmp/relay-");
    CU_ASSERT(rmdir(base) == 0);
    CU_ASSERT(rmdir(other) == 0);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"bytes go both ways", test_both_ways},
        {"long streams, slow readers, short writes", test_streams},
        {"buffers are bounded", test_buffers_are_bounded},
        {"the socket is private and gone after the one connection", test_private_socket},
        {"another process is refused", test_other_process},
        {"the library's end: its last bytes, then close_notify", test_library_ends},
        {"the server's end: its last bytes, then end of file", test_server_ends},
        {"a write that fails ends it", test_write_fails},
        {"a flood ends it", test_flood},
        {"which directory", test_where_it_is},
        {NULL, NULL},
    };
    return unit_run("relay", tests, argc, argv);
}

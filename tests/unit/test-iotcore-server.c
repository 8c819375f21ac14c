#include "control_server.h"
#include "harness.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Seconds in which something that takes milliseconds has to happen. */
#define DEADLINE 30

static int connect_to(uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CU_ASSERT_EQUAL_FATAL(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_text(int fd, const char *text) {
    ASSERT_NUMBER(send(fd, text, strlen(text), MSG_NOSIGNAL), (long long)strlen(text));
}

/* True once there is something to read, or the end. */
static bool readable(int fd, int milliseconds) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, milliseconds) == 1;
}

/* The answer's status, 0 if the connection ended without one. */
static int status_of(int fd) {
    char text[4096] = "";
    int status = 0;
    CU_ASSERT_TRUE(readable(fd, DEADLINE * 1000));
    ssize_t size = recv(fd, text, sizeof text - 1, 0);
    if (size > 0 && sscanf(text, "HTTP/1.1 %d", &status) != 1)
        ASSERT_TEXT(text, "HTTP/1.1 ...");
    return status;
}

/* Keeps what was asked, in the text. */
static void answer(void *userdata, const struct control_request *request, struct control_response *response) {
    snprintf(userdata, 256, "%s %s %s%s [%.*s]", request->method, request->target,
             request->principal != NULL ? request->principal : "nobody", request->authorized ? " signed" : "",
             (int)request->body_size, request->body);
    response->status = 201;
    response->body = strdup("{}");
}

static int tick_until_answered(struct control_server *server, int fd, char *seen) {
    time_t end = time(NULL) + DEADLINE;
    while (!readable(fd, 1) && time(NULL) < end)
        control_server_tick(server, answer, seen, 0);
    return status_of(fd);
}

static void test_what_was_asked(void) {
    char seen[256] = "";
    uint16_t port = 0;
    struct control_server *server = control_server_start(0, &port);
    CU_ASSERT_PTR_NOT_NULL_FATAL(server);
    CU_ASSERT_NOT_EQUAL(port, 0);
    int fd = connect_to(port);
    send_text(fd, "GET /a%2Fb?c=%20 HTTP/1.1\r\nHost: x\r\n\r\n");
    ASSERT_NUMBER(tick_until_answered(server, fd, seen), 201);
    ASSERT_TEXT(seen, "GET /a%2Fb?c=%20 nobody []");
    send_text(fd, "PUT /x HTTP/1.1\r\nHost: x\r\nx-amzn-principal: me\r\nAuthorization: AWS4-HMAC-SHA256 x\r\n"
                  "Content-Length: 5\r\n\r\nhe");
    control_server_tick(server, answer, seen, 0);
    send_text(fd, "llo");
    ASSERT_NUMBER(tick_until_answered(server, fd, seen), 201);
    ASSERT_TEXT(seen, "PUT /x me signed [hello]");
    close(fd);
    control_server_stop(server);
}

static void test_port_that_is_taken(void) {
    uint16_t port = 0, other = 7;
    struct control_server *server = control_server_start(0, &port);
    CU_ASSERT_PTR_NOT_NULL_FATAL(server);
    CU_ASSERT_PTR_NULL(control_server_start(port, &other));
    ASSERT_NUMBER(other, 7);
    control_server_stop(server);
    control_server_stop(NULL);
}

/* However far a request has come, from not read at all to waiting for its answer: stopping ends, and the client gets
 * 503 or nothing. */
static void test_stop_at_any_time(void) {
    alarm(2 * DEADLINE);
    for (long delay = 0; delay < 100; delay++) {
        uint16_t port;
        struct control_server *server = control_server_start(0, &port);
        CU_ASSERT_PTR_NOT_NULL_FATAL(server);
        int fd = connect_to(port);
        send_text(fd, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
        nanosleep(&(struct timespec){.tv_nsec = delay * 50000}, NULL);
        control_server_stop(server);
        int status = status_of(fd);
        CU_ASSERT_TRUE(status == 0 || status == 503);
        close(fd);
    }
    alarm(0);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"what was asked", test_what_was_asked},
        {"a port that is taken", test_port_that_is_taken},
        {"stop at any time", test_stop_at_any_time},
        {NULL, NULL},
    };
    return unit_run("server", tests, argc, argv);
}

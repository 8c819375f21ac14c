#include "worker/tls.h"

#include "harness.h"
#include "tls-fixture.h"
#include "worker/connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP "prove"
#define SHORT_MS 300 /* for servers that never answer */

static const char certificates[] =
    "authority ca; authority other\n"
    "issue localhost ca DNS:localhost serverAuth $NOW $LATER $P256\n"
    "issue localhost-rsa ca DNS:localhost serverAuth $NOW $LATER rsa:2048\n"
    "issue localhost-p384 ca DNS:localhost serverAuth $NOW $LATER $P384\n"
    "issue short ca DNS:localhost serverAuth $NOW $LATER rsa:1024\n"
    "issue untrusted other DNS:localhost serverAuth $NOW $LATER $P256\n"
    "issue expired ca DNS:localhost serverAuth 20200101000000Z 20210101000000Z $P256\n"
    "issue early ca DNS:localhost serverAuth 20980101000000Z $LATER $P256\n"
    "issue elsewhere ca DNS:example.com serverAuth $NOW $LATER $P256\n"
    "issue client ca DNS:localhost clientAuth $NOW $LATER $P256\n"
    "issue client-rsa ca DNS:client clientAuth $NOW $LATER rsa:2048\n"
    "issue client-p384 ca DNS:client clientAuth $NOW $LATER $P384\n"
    "openssl req -x509 -config config -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
    "  -addext subjectAltName=DNS:localhost -days 10 -keyout self.key -out self.pem\n";

/* One try to connect, and what came of it. */
struct attempt {
    struct connection *connection;
    struct tls *tls;
    struct key *key;
    char *root_ca, *certificate;
    int result;
    struct failure failure;
};

struct wish {
    const char *root_ca;     /* "ca.pem" if NULL */
    const char *certificate; /* name of a client certificate and key */
    bool broken_key;
    enum tls_version minimum;
    const char *alpn;
    bool doubtful;      /* the clock */
    int64_t timeout_ms; /* FIXTURE_DEADLINE_MS if 0 */
};

static void attempt_begin(struct attempt *attempt, const struct server *server, struct wish wish) {
    char file[64];
    struct connect_settings tcp = {"127.0.0.1", server->port, NULL, STEP};
    struct tls_settings settings = {"localhost", .minimum = wish.minimum, .alpn = wish.alpn, .step = STEP};
    settings.clock_is_doubtful = wish.doubtful;
    int64_t deadline = tls_now_ms() + (wish.timeout_ms != 0 ? wish.timeout_ms : FIXTURE_DEADLINE_MS);
    memset(attempt, 0, sizeof *attempt);
    attempt->root_ca = fixture_read(wish.root_ca != NULL ? wish.root_ca : "ca.pem", &settings.root_ca_size);
    settings.root_ca_pem = attempt->root_ca;
    if (wish.certificate != NULL) {
        snprintf(file, sizeof file, "%s.pem", wish.certificate);
        settings.certificate_pem = attempt->certificate = fixture_read(file, &settings.certificate_size);
        attempt->key = wish.broken_key ? fixture_broken_key(wish.certificate) : fixture_key(wish.certificate);
        settings.key = attempt->key;
    }
    attempt->result = connect_open(&tcp, deadline, &attempt->connection, &attempt->failure);
    if (attempt->result == 0)
        attempt->result =
            tls_connect(&settings, connect_socket(attempt->connection), deadline, &attempt->tls, &attempt->failure);
}

static void attempt_end(struct attempt *attempt) {
    tls_free(attempt->tls);
    connect_free(attempt->connection);
    key_free(attempt->key);
    free(attempt->root_ca);
    free(attempt->certificate);
}

/* Reads until something else than -EAGAIN comes. */
static int read_something(struct attempt *attempt, char *data, size_t size) {
    int64_t deadline = tls_now_ms() + FIXTURE_DEADLINE_MS;
    int result;
    while ((result = tls_read(attempt->tls, data, size)) == -EAGAIN && tls_now_ms() < deadline) {
        struct pollfd pollfd = {connect_socket(attempt->connection), POLLIN, 0};
        poll(&pollfd, 1, (int)(deadline - tls_now_ms()));
    }
    return result;
}

static void assert_accepted(const char *options, struct wish wish) {
    struct server server;
    struct attempt attempt;
    char line[16] = "";
    server_start_openssl(&server, options);
    attempt_begin(&attempt, &server, wish);
    ASSERT_TEXT(attempt.failure.message, "");
    if (attempt.result == 0) {
        ASSERT_NUMBER(tls_write(attempt.tls, "ping\n", 5), 5);
        ASSERT_NUMBER(read_something(&attempt, line, sizeof line - 1), 5);
        ASSERT_TEXT(line, "gnip\n");
    }
    attempt_end(&attempt);
    server_stop(&server);
}

static void assert_failure(const struct attempt *attempt, const char *class, const char *words) {
    ASSERT_NUMBER(attempt->result, -1);
    ASSERT_TEXT(failure_class_name(attempt->failure.class), class);
    ASSERT_TEXT(attempt->failure.step, STEP);
    if (strstr(attempt->failure.message, words) == NULL)
        ASSERT_TEXT(attempt->failure.message, words);
}

static void assert_refused(const char *options, struct wish wish, const char *class, const char *words) {
    struct server server;
    struct attempt attempt;
    server_start_openssl(&server, options);
    attempt_begin(&attempt, &server, wish);
    assert_failure(&attempt, class, words);
    attempt_end(&attempt);
    server_stop(&server);
}

static void assert_fake(void (*serve)(int socket), struct wish wish, const char *words) {
    struct server server;
    struct attempt attempt;
    server_start_fake(&server, serve);
    attempt_begin(&attempt, &server, wish);
    assert_failure(&attempt, "network", words);
    attempt_end(&attempt);
    server_stop(&server);
}

#define LOCALHOST "-cert localhost.pem -key localhost.key "
#define SECOND_LOCALHOST "-cert2 localhost.pem -key2 localhost.key " /* for the name of -servername */
#define LOCALHOST_RSA "-cert localhost-rsa.pem -key localhost-rsa.key "
#define LOCALHOST_P384 "-cert localhost-p384.pem -key localhost-p384.key "
#define DEMAND "-Verify 1 -verify_return_error -CAfile ca.pem "

static void test_good_servers(void) {
    assert_accepted(LOCALHOST "-tls1_2", (struct wish){0});
    assert_accepted(LOCALHOST_RSA "-tls1_2", (struct wish){0});
    assert_accepted(LOCALHOST "-tls1_3", (struct wish){0});
    assert_accepted(LOCALHOST_RSA "-tls1_3", (struct wish){0});
    assert_accepted(LOCALHOST_P384 "-tls1_2", (struct wish){0});
    assert_accepted(LOCALHOST_P384 "-tls1_3", (struct wish){0});
    assert_accepted(LOCALHOST "-tls1_3", (struct wish){.minimum = TLS_VERSION_1_3});
    assert_accepted(LOCALHOST "-groups X25519", (struct wish){0});
    assert_accepted(LOCALHOST "-ciphersuites TLS_CHACHA20_POLY1305_SHA256", (struct wish){0});
}

/* A server of many names: a client that does not say which one it means gets another name's certificate. */
static void test_server_name_indication(void) {
    static const char *const versions[] = {"-tls1_2", "-tls1_3"};
    for (size_t i = 0; i < 2; i++) {
        char options[256];
        snprintf(options, sizeof options,
                 "-cert elsewhere.pem -key elsewhere.key -servername localhost -servername_fatal " SECOND_LOCALHOST
                 "%s",
                 versions[i]);
        assert_accepted(options, (struct wish){0});
        snprintf(options, sizeof options, LOCALHOST "-servername example.com -servername_fatal " SECOND_LOCALHOST "%s",
                 versions[i]);
        assert_refused(options, (struct wish){0}, "network", "alert unrecognized_name (112)");
    }
}

static void test_client_certificate(void) {
    static const char *const names[] = {"client", "client-rsa", "client-p384"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_accepted(LOCALHOST DEMAND "-tls1_2", (struct wish){.certificate = names[i]});
        assert_accepted(LOCALHOST DEMAND "-tls1_3", (struct wish){.certificate = names[i]});
    }
}

static void test_wrong_certificates(void) {
    static const char *const versions[] = {"-tls1_2", "-tls1_3"};
    static const struct {
        const char *name, *class, *words;
    } wrong[] = {
        {"untrusted", "network", "localhost: the server's certificate is not signed by a CA in RootCA="},
        {"self", "network", "the server's certificate is"},
        {"expired", "network", "localhost: the server's certificate expired on Jan  1 00:00:00 2021 GMT"},
        {"early", "clock",
         "the server's certificate is not valid before Jan  1 00:00:00 2098 GMT: is the clock right?"},
        {"elsewhere", "network", "the server's certificate is for another host name"},
        {"client", "network", "the server's certificate is not for servers (extended key usage)"},
        {"short", "network", "the server's RSA key is shorter than 2048 bits"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        for (size_t j = 0; j < 2; j++) {
            char options[256];
            snprintf(options, sizeof options, "-cert %s.pem -key %s.key %s -cipher DEFAULT:@SECLEVEL=0", wrong[i].name,
                     wrong[i].name, versions[j]);
            assert_refused(options, (struct wish){0}, wrong[i].class, wrong[i].words);
        }
    /* By a clock that nobody has set it may only seem so. */
    assert_refused("-cert expired.pem -key expired.key", (struct wish){.doubtful = true}, "clock",
                   "localhost: the server's certificate expired on Jan  1 00:00:00 2021 GMT: is the clock right?");
}

static void test_wrong_suites(void) {
#define TLS_1_2(suite) "-tls1_2 -cipher " suite ":@SECLEVEL=0"
    const char *words = "ended the TLS handshake: alert handshake_failure (40)";
    assert_refused("-nocert " TLS_1_2("ADH-AES128-SHA256"), (struct wish){0}, "network", words);
    assert_refused("-nocert " TLS_1_2("ADH-AES128-SHA"), (struct wish){0}, "network", words);
    assert_refused("-nocert -Verify 1 " TLS_1_2("ADH-AES128-SHA"), (struct wish){.certificate = "client"}, "network",
                   words);
    assert_refused("-nocert " TLS_1_2("AECDH-AES128-SHA"), (struct wish){0}, "network", words);
    assert_refused(LOCALHOST TLS_1_2("ECDHE-ECDSA-NULL-SHA"), (struct wish){0}, "network", words);
    assert_refused(LOCALHOST_RSA TLS_1_2("NULL-SHA256"), (struct wish){0}, "network", words);
    assert_refused(LOCALHOST_RSA TLS_1_2("AES128-GCM-SHA256"), (struct wish){0}, "network", words);
    assert_refused(LOCALHOST TLS_1_2("ECDHE-ECDSA-AES128-SHA256"), (struct wish){0}, "network", words);
}

static void test_wrong_versions(void) {
    assert_refused(LOCALHOST "-tls1_1 -cipher DEFAULT:@SECLEVEL=0", (struct wish){0}, "network",
                   "protocol_version (70)");
    assert_refused(LOCALHOST "-tls1_2", (struct wish){.minimum = TLS_VERSION_1_3}, "network", "protocol_version (70)");
}

static void serve_silence(int socket) {
    char data[1];
    while (recv(socket, data, 1, 0) > 0)
        ;
}

static void serve_reset(int socket) {
    struct linger now = {1, 0};
    char data[1];
    recv(socket, data, 1, 0); /* the ClientHello, so that the reset comes in the handshake */
    setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(socket);
}

static void serve_end(int socket) {
    char data[4096];
    recv(socket, data, sizeof data, 0);
    shutdown(socket, SHUT_WR);
    serve_silence(socket);
}

static void serve_garbage(int socket) {
    static const char garbage[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    send(socket, garbage, sizeof garbage - 1, MSG_NOSIGNAL);
    serve_silence(socket);
}

static void serve_plain_alert(int socket) {
    static const char alert[] = {0x15, 3, 3, 0, 2, 2, 46};
    send(socket, alert, sizeof alert, MSG_NOSIGNAL);
    serve_silence(socket);
}

static void test_no_tls(void) {
    int64_t start = tls_now_ms();
    assert_fake(serve_silence, (struct wish){.timeout_ms = SHORT_MS}, "localhost: no answer in the TLS handshake");
    CU_ASSERT(tls_now_ms() - start < SHORT_MS + 1000);
    assert_fake(serve_reset, (struct wish){0}, "localhost: Connection reset by peer in the TLS handshake");
    assert_fake(serve_end, (struct wish){0}, "localhost closed the connection in the TLS handshake");
    assert_fake(serve_garbage, (struct wish){0}, "localhost: TLS handshake failed: ");
    assert_fake(serve_plain_alert, (struct wish){0}, "ended the TLS handshake: alert certificate_unknown (46)");
}

/* In TLS 1.2 the server judges the client before its own Finished: nothing tells whose alert that is. */
static void test_client_refused_in_tls_1_2(void) {
    assert_refused(LOCALHOST DEMAND "-tls1_2", (struct wish){0}, "network", "ended the TLS handshake: alert");
}

/* In TLS 1.3 the alert comes inside the session, after the handshake. */
static void assert_refused_inside(struct wish wish, const char *alert) {
    struct server server;
    struct attempt attempt;
    char data[16];
    server_start_openssl(&server, LOCALHOST DEMAND "-tls1_3");
    attempt_begin(&attempt, &server, wish);
    ASSERT_TEXT(attempt.failure.message, "");
    if (attempt.result == 0) {
        ASSERT_NUMBER(read_something(&attempt, data, sizeof data), -EPROTO);
        ASSERT_TEXT(tls_alert_text(attempt.tls), alert);
        CU_ASSERT(tls_was_refused(attempt.tls));
    }
    attempt_end(&attempt);
    server_stop(&server);
}

static void test_client_refused_in_tls_1_3(void) {
    assert_refused_inside((struct wish){0}, "certificate_required (116)");
    assert_refused_inside((struct wish){.certificate = "untrusted"}, "unknown_ca (48)");
}

/* A server that stands between the client and a real one and, once the session works, adds a record of its own. */
static uint16_t man_in_the_middle_port;

static void forward(int from, int to) {
    char data[4096];
    ssize_t size = recv(from, data, sizeof data, 0);
    if (size <= 0 || send(to, data, (size_t)size, MSG_NOSIGNAL) != size)
        _exit(0);
    /* The answer to "ping" is the first short record after the handshake's. */
    static const char alert[] = {0x15, 3, 3, 0, 2, 2, 46};
    static bool pinged;
    if (pinged && data[0] == 0x17)
        send(from, alert, sizeof alert, MSG_NOSIGNAL);
    pinged = true;
}

static void serve_between(int client) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(man_in_the_middle_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&address, sizeof address) < 0)
        return;
    for (;;) {
        struct pollfd pollfds[] = {{client, POLLIN, 0}, {server, POLLIN, 0}};
        char data[16384];
        poll(pollfds, 2, -1);
        if (pollfds[0].revents != 0)
            forward(client, server);
        if (pollfds[1].revents != 0) {
            ssize_t size = recv(server, data, sizeof data, 0);
            if (size <= 0 || send(client, data, (size_t)size, MSG_NOSIGNAL) != size)
                return;
        }
    }
}

/* An alert that somebody on the path adds must not count as the server's: neither a refusal nor an orderly end. */
static void assert_forged_alert(const char *options) {
    struct server server, between;
    struct attempt attempt;
    char data[64];
    int result;
    server_start_openssl(&server, options);
    man_in_the_middle_port = server.port;
    server_start_fake(&between, serve_between);
    attempt_begin(&attempt, &between, (struct wish){0});
    ASSERT_TEXT(attempt.failure.message, "");
    if (attempt.result == 0) {
        int rounds = 0;
        do { /* the first ping may have gone in one piece with the end of the handshake */
            tls_write(attempt.tls, "ping\n", 5);
            result = read_something(&attempt, data, sizeof data);
        } while (result > 0 && ++rounds < 5);
        ASSERT_NUMBER(result, -EBADMSG);
        ASSERT_TEXT(tls_alert_text(attempt.tls), "");
        CU_ASSERT(!tls_was_refused(attempt.tls));
    }
    attempt_end(&attempt);
    server_stop(&between);
    server_stop(&server);
}

static void test_forged_alert(void) {
    assert_forged_alert(LOCALHOST "-tls1_2");
    assert_forged_alert(LOCALHOST "-tls1_3");
}

static void assert_end(const char *options, bool orderly) {
    struct server server;
    struct attempt attempt;
    char data[16];
    server_start_openssl(&server, options);
    attempt_begin(&attempt, &server, (struct wish){0});
    ASSERT_TEXT(attempt.failure.message, "");
    if (attempt.result == 0) {
        tls_write(attempt.tls, "ping\n", 5); /* the answer: that the server has read all before it is killed */
        ASSERT_NUMBER(read_something(&attempt, data, sizeof data), 5);
        if (orderly) /* s_server -rev ends the session after this line */
            tls_write(attempt.tls, "CLOSE\n", 6);
        else
            kill(server.pid, SIGKILL);
        ASSERT_NUMBER(read_something(&attempt, data, sizeof data), orderly ? 0 : -EPIPE);
    }
    attempt_end(&attempt);
    server_stop(&server);
}

static void test_end_of_session(void) {
    assert_end(LOCALHOST "-tls1_2", true);
    assert_end(LOCALHOST "-tls1_3", true);
    assert_end(LOCALHOST "-tls1_2", false);
    assert_end(LOCALHOST "-tls1_3", false);
}

static void test_key_that_cannot_sign(void) {
    struct wish wish = {.certificate = "client", .broken_key = true};
    const char *words = "the device key cannot sign: TPM: in lockout mode (0x921)";
    assert_refused(LOCALHOST DEMAND "-tls1_2", wish, "tpm", words);
    assert_refused(LOCALHOST DEMAND "-tls1_3", wish, "tpm", words);
}

static void test_own_inputs(void) {
    fixture_write("empty.pem", "");
    fixture_write("garbage.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert_refused(LOCALHOST, (struct wish){.root_ca = "empty.pem"}, "invalid", "RootCA= has no usable certificate");
    assert_refused(LOCALHOST, (struct wish){.root_ca = "garbage.pem"}, "invalid", "RootCA= has no usable certificate");
    assert_refused(LOCALHOST, (struct wish){.root_ca = "expired.pem"}, "invalid", "they have expired");
    assert_refused(LOCALHOST, (struct wish){.root_ca = "expired.pem", .doubtful = true}, "clock",
                   "RootCA= have expired: is the clock right?");
    assert_refused(LOCALHOST, (struct wish){.root_ca = "early.pem"}, "clock", "is the clock right?");
    if (system("cp empty.pem nothing.pem; cp client.key nothing.key; cat expired.pem other.pem ca.pem > bundle.pem") !=
        0)
        CU_FAIL("cp");
    assert_refused(LOCALHOST, (struct wish){.certificate = "nothing"}, "invalid",
                   "the client certificate cannot be used");
    /* One anchor that is out of date does not spoil the others. */
    assert_accepted(LOCALHOST, (struct wish){.root_ca = "bundle.pem"});
}

static void test_alpn(void) {
    assert_accepted(LOCALHOST "-alpn x-amzn-mqtt-ca", (struct wish){.alpn = "x-amzn-mqtt-ca"});
    assert_accepted(LOCALHOST, (struct wish){.alpn = "x-amzn-mqtt-ca"});
    assert_refused(LOCALHOST "-alpn http/1.1", (struct wish){.alpn = "x-amzn-mqtt-ca"}, "network",
                   "no_application_protocol (120)");
}

static uint16_t closed_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int socket_ = socket(AF_INET, SOCK_STREAM, 0);
    bind(socket_, (struct sockaddr *)&address, size);
    getsockname(socket_, (struct sockaddr *)&address, &size);
    close(socket_);
    return ntohs(address.sin_port);
}

static void assert_unconnected(struct connect_settings settings, const char *words) {
    struct attempt attempt = {0};
    attempt.result = connect_open(&settings, tls_now_ms() + FIXTURE_DEADLINE_MS, &attempt.connection, &attempt.failure);
    assert_failure(&attempt, "network", words);
    attempt_end(&attempt);
}

static void test_connect_failures(void) {
    char proxy[64];
    uint16_t port = closed_port();
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", (unsigned)port);
    assert_unconnected((struct connect_settings){"127.0.0.1", port, NULL, STEP}, "cannot connect to 127.0.0.1:");
    assert_unconnected((struct connect_settings){"nowhere.invalid", 8883, NULL, STEP},
                       "cannot connect to nowhere.invalid:8883: Could not resolve host");
    assert_unconnected((struct connect_settings){"localhost", 8883, proxy, STEP},
                       "cannot connect to localhost:8883 through the proxy: ");
}

static void serve_proxy(int socket) {
    char request[1024] = "";
    size_t size = 0;
    while (strstr(request, "\r\n\r\n") == NULL && size < sizeof request - 1) {
        ssize_t got = recv(socket, request + size, sizeof request - 1 - size, 0);
        if (got <= 0)
            return;
        size += (size_t)got;
    }
    if (strncmp(request, "CONNECT endpoint.invalid:443 HTTP/1.1\r\n", 39) == 0) {
        static const char answer[] = "HTTP/1.1 200 OK\r\n\r\n";
        send(socket, answer, sizeof answer - 1, MSG_NOSIGNAL);
        serve_between(socket);
    } else {
        static const char answer[] = "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
        send(socket, answer, sizeof answer - 1, MSG_NOSIGNAL);
    }
}

static void assert_proxy(const char *host, const char *words) {
    struct server server, between;
    struct attempt attempt = {0};
    char proxy[64];
    size_t size;
    server_start_openssl(&server, LOCALHOST);
    man_in_the_middle_port = server.port;
    server_start_fake(&between, serve_proxy);
    snprintf(proxy, sizeof proxy, "http://127.0.0.1:%u", (unsigned)between.port);
    struct connect_settings tcp = {host, 443, proxy, STEP};
    struct tls_settings settings = {"localhost", .step = STEP};
    settings.root_ca_pem = attempt.root_ca = fixture_read("ca.pem", &size);
    settings.root_ca_size = size;
    int64_t deadline = tls_now_ms() + FIXTURE_DEADLINE_MS;
    attempt.result = connect_open(&tcp, deadline, &attempt.connection, &attempt.failure);
    if (attempt.result == 0)
        attempt.result =
            tls_connect(&settings, connect_socket(attempt.connection), deadline, &attempt.tls, &attempt.failure);
    if (words != NULL)
        assert_failure(&attempt, "network", words);
    else
        ASSERT_TEXT(attempt.failure.message, "");
    attempt_end(&attempt);
    server_stop(&between);
    server_stop(&server);
}

/* The name is resolved by the proxy: devices behind one often have no DNS. */
static void test_proxy(void) {
    assert_proxy("endpoint.invalid", NULL);
    assert_proxy("other.invalid", "cannot connect to other.invalid:443 through the proxy: ");
}

static void test_environment_is_not_consulted(void) {
    struct server server;
    struct attempt attempt;
    int flag = 0;
    socklen_t size = sizeof flag;
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    server_start_openssl(&server, LOCALHOST);
    attempt_begin(&attempt, &server, (struct wish){0});
    ASSERT_TEXT(attempt.failure.message, "");
    if (attempt.result == 0)
        getsockopt(connect_socket(attempt.connection), IPPROTO_TCP, TCP_NODELAY, &flag, &size);
    ASSERT_NUMBER(flag, 1);
    attempt_end(&attempt);
    server_stop(&server);
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"good servers are accepted", test_good_servers},
        {"the server is told which name is meant", test_server_name_indication},
        {"a client certificate is sent, with each kind of key", test_client_certificate},
        {"wrong server certificates are refused by name", test_wrong_certificates},
        {"anonymous, NULL, static RSA and CBC suites are refused", test_wrong_suites},
        {"old TLS versions are refused", test_wrong_versions},
        {"silence, reset, end, garbage, plain alert: network, no hang", test_no_tls},
        {"client refused in TLS 1.2: network", test_client_refused_in_tls_1_2},
        {"client refused in TLS 1.3: the alert inside the session", test_client_refused_in_tls_1_3},
        {"an alert forged into the session is none", test_forged_alert},
        {"close_notify and a bare end are told apart", test_end_of_session},
        {"a key that cannot sign: tpm, with its words", test_key_that_cannot_sign},
        {"own unusable inputs", test_own_inputs},
        {"ALPN", test_alpn},
        {"no TCP connection: network, with the host", test_connect_failures},
        {"HTTP proxy", test_proxy},
        {"proxy variables are ignored, no Nagle", test_environment_is_not_consulted},
        {NULL, NULL},
    };
    static char script[8192];
    snprintf(script, sizeof script, "%s%s", fixture_functions, certificates);
    fixture_begin(script);
    return unit_run("tls", tests, argc, argv);
}

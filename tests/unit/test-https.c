#include "worker/https.h"

#include "harness.h"
#include "tls-fixture.h"

#include <curl/curl.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP "certificate"

static const char certificates[] = "authority ca; authority other\n"
                                   "issue localhost ca DNS:localhost serverAuth $NOW $LATER $P256\n"
                                   "issue address ca IP:127.0.0.1,IP:::1 serverAuth $NOW $LATER $P256\n"
                                   "issue elsewhere ca DNS:example.com,IP:127.0.0.2 serverAuth $NOW $LATER $P256\n"
                                   "issue untrusted other DNS:localhost serverAuth $NOW $LATER $P256\n"
                                   "issue client ca DNS:client clientAuth $NOW $LATER $P256\n";

/* What is asked, where it differs from GET https://localhost:PORT/path. */
struct wish {
    const char *url; /* with %u for the port */
    const char *method;
    const char *const *headers;
    const char *body;
    size_t body_size;
    const char *certificate; /* name of a client certificate and key */
    const char *anchors;
    const char *proxy;
    unsigned timeout_s;
};

static struct server server;
static struct https_response response;
static struct failure failure;

static void server_begin(const char *options) {
    server_spawn(&server, "exec python3 -B \"${SOURCE_DIR:-.}/tests/unit/https-server.py\" %s", options);
    const char *port = server_expect(&server, "PORT ");
    server.port = port != NULL ? (uint16_t)atoi(port) : 0;
}

static int ask(const char *path, struct wish wish) {
    char url[512], file[64];
    char *certificate = NULL;
    struct key *key = NULL;
    struct https_settings settings = {.proxy = wish.proxy,
                                      .tls.anchors = wish.anchors,
                                      .step = STEP,
                                      .timeout_s = wish.timeout_s != 0 ? wish.timeout_s : 5};
    char *root_ca = fixture_read("ca.pem", &settings.tls.root_ca_size);
    settings.tls.root_ca_pem = root_ca;
    if (wish.certificate != NULL) {
        snprintf(file, sizeof file, "%s.pem", wish.certificate);
        settings.tls.certificate_pem = certificate = fixture_read(file, &settings.tls.certificate_size);
        settings.tls.key = key = fixture_key(wish.certificate);
    }
    snprintf(url, sizeof url, "https://localhost:%u%s", (unsigned)server.port, path);
    if (wish.url != NULL) {
        char port[8];
        snprintf(port, sizeof port, "%u", (unsigned)server.port);
        const char *at = strstr(wish.url, "PORT");
        snprintf(url, sizeof url, "%.*s%s%s", at != NULL ? (int)(at - wish.url) : (int)strlen(wish.url), wish.url,
                 at != NULL ? port : "", at != NULL ? at + 4 : "");
    }
    struct https_request request = {wish.method != NULL ? wish.method : "GET", url, wish.headers, wish.body,
                                    wish.body_size};
    memset(&failure, 0, sizeof failure);
    https_response_clear(&response);
    int result = https_exchange(&settings, &request, &response, &failure);
    key_free(key);
    free(certificate);
    free(root_ca);
    return result;
}

static void assert_status(const char *path, int status, const char *body, uint32_t retry_after_s) {
    ASSERT_NUMBER(ask(path, (struct wish){0}), 0);
    ASSERT_TEXT(failure.message, "");
    ASSERT_NUMBER(response.status, status);
    if (body != NULL && response.body != NULL)
        ASSERT_TEXT(response.body, body);
    ASSERT_NUMBER(response.retry_after_s, retry_after_s);
}

static void assert_failed(int result, const char *class, const char *words) {
    ASSERT_NUMBER(result, -1);
    ASSERT_TEXT(failure_class_name(failure.class), class);
    ASSERT_TEXT(failure.step, STEP);
    if (strstr(failure.message, words) == NULL)
        ASSERT_TEXT(failure.message, words);
    CU_ASSERT_PTR_NULL(response.body);
}

static void assert_path_fails(const char *path, const char *words) {
    assert_failed(ask(path, (struct wish){.timeout_s = 2}), "network", words);
}

static const char *request_line(void) {
    const char *line = server_expect(&server, "REQUEST ");
    return line != NULL ? line : "";
}

static void assert_sent(const char *line, const char *words) {
    if (strstr(line, words) == NULL)
        ASSERT_TEXT(line, words);
}

static void test_responses(void) {
    server_begin("localhost");
    assert_status("/ok", 200, "{}", 0);
    ASSERT_TEXT(response.content_type, "application/json; charset=utf-8");
    ASSERT_NUMBER((long long)response.body_size, 2);
    assert_status("/nul", 200, "a", 0);
    ASSERT_NUMBER((long long)response.body_size, 3);
    assert_status("/empty", 204, "", 0);
    ASSERT_TEXT(response.content_type, "");
    assert_status("/chunked", 200, "abcde", 0);
    assert_status("/continue", 201, "", 0);
    assert_status("/redirect", 302, "", 0);
    assert_status("/401", 401, "", 0);
    assert_status("/limit", 200, NULL, 0);
    ASSERT_NUMBER((long long)response.body_size, HTTPS_BODY_MAX);
    assert_status("/until-close", 200, "all of it", 0);
    server_stop(&server);
}

static void test_retry_after(void) {
    server_begin("localhost");
    assert_status("/429", 429, "", 17);
    assert_status("/503-date", 503, "", 120);
    assert_status("/503-past", 503, "", 0);
    assert_status("/503-forms", 503, "", 120);
    assert_status("/503-late", 503, "", 120); /* beyond 2038 */
    assert_status("/503-huge", 503, "", UINT32_MAX);
    assert_status("/503-words", 503, "", 0);
    ASSERT_NUMBER(ask("/503-local", (struct wish){0}), 0);
    CU_ASSERT(response.retry_after_s > 3500 && response.retry_after_s <= 3600);
    server_stop(&server);
}

static void test_requests(void) {
    static const char *const headers[] = {"Authorization: Bearer secret", "X-Empty-Is: not empty", NULL};
    static const char *const typed[] = {"content-type: application/json", NULL};
    static char large[2000000]; /* libcurl asks first from a million on */
    char host[64];
    memset(large, 'b', sizeof large);
    server_begin("localhost http/1.1");
    ASSERT_NUMBER(ask("/ok?a=b", (struct wish){.headers = headers}), 0);
    const char *line = request_line();
    assert_sent(line, "\"method\": \"GET\", \"target\": \"/ok?a=b\", \"version\": \"HTTP/1.1\"");
    assert_sent(line, "\"Authorization\": \"Bearer secret\"");
    assert_sent(line, "\"size\": 0");
    assert_sent(line, "\"alpn\": \"http/1.1\"");
    snprintf(host, sizeof host, "\"Host\": \"localhost:%u\"", (unsigned)server.port);
    assert_sent(line, host);
    CU_ASSERT_PTR_NULL(strstr(line, "Content-Type"));
    CU_ASSERT_PTR_NULL(strstr(line, "User-Agent"));
    ASSERT_NUMBER(ask("/ok", (struct wish){.method = "POST", .body = "{}", .body_size = 2, .headers = typed}), 0);
    line = request_line();
    assert_sent(line, "\"method\": \"POST\"");
    assert_sent(line, "\"content-type\": \"application/json\"");
    assert_sent(line, "\"size\": 2, \"body\": \"{}\"");
    ASSERT_NUMBER(ask("/ok", (struct wish){.method = "PUT", .body = large, .body_size = sizeof large}), 0);
    line = request_line();
    assert_sent(line, "\"method\": \"PUT\"");
    assert_sent(line, "\"size\": 2000000");
    CU_ASSERT_PTR_NULL(strstr(line, "Expect"));
    CU_ASSERT_PTR_NULL(strstr(line, "Content-Type"));
    ASSERT_NUMBER(ask("/ok", (struct wish){.method = "POST"}), 0);
    assert_sent(request_line(), "\"Content-Length\": \"0\"");
    server_stop(&server);
}

static void test_client_certificate(void) {
    server_begin("localhost verify");
    ASSERT_NUMBER(ask("/ok", (struct wish){.certificate = "client"}), 0);
    assert_sent(request_line(), "\"client\": \"client\"");
    /* TLS 1.3: the server judges the client when the handshake is over for the client. */
    assert_failed(ask("/ok", (struct wish){0}), "denied", "refused the client certificate: TLS alert");
    server_stop(&server);
}

static void test_bad_responses(void) {
    server_begin("localhost");
    assert_path_fails("/large", ": the response has more than 131072 bytes");
    assert_path_fails("/large-chunks", ": the response has more than 131072 bytes");
    assert_path_fails("/headers", ": the headers of the response have more than 32768 bytes");
    assert_path_fails("/cut", "the connection broke before the end of the response: closed without a word");
    assert_path_fails("/cut-chunk", "before the end of the response");
    assert_path_fails("/cut-head", "before the end of the response");
    assert_path_fails("/until-cut", "before the end of the response");
    assert_path_fails("/nothing", "before the end of the response");
    assert_path_fails("/0.9", "localhost:");
    assert_path_fails("/garbage", "localhost:");
    assert_failed(ask("/silent", (struct wish){.timeout_s = 1}), "network", "no whole response from localhost:");
    assert_failed(ask("/slow?secret", (struct wish){.timeout_s = 1}), "network", "within 1 s");
    CU_ASSERT_PTR_NULL(strstr(failure.message, "secret"));
    assert_status("/ok", 200, "{}", 0);
    server_stop(&server);
}

static void assert_server_refused(const char *options, struct wish wish, const char *words) {
    server_begin(options);
    assert_failed(ask("/ok", wish), "network", words);
    server_stop(&server);
}

static void test_wrong_servers(void) {
    assert_server_refused("untrusted", (struct wish){0},
                          "localhost: the server's certificate is not signed by a CA in RootCA=");
    assert_server_refused("untrusted", (struct wish){.anchors = "the file ServerCA="},
                          "localhost: the server's certificate is not signed by a CA in the file ServerCA=");
    assert_server_refused("elsewhere", (struct wish){0}, "the server's certificate is for another host name");
    assert_server_refused("address", (struct wish){0}, "the server's certificate is for another host name");
    assert_server_refused("elsewhere", (struct wish){.url = "https://127.0.0.1:PORT/ok"},
                          "the server's certificate is for another");
    assert_server_refused("localhost", (struct wish){.url = "https://127.0.0.1:PORT/ok"},
                          "the server's certificate is for another");
    server_begin("localhost");
    server_stop(&server);
    assert_failed(ask("/ok", (struct wish){0}), "network", "cannot connect to localhost:");
}

static bool has_ipv6(void) {
    const struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int probe = socket(AF_INET6, SOCK_STREAM, 0);
    bool has = bind(probe, (const struct sockaddr *)&address, sizeof address) == 0;
    close(probe);
    return has;
}

static void test_addresses(void) {
    server_begin("address");
    ASSERT_NUMBER(ask("", (struct wish){.url = "https://127.0.0.1:PORT/ok"}), 0);
    ASSERT_TEXT(failure.message, "");
    server_stop(&server);
    if (!has_ipv6())
        return;
    server_begin("address ipv6");
    ASSERT_NUMBER(ask("", (struct wish){.url = "https://[::1]:PORT/ok"}), 0);
    ASSERT_TEXT(failure.message, "");
    assert_sent(request_line(), "\"Host\": \"[::1]:");
    server_stop(&server);
}

static void assert_request_refused(struct wish wish, const char *words) {
    assert_failed(ask("/ok", wish), "invalid", words);
    CU_ASSERT_PTR_NULL(strstr(failure.message, "secret"));
}

static void test_unusable_requests(void) {
    static const char *const wrong_headers[][2] = {
        {"Authorization: secret\r\nX: y", NULL},
        {"secret", NULL},
        {": secret", NULL},
        {"X:", NULL},
        {"X y: secret", NULL},
        {"X: \x01", NULL},
    };
    static const char *const many[] = {"A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b",
                                       "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b",
                                       "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", "A: b",
                                       "A: b", "A: b", "A: b", "A: b", "A: b", "A: b", NULL};
    assert_request_refused((struct wish){.url = "http://localhost/secret"}, "does not begin with https://");
    assert_request_refused((struct wish){.url = "ftp://localhost/secret"}, "does not begin with https://");
    assert_request_refused((struct wish){.url = "localhost/secret"}, "the URL is not one");
    assert_request_refused((struct wish){.url = "https://user:secret@localhost/"}, "a user name in it");
    assert_request_refused((struct wish){.url = "https://localhost:0x50/secret"}, "the URL is not one");
    assert_request_refused((struct wish){.url = "https://localhost/secret\r\nX: y"}, "the URL is not one");
    assert_request_refused((struct wish){.url = "https://localhost/a secret"}, "the URL is not one");
    assert_request_refused((struct wish){.method = "HEAD"}, "the HTTP method is not GET, POST or PUT");
    assert_request_refused((struct wish){.method = "GET /secret"}, "the HTTP method is not GET, POST or PUT");
    for (size_t i = 0; i < sizeof wrong_headers / sizeof *wrong_headers; i++)
        assert_request_refused((struct wish){.headers = wrong_headers[i]}, "header 1 of the request is not");
    assert_request_refused((struct wish){.headers = many}, "header 33 of the request is not");
}

/* A proxy of the environment would see where the device goes, and could keep it from there. */
static void test_proxy(void) {
    server_begin("localhost");
    setenv("https_proxy", "http://127.0.0.1:1", 1);
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    assert_status("/ok", 200, "{}", 0);
    assert_failed(ask("/ok", (struct wish){.proxy = "http://127.0.0.1:1"}), "network", " through the proxy: ");
    unsetenv("https_proxy");
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
    server_stop(&server);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"responses", test_responses},
        {"Retry-After", test_retry_after},
        {"requests", test_requests},
        {"client certificate", test_client_certificate},
        {"bad responses", test_bad_responses},
        {"wrong servers", test_wrong_servers},
        {"addresses in the URL", test_addresses},
        {"unusable requests", test_unusable_requests},
        {"no proxy but the configured one", test_proxy},
        {NULL, NULL},
    };
    char text[4096];
    snprintf(text, sizeof text, "%s%s", fixture_functions, certificates);
    fixture_begin(text);
    curl_global_init(CURL_GLOBAL_NOTHING);
    int result = unit_run("https", tests, argc, argv);
    https_response_clear(&response);
    curl_global_cleanup();
    return result;
}

#include "worker/connect.h"

#include "common/cleanup.h"
#include "worker/tls.h"

#include <curl/curl.h>

#include <stdio.h>
#include <string.h>

struct connection {
    CURL *curl;
    int socket;
    char error[CURL_ERROR_SIZE];
};

static void cleanup_connection(struct connection **connection) {
    connect_free(*connection);
}

/* An IPv6 address stands in brackets in a URL (RFC 3986 section 3.2.2). The scheme only tells libcurl that it has
 * nothing to add to TCP. */
static void url_format(const struct connect_settings *settings, char *url, size_t size) {
    bool literal = strchr(settings->host, ':') != NULL;
    snprintf(url, size, "http://%s%s%s:%u", literal ? "[" : "", settings->host, literal ? "]" : "",
             (unsigned)settings->port);
}

static CURLcode curl_configure(struct connection *connection, const struct connect_settings *settings, long left_ms) {
    CURL *curl = connection->curl;
    char url[512];
    CURLcode result = CURLE_OK;
#define SET(option, value)                                                                                             \
    if (result == CURLE_OK)                                                                                            \
    result = curl_easy_setopt(curl, option, value)
    url_format(settings, url, sizeof url);
    SET(CURLOPT_ERRORBUFFER, connection->error);
    SET(CURLOPT_URL, url);
    SET(CURLOPT_CONNECT_ONLY, 1L);
    /* Set, if only to nothing: unset they would be read from the environment. */
    SET(CURLOPT_PROXY, settings->proxy != NULL ? settings->proxy : "");
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_TIMEOUT_MS, left_ms);
    SET(CURLOPT_CONNECTTIMEOUT_MS, left_ms);
    /* No SIGALRM, and a resolver thread that hangs in a name server's silence does not hold up the failure. */
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
#undef SET
    return result;
}

/* libcurl's own words do not tell a refusal from a host that is not there, and the kernel's name no proxy. */
static void connect_explain(const struct connection *connection, const struct connect_settings *settings,
                            CURLcode result, char *text, size_t size) {
    const char *words = connection->error[0] != '\0' ? connection->error : curl_easy_strerror(result);
    long error = 0;
    curl_easy_getinfo(connection->curl, CURLINFO_OS_ERRNO, &error);
    if (error == 0)
        snprintf(text, size, "%s", words);
    else if (result == CURLE_COULDNT_CONNECT && settings->proxy == NULL)
        snprintf(text, size, "%s", strerror((int)error));
    else
        snprintf(text, size, "%s: %s", words, strerror((int)error));
}

static int connect_fail(const struct connection *connection, const struct connect_settings *settings, CURLcode result,
                        struct failure *failure) {
    enum failure_class class = result == CURLE_URL_MALFORMAT ? FAILURE_INVALID : FAILURE_NETWORK;
    char text[CURL_ERROR_SIZE + 128];
    connect_explain(connection, settings, result, text, sizeof text);
    return failure_set(failure, class, settings->step, "cannot connect to %s:%u%s: %s", settings->host,
                       (unsigned)settings->port, settings->proxy != NULL ? " through the proxy" : "", text);
}

int connect_open(const struct connect_settings *settings, int64_t deadline_ms, struct connection **ret,
                 struct failure *failure) {
    CLEANUP(cleanup_connection) struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL || (connection->curl = curl_easy_init()) == NULL)
        return failure_set(failure, FAILURE_INTERNAL, settings->step, "out of memory");
    int64_t left_ms = deadline_ms - tls_now_ms();
    curl_socket_t socket = CURL_SOCKET_BAD;
    /* 0 would mean libcurl's default of five minutes. */
    CURLcode result = curl_configure(connection, settings, left_ms > 0 ? (long)left_ms : 1L);
    if (result == CURLE_OK)
        result = curl_easy_perform(connection->curl);
    if (result == CURLE_OK)
        result = curl_easy_getinfo(connection->curl, CURLINFO_ACTIVESOCKET, &socket);
    if (result != CURLE_OK)
        return connect_fail(connection, settings, result, failure);
    if (socket == CURL_SOCKET_BAD)
        return connect_fail(connection, settings, CURLE_COULDNT_CONNECT, failure);
    connection->socket = socket;
    *ret = TAKE_POINTER(connection);
    return 0;
}

int connect_socket(const struct connection *connection) {
    return connection->socket;
}

struct connection *connect_free(struct connection *connection) {
    if (connection == NULL)
        return NULL;
    curl_easy_cleanup(connection->curl);
    free(connection);
    return NULL;
}

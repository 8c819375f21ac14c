#include "worker/https.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "worker/connect.h"
#include "worker/relay.h"

#include <curl/curl.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define PUMP_SLICE_MS 1000

struct https {
    struct connection *connection;
    struct tls *tls;
    struct relay *relay;
    CURLU *url;
    CURL *curl;
    CURLM *multi;
    struct curl_slist *headers;
    char host[256]; /* of the URL, without the brackets of an IPv6 address */
    uint16_t port;
    char peer[300]; /* "host:port", for messages */
    const char *step;
    struct https_response response;
    size_t headers_size;
    bool body_is_too_large, headers_are_too_large, out_of_memory;
    char error[CURL_ERROR_SIZE];
};

static void https_close(struct https *https) {
    if (https->multi != NULL && https->curl != NULL)
        curl_multi_remove_handle(https->multi, https->curl);
    curl_easy_cleanup(https->curl);
    curl_multi_cleanup(https->multi);
    curl_slist_free_all(https->headers);
    curl_url_cleanup(https->url);
    relay_free(https->relay);
    tls_free(https->tls);
    connect_free(https->connection);
    https_response_clear(&https->response);
}

/* --- the request --- */

/* Copies one part of the URL; -1 if it has none or it is too long. */
static int url_part(const struct https *https, CURLUPart part, char *ret, size_t size) {
    char *text = NULL;
    int result = -1;
    if (curl_url_get(https->url, part, &text, CURLU_DEFAULT_PORT) == CURLUE_OK && strlen(text) < size) {
        strcpy(ret, text);
        result = 0;
    }
    curl_free(text);
    return result;
}

/* The URL itself is never in a message: its query may be a secret. */
static int url_read(struct https *https, const char *url, struct failure *failure) {
    char scheme[16] = "", host[sizeof https->host] = "", port[8] = "";
    uint64_t number = 0;
    CURLUcode result = curl_url_set(https->url, CURLUPART_URL, url, CURLU_DISALLOW_USER);
    if (result == CURLUE_USER_NOT_ALLOWED)
        return failure_set(failure, FAILURE_INVALID, https->step, "a URL with a user name in it is not taken");
    if (result != CURLUE_OK)
        return failure_set(failure, FAILURE_INVALID, https->step, "the URL is not one: %s", curl_url_strerror(result));
    if (url_part(https, CURLUPART_SCHEME, scheme, sizeof scheme) < 0 || strcmp(scheme, "https") != 0)
        return failure_set(failure, FAILURE_INVALID, https->step, "the URL does not begin with https://");
    if (url_part(https, CURLUPART_HOST, host, sizeof host) < 0 ||
        url_part(https, CURLUPART_PORT, port, sizeof port) < 0 || text_to_u64(port, &number) < 0 || number > UINT16_MAX)
        return failure_set(failure, FAILURE_INVALID, https->step, "the URL has no usable host and port");
    size_t length = strlen(host);
    bool brackets = host[0] == '[' && length > 2 && host[length - 1] == ']';
    snprintf(https->host, sizeof https->host, "%.*s", (int)(brackets ? length - 2 : length), host + brackets);
    https->port = (uint16_t)number;
    snprintf(https->peer, sizeof https->peer, "%s:%u", host, (unsigned)https->port);
    text_make_printable(https->peer);
    return 0;
}

static bool add_header(struct https *https, const char *line) {
    struct curl_slist *grown = curl_slist_append(https->headers, line);
    if (grown != NULL)
        https->headers = grown;
    return grown != NULL;
}

/* A line break would be another header, and what comes after it a body. */
static bool header_is_usable(const char *line) {
    const char *colon = strchr(line, ':');
    if (colon == NULL || colon == line || colon[1 + strspn(colon + 1, " ")] == '\0')
        return false;
    for (const char *at = line; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f || (at < colon && *at == ' '))
            return false;
    return true;
}

/* libcurl would add "Expect: 100-continue" to larger bodies and wait for an answer to it, and a content type that only
 * forms have. The host is told as the URL has it: what libcurl sees has another scheme. */
static int headers_make(struct https *https, const struct https_request *request, struct failure *failure) {
    char host[320];
    bool literal = strchr(https->host, ':') != NULL, typed = false;
    snprintf(host, sizeof host, https->port == 443 ? "Host: %s%s%s" : "Host: %s%s%s:%u", literal ? "[" : "",
             https->host, literal ? "]" : "", (unsigned)https->port);
    bool added = add_header(https, host) && add_header(https, "Expect:");
    for (size_t i = 0; added && request->headers != NULL && request->headers[i] != NULL; i++) {
        if (i == HTTPS_REQUEST_HEADERS_MAX || !header_is_usable(request->headers[i]))
            return failure_set(failure, FAILURE_INVALID, https->step,
                               "header %zu of the request is not \"Name: value\" in printable characters", i + 1);
        typed = typed || strncasecmp(request->headers[i], "Content-Type:", 13) == 0;
        added = add_header(https, request->headers[i]);
    }
    if (added && !typed)
        added = add_header(https, "Content-Type:");
    return added ? 0 : failure_set(failure, FAILURE_INTERNAL, https->step, "out of memory");
}

/* --- the response --- */

static size_t on_header(char *data, size_t size, size_t count, void *userdata) {
    struct https *https = userdata;
    (void)data;
    https->headers_size += size * count;
    https->headers_are_too_large = https->headers_size > HTTPS_HEADERS_MAX;
    return https->headers_are_too_large ? 0 : size * count;
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata) {
    struct https *https = userdata;
    struct https_response *response = &https->response;
    size_t added = size * count;
    https->body_is_too_large = added > HTTPS_BODY_MAX - response->body_size;
    if (https->body_is_too_large)
        return 0;
    if (response->body == NULL && (response->body = malloc(HTTPS_BODY_MAX + 1)) == NULL) {
        https->out_of_memory = true;
        return 0;
    }
    memcpy(response->body + response->body_size, data, added);
    response->body_size += added;
    return added;
}

static const char *header_of(CURL *curl, const char *name) {
    struct curl_header *header;
    return curl_easy_header(curl, name, 0, CURLH_HEADER, -1, &header) == CURLHE_OK ? header->value : NULL;
}

/* The three forms of RFC 9110 section 5.6.7; -1 if it has none of them. Not curl_getdate(), whose time_t is that of
 * libcurl's own build: on 32-bit systems it may be another one than ours. */
static int64_t read_date(const char *text) {
    static const char *const forms[] = {"%a, %d %b %Y %T GMT", "%A, %d-%b-%y %T GMT", "%a %b %e %T %Y"};
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm calendar = {0};
        const char *end = strptime(text, forms[i], &calendar);
        if (end != NULL && *end == '\0')
            return timegm(&calendar);
    }
    return -1;
}

/* Seconds or a date (RFC 9110 section 10.2.3), the latter by the server's own clock if it tells it. */
static uint32_t retry_after(CURL *curl) {
    const char *text = header_of(curl, "Retry-After"), *date = header_of(curl, "Date");
    uint64_t seconds = 0;
    if (text == NULL)
        return 0;
    if (text[0] != '\0' && text[strspn(text, "0123456789")] == '\0')
        return text_to_u64(text, &seconds) < 0 || seconds > UINT32_MAX ? UINT32_MAX : (uint32_t)seconds;
    int64_t then = read_date(text), now = date != NULL ? read_date(date) : -1;
    if (now < 0)
        now = time(NULL);
    if (then <= now) /* -1, no date, is that as well */
        return 0;
    return (uint64_t)(then - now) > UINT32_MAX ? UINT32_MAX : (uint32_t)(then - now);
}

/* --- the exchange --- */

static int curl_configure(struct https *https, const struct https_request *request, struct failure *failure) {
    CURL *curl = https->curl;
    CURLcode result = CURLE_OK;
    bool has_body = request->body != NULL || strcmp(request->method, "GET") != 0;
#define SET(option, value)                                                                                             \
    if (result == CURLE_OK)                                                                                            \
    result = curl_easy_setopt(curl, option, value)
    SET(CURLOPT_ERRORBUFFER, https->error);
    SET(CURLOPT_CURLU, https->url);
    SET(CURLOPT_UNIX_SOCKET_PATH, relay_path(https->relay));
    SET(CURLOPT_PROXY, ""); /* unset it would be read from the environment */
    SET(CURLOPT_NOPROXY, "");
    SET(CURLOPT_PROTOCOLS_STR, "http");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_HTTP09_ALLOWED, 0L);
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_NOSIGNAL, 1L);
    if (has_body) {
        SET(CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(request->body != NULL ? request->body_size : 0));
    }
    SET(CURLOPT_CUSTOMREQUEST, request->method);
    SET(CURLOPT_HTTPHEADER, https->headers);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, https);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, https);
#undef SET
    if (result != CURLE_OK)
        return failure_set(failure, FAILURE_INTERNAL, https->step, "libcurl does not take the request: %s",
                           curl_easy_strerror(result));
    return 0;
}

/* For libcurl the relay's end is a plain HTTP server. */
static int url_make_plain(struct https *https, struct failure *failure) {
    if (curl_url_set(https->url, CURLUPART_SCHEME, "http", 0) != CURLUE_OK ||
        curl_url_set(https->url, CURLUPART_PORT, NULL, 0) != CURLUE_OK)
        return failure_set(failure, FAILURE_INTERNAL, https->step, "out of memory");
    return 0;
}

static int transport_open(struct https *https, const struct https_settings *settings, int64_t deadline_ms,
                          struct failure *failure) {
    const struct connect_settings tcp = {https->host, https->port, settings->proxy, https->step};
    struct tls_settings tls = settings->tls;
    tls.server_name = https->host;
    tls.alpn = "http/1.1"; /* RFC 7301 section 6; a server that knows no ALPN ignores it */
    tls.step = https->step;
    if (connect_open(&tcp, deadline_ms, &https->connection, failure) < 0)
        return -1;
    int socket = connect_socket(https->connection);
    if (tls_connect(&tls, socket, deadline_ms, &https->tls, failure) < 0)
        return -1;
    return relay_open(https->tls, socket, https->step, &https->relay, failure);
}

static void pump(struct https *https, int64_t deadline_ms) {
    struct pollfd descriptors[RELAY_DESCRIPTORS];
    struct curl_waitfd waits[RELAY_DESCRIPTORS];
    unsigned count = 0;
    int64_t left = deadline_ms - tls_now_ms();
    relay_prepare(https->relay, descriptors);
    for (size_t i = 0; i < RELAY_DESCRIPTORS; i++)
        if (descriptors[i].fd >= 0)
            waits[count++] =
                (struct curl_waitfd){descriptors[i].fd,
                                     (short)(((descriptors[i].events & POLLIN) != 0 ? CURL_WAIT_POLLIN : 0) |
                                             ((descriptors[i].events & POLLOUT) != 0 ? CURL_WAIT_POLLOUT : 0)),
                                     0};
    curl_multi_poll(https->multi, waits, count, left < 0 ? 0 : left < PUMP_SLICE_MS ? (int)left : PUMP_SLICE_MS, NULL);
}

/* Until libcurl has a response or gives up. */
static int transfer_run(struct https *https, unsigned timeout_s, int64_t deadline_ms, CURLcode *ret,
                        struct failure *failure) {
    int running = 1, left = 0;
    for (;;) {
        if (curl_multi_perform(https->multi, &running) != CURLM_OK)
            return failure_set(failure, FAILURE_INTERNAL, https->step, "libcurl: out of memory");
        if (running == 0)
            break;
        if (tls_now_ms() >= deadline_ms)
            return failure_set(failure, FAILURE_NETWORK, https->step, "no whole response from %s within %u s",
                               https->peer, timeout_s);
        pump(https, deadline_ms);
        relay_run(https->relay);
    }
    const CURLMsg *message = curl_multi_info_read(https->multi, &left);
    *ret = message != NULL && message->msg == CURLMSG_DONE ? message->data.result : CURLE_OUT_OF_MEMORY;
    return 0;
}

static int transfer_fail(const struct https *https, CURLcode result, struct failure *failure) {
    if (https->body_is_too_large)
        return failure_set(failure, FAILURE_NETWORK, https->step, "%s: the response has more than %d bytes",
                           https->peer, HTTPS_BODY_MAX);
    if (https->headers_are_too_large)
        return failure_set(failure, FAILURE_NETWORK, https->step,
                           "%s: the headers of the response have more than %d bytes", https->peer, HTTPS_HEADERS_MAX);
    if (https->out_of_memory || result == CURLE_OUT_OF_MEMORY)
        return failure_set(failure, FAILURE_INTERNAL, https->step, "out of memory");
    if (relay_ended(https->relay) != RELAY_RUNNING)
        return relay_fail(https->relay, https->peer, "end of the response", https->step, failure);
    return failure_set(failure, FAILURE_NETWORK, https->step, "%s sent no usable response: %s", https->peer,
                       https->error[0] != '\0' ? https->error : curl_easy_strerror(result));
}

/* A response without a length ends with its connection (RFC 9112 section 6.3): only close_notify says that this was the
 * server's wish. */
static bool is_cut_off(const struct https *https) {
    curl_off_t length = -1;
    curl_easy_getinfo(https->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    enum relay_end end = relay_ended(https->relay);
    return length < 0 && header_of(https->curl, "Transfer-Encoding") == NULL && end != RELAY_RUNNING &&
           end != RELAY_CLOSED;
}

static int response_take(struct https *https, struct https_response *ret, struct failure *failure) {
    struct https_response *response = &https->response;
    long status = 0;
    char *type = NULL;
    curl_easy_getinfo(https->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(https->curl, CURLINFO_CONTENT_TYPE, &type);
    if (response->body == NULL && (response->body = malloc(1)) == NULL)
        return failure_set(failure, FAILURE_INTERNAL, https->step, "out of memory");
    response->body[response->body_size] = '\0';
    response->status = (int)status;
    response->retry_after_s = retry_after(https->curl);
    snprintf(response->content_type, sizeof response->content_type, "%s", type != NULL ? type : "");
    *ret = *response;
    *response = (struct https_response){0};
    return 0;
}

static bool method_is_known(const char *method) {
    return strcmp(method, "GET") == 0 || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0;
}

int https_exchange(const struct https_settings *settings, const struct https_request *request,
                   struct https_response *ret, struct failure *failure) {
    int64_t deadline_ms = tls_now_ms() + (int64_t)settings->timeout_s * 1000;
    CLEANUP(https_close) struct https https = {.step = settings->step};
    CURLcode result = CURLE_OK;
    https.url = curl_url();
    https.curl = curl_easy_init();
    https.multi = curl_multi_init();
    if (https.url == NULL || https.curl == NULL || https.multi == NULL)
        return failure_set(failure, FAILURE_INTERNAL, https.step, "out of memory");
    if (!method_is_known(request->method))
        return failure_set(failure, FAILURE_INVALID, https.step, "the HTTP method is not GET, POST or PUT");
    if (url_read(&https, request->url, failure) < 0 || headers_make(&https, request, failure) < 0 ||
        url_make_plain(&https, failure) < 0 || transport_open(&https, settings, deadline_ms, failure) < 0 ||
        curl_configure(&https, request, failure) < 0)
        return -1;
    if (curl_multi_add_handle(https.multi, https.curl) != CURLM_OK)
        return failure_set(failure, FAILURE_INTERNAL, https.step, "out of memory");
    if (transfer_run(&https, settings->timeout_s, deadline_ms, &result, failure) < 0)
        return -1;
    if (result != CURLE_OK || is_cut_off(&https))
        return transfer_fail(&https, result, failure);
    return response_take(&https, ret, failure);
}

void https_response_clear(struct https_response *response) {
    if (response->body != NULL)
        explicit_bzero(response->body, response->body_size);
    free(response->body);
    *response = (struct https_response){0};
}

#include "control_server.h"

#include <microhttpd.h>

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Bytes of a request's line and headers. */
#define HEADER_LIMIT (32 * 1024)
#define CONNECTION_LIMIT 32
#define CONNECTION_SECONDS 30
/* The broker has more to do than this. */
#define REQUESTS_PER_TICK 100

struct control_server {
    struct MHD_Daemon *daemon;
    pthread_mutex_t mutex;
    pthread_cond_t answered, asked;
    const struct control_request *request; /* that waits for its answer, or NULL */
    struct control_response *response;
    bool stopping;
};

/* A request that is being received. */
struct transfer {
    char *target;
    char *body;
    size_t size;
    bool begun;
    bool too_large;
};

/* The first thing that libmicrohttpd tells of a request: its target, before it decodes anything. */
static void *begin_transfer(void *userdata, const char *target, struct MHD_Connection *connection) {
    struct transfer *transfer = calloc(1, sizeof *transfer);
    (void)userdata;
    (void)connection;
    if (transfer != NULL)
        transfer->target = strdup(target);
    return transfer;
}

static void end_transfer(void *userdata, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code) {
    struct transfer *transfer = *context;
    (void)userdata;
    (void)connection;
    (void)code;
    if (transfer == NULL)
        return;
    free(transfer->target);
    free(transfer->body);
    free(transfer);
    *context = NULL;
}

/* What is too much is read and forgotten, so that the client gets to read the refusal. */
static void add_body(struct transfer *transfer, const char *bytes, size_t size) {
    if (transfer->too_large || size > CONTROL_BODY_LIMIT - transfer->size) {
        transfer->too_large = true;
        return;
    }
    char *body = realloc(transfer->body, transfer->size + size);
    if (body == NULL) {
        transfer->too_large = true;
        return;
    }
    memcpy(body + transfer->size, bytes, size);
    transfer->body = body;
    transfer->size += size;
}

static enum MHD_Result send_response(struct MHD_Connection *connection, struct control_response *response) {
    size_t length = response->body != NULL ? strlen(response->body) : 0;
    struct MHD_Response *http = MHD_create_response_from_buffer(length, response->body, MHD_RESPMEM_MUST_FREE);
    if (http == NULL) {
        free(response->body);
        return MHD_NO;
    }
    MHD_add_response_header(http, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    if (response->error_code != NULL)
        MHD_add_response_header(http, "x-amzn-ErrorType", response->error_code);
    enum MHD_Result result = MHD_queue_response(connection, (unsigned)response->status, http);
    MHD_destroy_response(http);
    return result;
}

static void refuse(struct control_response *response, int status, const char *error_code) {
    response->status = status;
    response->error_code = error_code;
    response->body = strdup("{}");
}

/* The thread of libmicrohttpd waits here, one request at a time. */
static void exchange(struct control_server *server, const struct control_request *request,
                     struct control_response *response) {
    pthread_mutex_lock(&server->mutex);
    server->request = request;
    server->response = response;
    pthread_cond_signal(&server->asked);
    while (server->request != NULL && !server->stopping)
        pthread_cond_wait(&server->answered, &server->mutex);
    bool answered = server->request == NULL;
    server->request = NULL;
    pthread_mutex_unlock(&server->mutex);
    if (!answered)
        refuse(response, MHD_HTTP_SERVICE_UNAVAILABLE, "ServiceUnavailableException");
}

static bool is_authorized(struct MHD_Connection *connection) {
    static const char prefix[] = "AWS4-HMAC-SHA256 ";
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    return value != NULL && strncmp(value, prefix, strlen(prefix)) == 0;
}

static enum MHD_Result receive(void *userdata, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *bytes, size_t *size, void **context) {
    struct transfer *transfer = *context;
    struct control_response response = {0};
    (void)url;
    (void)version;
    if (transfer == NULL || transfer->target == NULL)
        return MHD_NO;
    if (!transfer->begun) {
        transfer->begun = true; /* the headers are there, the body comes with the next calls */
        return MHD_YES;
    }
    if (*size > 0) {
        add_body(transfer, bytes, *size);
        *size = 0;
        return MHD_YES;
    }
    const struct control_request request = {
        .method = method,
        .target = transfer->target,
        .principal = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "x-amzn-principal"),
        .authorized = is_authorized(connection),
        .body = transfer->body != NULL ? transfer->body : "",
        .body_size = transfer->size,
    };
    if (transfer->too_large)
        refuse(&response, MHD_HTTP_CONTENT_TOO_LARGE, "RequestEntityTooLargeException");
    else
        exchange(userdata, &request, &response);
    return send_response(connection, &response);
}

/* The broker's signals are for the broker's thread. */
static struct MHD_Daemon *start_daemon(struct control_server *server, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    sigset_t all, before;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL, port, NULL, NULL, receive, server, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&address, MHD_OPTION_URI_LOG_CALLBACK, begin_transfer, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        end_transfer, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_LIMIT, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)CONNECTION_LIMIT, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CONNECTION_SECONDS, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

struct control_server *control_server_start(uint16_t port, uint16_t *ret_port) {
    struct control_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return NULL;
    pthread_mutex_init(&server->mutex, NULL);
    pthread_cond_init(&server->answered, NULL);
    pthread_cond_init(&server->asked, NULL);
    errno = 0;
    server->daemon = start_daemon(server, port);
    const union MHD_DaemonInfo *info =
        server->daemon != NULL ? MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (info == NULL) {
        int error = errno != 0 ? errno : EADDRNOTAVAIL;
        server = control_server_stop(server);
        errno = error;
        return server;
    }
    *ret_port = info->port;
    return server;
}

/* Whether there is a request within that time. */
static bool wait_for_request(struct control_server *server, unsigned milliseconds) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_nsec += (long)milliseconds * 1000000;
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    while (server->request == NULL && milliseconds > 0 &&
           pthread_cond_timedwait(&server->asked, &server->mutex, &end) == 0)
        ;
    return server->request != NULL;
}

void control_server_tick(struct control_server *server, control_answer answer, void *userdata, unsigned milliseconds) {
    pthread_mutex_lock(&server->mutex);
    for (unsigned i = 0; i < REQUESTS_PER_TICK && wait_for_request(server, milliseconds); i++) {
        answer(userdata, server->request, server->response);
        server->request = NULL;
        pthread_cond_signal(&server->answered);
    }
    pthread_mutex_unlock(&server->mutex);
}

struct control_server *control_server_stop(struct control_server *server) {
    if (server == NULL)
        return NULL;
    pthread_mutex_lock(&server->mutex);
    server->stopping = true;
    pthread_cond_signal(&server->answered);
    pthread_mutex_unlock(&server->mutex);
    if (server->daemon != NULL)
        MHD_stop_daemon(server->daemon);
    pthread_cond_destroy(&server->answered);
    pthread_cond_destroy(&server->asked);
    pthread_mutex_destroy(&server->mutex);
    free(server);
    return NULL;
}

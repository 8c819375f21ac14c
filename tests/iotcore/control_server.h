/* HTTP for the control plane: a thread of libmicrohttpd reads requests and writes answers; what is between them is done
 * by whoever calls control_server_tick(), so that the registry has one thread that reads and writes it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a request's body. */
#define CONTROL_BODY_LIMIT (128 * 1024)

struct control_request {
    const char *method;
    const char *target;    /* as it stands in the request line */
    const char *principal; /* header x-amzn-principal, or NULL */
    bool authorized;       /* there is an Authorization header of AWS's kind; its signature is not verified */
    const char *body;
    size_t body_size;
};

struct control_response {
    int status;
    const char *error_code; /* header x-amzn-ErrorType, or NULL */
    char *body;             /* JSON, from malloc(), or NULL for none */
};

/* Fills the response. */
typedef void (*control_answer)(void *userdata, const struct control_request *request,
                               struct control_response *response);

struct control_server;

/* Listens on that port of 127.0.0.1, 0 for any free one. NULL with errno. */
struct control_server *control_server_start(uint16_t port, uint16_t *ret_port);

/* Has the request answered that waits, if there is one; and each that comes within so many milliseconds after another,
 * or after the beginning. */
void control_server_tick(struct control_server *server, control_answer answer, void *userdata, unsigned milliseconds);

/* A request that waits is answered with 503. */
struct control_server *control_server_stop(struct control_server *server);

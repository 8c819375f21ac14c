/* One HTTPS request: libcurl speaks plain HTTP/1.1 to a private unix socket, and a relay carries its bytes over wolfSSL
 * (tls.h) to the server. Nothing is followed, kept or read from the environment: no redirections, cookies, netrc,
 * proxies but the configured one. */
#pragma once

#include "common/failure.h"
#include "worker/key.h"
#include "worker/tls.h"

#include <stddef.h>
#include <stdint.h>

#define HTTPS_BODY_MAX (128 * 1024)
/* All header lines of a response together. */
#define HTTPS_HEADERS_MAX (32 * 1024)
#define HTTPS_REQUEST_HEADERS_MAX 32

struct https_settings {
    const char *proxy;       /* "http://host:port", NULL for none */
    struct tls_settings tls; /* server_name, alpn and step are set by https_exchange() */
    const char *step;        /* for failures */
    unsigned timeout_s;      /* name resolution, TCP, TLS, request and the whole response together */
};

struct https_request {
    const char *method;         /* "GET", "POST" or "PUT" */
    const char *url;            /* https://HOST[:PORT]/PATH, without a user name; HOST may be an address */
    const char *const *headers; /* "Name: value", the last one NULL; or NULL */
    const void *body;           /* NULL for none */
    size_t body_size;
};

struct https_response {
    int status;
    char content_type[128]; /* "" if there is none */
    char *body;             /* NUL-terminated, may hold NUL; wiped and freed by https_response_clear() */
    size_t body_size;
    uint32_t retry_after_s; /* from now: the header's seconds, or its date less the Date header's; 0 for none */
};

/* Sends the request and takes the response, whatever its status. Classes: `network` for all that is not a whole
 * response (name resolution, TCP, TLS, a response that is cut off, too large or no HTTP, silence), `denied` for an
 * alert about the client certificate inside the session, `invalid` for a request that cannot be sent, `clock` (tls.h).
 * Messages name host and port: never path and query of the URL, nor headers or bodies. */
int https_exchange(const struct https_settings *settings, const struct https_request *request,
                   struct https_response *ret, struct failure *failure);

void https_response_clear(struct https_response *response);

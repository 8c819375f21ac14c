/* The TLS front of the stand-in: a process that does the handshake as AWS IoT Core does, which no broker can be told to
 * do, and hands the bytes of MQTT on to the broker behind a unix socket. It takes certificates of any issuer, has no
 * session tickets, and can refuse a certificate in the handshake. Who comes is told to the plugin as arrival.h says. */
#pragma once

#include <openssl/ssl.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Connections at a time. */
#define FRONT_VISITS 1024

struct front {
    char *host;          /* the endpoint's name */
    char *broker_path;   /* the broker's socket */
    char *notes_path;    /* the folder for notes and options */
    char *registry_path; /* where the front looks whether a certificate is ACTIVE */
    SSL_CTX *context;
    int listener;
    atomic_uint visits;
    atomic_uint_fast64_t last_number;
};

enum front_refusal {
    FRONT_REFUSE_LATER, /* the plugin refuses the CONNECT */
    FRONT_REFUSE_BY_ALERT,
    FRONT_REFUSE_BY_CLOSE,
    FRONT_REFUSE_AFTER_HANDSHAKE,
};

/* One connection of a device. */
struct front_visit {
    struct front *front;
    uint64_t number;
    int fd;
    char address[64];
    SSL *ssl;
    STACK_OF(X509) * chain; /* as sent, the client's own certificate first */
    enum front_refusal refusal;
    int alert;
    bool require_sni;
    const char *tls_version; /* any, 1.2 or 1.3 */
};

/* front_tls.c: a context with the endpoint's certificate and key; NULL if it can't be made. */
SSL_CTX *front_tls_context(const char *certificate_path, const char *key_path);

/* front_tls.c: an SSL object for the visit, whose options are set; NULL if out of memory. */
SSL *front_tls_start(struct front_visit *visit);

/* front_note.c: reads the options that the plugin has written; without any the defaults stay. */
void front_note_read_options(struct front_visit *visit);

/* front_note.c: whether the registry has the certificate as ACTIVE. */
bool front_note_is_active(const struct front_visit *visit, X509 *certificate);

/* front_note.c: writes the note for the plugin. Returns 0 or a negative errno. */
int front_note_write(const struct front_visit *visit, bool handshake);
/* If the plugin has not taken it. */
void front_note_remove(const struct front_visit *visit);

/* front_visit.c: everything from the handshake to the end of the connection; takes the visit's fd, and frees it. */
void front_visit_serve(struct front_visit *visit);

/* front_visit.c: tells the plugin of a certificate that is about to be refused before any CONNECT, and waits until it
 * has dealt with it. */
void front_visit_announce(const struct front_visit *visit);

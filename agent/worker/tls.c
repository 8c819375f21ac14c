#include "worker/tls.h"

#include "common/cleanup.h"

#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Bits. NIST SP 800-131A allows nothing shorter, and Amazon's CAs and servers use nothing shorter. */
#define RSA_BITS_MIN 2048
#define ECC_BITS_MIN 256
/* wolfSSL_version(): the protocol's own numbers (RFC 5246, RFC 8446 section 4.2.1). */
#define VERSION_TLS_1_2 0x0303
#define VERSION_TLS_1_3 0x0304

/* RFC 8446 section 5.1: type, version, length. */
#define RECORD_HEADER_SIZE 5
#define RECORD_ALERT 21
#define ALERT_SIZE_PLAIN 2

struct tls {
    WOLFSSL_CTX *context;
    WOLFSSL *session;
    int socket;
    int transport_error; /* negative errno of the socket, -EPIPE for a FIN, 0 while it works */
    bool established;    /* the handshake is over and the policy holds */
    bool shut;           /* close_notify was sent */
    bool plain_alert;    /* somebody sent an alert that no key protects */
    uint8_t record_header[RECORD_HEADER_SIZE];
    size_t record_header_size; /* received so far */
    size_t record_left;        /* bytes of the present record that are still to come */
    bool read_wants_write;
    bool write_wants_write;
    char alert[64];
};

/* Authenticated encryption and ephemeral keys only, as the IANA registry numbers them; all of them are in AWS IoT's
 * security policies but ChaCha20 (AWS IoT Developer Guide, "Transport security in AWS IoT Core"). */
static const uint8_t suites[] = {
    0x13, 0x01, /* TLS_AES_128_GCM_SHA256 */
    0x13, 0x02, /* TLS_AES_256_GCM_SHA384 */
    0x13, 0x03, /* TLS_CHACHA20_POLY1305_SHA256 */
    0xc0, 0x2b, /* TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
    0xc0, 0x2f, /* TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 */
    0xc0, 0x2c, /* TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 */
    0xc0, 0x30, /* TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 */
    0xcc, 0xa9, /* TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 */
    0xcc, 0xa8, /* TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 */
};

/* What wolfSSL says about a server that it refused. The first two go on with the name of the trust anchors. */
static const struct {
    int error;
    const char *text;
} refusals[] = {
    {ASN_NO_SIGNER_E, "the server's certificate is not signed by a CA in "},
    {ASN_SELF_SIGNED_E, "the server's certificate is self-signed and not in "},
    {ASN_SIG_CONFIRM_E, "the signature of the server's certificate is wrong"},
    {ASN_PATHLEN_INV_E, "the server's chain is longer than a CA in it allows"},
    {ASN_PATHLEN_SIZE_E, "the server's chain is longer than a CA in it allows"},
    {MAX_CHAIN_ERROR, "the server's chain is too long"},
    {DOMAIN_NAME_MISMATCH, "the server's certificate is for another host name"},
    {IPADDR_MISMATCH, "the server's certificate is for another address"},
    {EXTKEYUSE_AUTH_E, "the server's certificate is not for servers (extended key usage)"},
    {KEYUSE_SIGNATURE_E, "the server's certificate is not for signatures (key usage)"},
    {RSA_KEY_SIZE_E, "the server's RSA key is shorter than 2048 bits"},
    {ECC_KEY_SIZE_E, "the server's EC key is shorter than 256 bits"},
    {NO_PEER_CERT, "the server sent no certificate"},
    {VERSION_ERROR, "the server's TLS version is too old"},
    {UNSUPPORTED_PROTO_VERSION, "the server's TLS version is too old"},
    {MATCH_SUITE_ERROR, "the server chose a cipher suite that was not offered"},
    {UNSUPPORTED_SUITE, "the server chose a cipher suite that was not offered"},
    {UNKNOWN_ALPN_PROTOCOL_NAME_E, "the server chose an application protocol that was not offered (ALPN)"},
};

static void cleanup_tls(struct tls **tls) {
    tls_free(*tls);
}

int64_t tls_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Own callbacks instead of wolfSSL's, for the errno, to know a FIN from close_notify, and to write without SIGPIPE. */
static int transport_result(struct tls *tls, ssize_t size, int again) {
    if (size > 0)
        return (int)size;
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return again;
    tls->transport_error = size == 0 ? -EPIPE : -errno;
    return size == 0 ? WOLFSSL_CBIO_ERR_CONN_CLOSE : WOLFSSL_CBIO_ERR_CONN_RST;
}

/* wolfSSL (5.9 at least) takes an alert in plain text for the server's also inside a TLS 1.3 session, where anybody on
 * the path can add one, and does not tell. Protected alerts are application data by their header in TLS 1.3, and longer
 * than two bytes in TLS 1.2. */
static void records_follow(struct tls *tls, const uint8_t *data, size_t size) {
    while (size > 0) {
        size_t part = tls->record_left < size ? tls->record_left : size;
        tls->record_left -= part;
        data += part;
        size -= part;
        if (size == 0)
            return;
        tls->record_header[tls->record_header_size++] = *data++;
        size--;
        if (tls->record_header_size < RECORD_HEADER_SIZE)
            continue;
        tls->record_header_size = 0;
        tls->record_left = (size_t)tls->record_header[3] << 8 | tls->record_header[4];
        if (tls->record_header[0] == RECORD_ALERT && tls->record_left <= ALERT_SIZE_PLAIN)
            tls->plain_alert = true;
    }
}

/* Acknowledges at once: a server with Nagle's algorithm on (mosquitto's default) holds the second of two small writes,
 * such as PUBACK and reply, until the first is acknowledged, which Linux puts off for 40 ms. The option has to be set
 * again each time (tcp(7)). */
static int transport_receive(WOLFSSL *session, char *data, int size, void *userdata) {
    struct tls *tls = userdata;
    const int on = 1;
    (void)session;
    ssize_t received = recv(tls->socket, data, (size_t)size, 0);
    if (received > 0) {
        setsockopt(tls->socket, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
        records_follow(tls, (const uint8_t *)data, (size_t)received);
    }
    return transport_result(tls, received, WOLFSSL_CBIO_ERR_WANT_READ);
}

/* A send that fails in a standing session says less than what the server may have written before: the alert that tells
 * why it left, which wolfSSL would not read any more after an error. So the write waits and the read finds the end. */
static int transport_send(WOLFSSL *session, char *data, int size, void *userdata) {
    struct tls *tls = userdata;
    (void)session;
    ssize_t sent = send(tls->socket, data, (size_t)size, MSG_NOSIGNAL);
    if (sent < 0 && tls->established && (errno == EPIPE || errno == ECONNRESET))
        errno = EAGAIN;
    return transport_result(tls, sent, WOLFSSL_CBIO_ERR_WANT_WRITE);
}

static const char *anchors_name(const struct tls_settings *settings) {
    return settings->anchors != NULL ? settings->anchors : "RootCA=";
}

static int context_load_anchors(WOLFSSL_CTX *context, const struct tls_settings *settings, struct failure *failure) {
    /* Takes what it can of a bundle; an error is that of the last one when none could be taken. */
    int result = wolfSSL_CTX_load_verify_buffer(context, (const unsigned char *)settings->root_ca_pem,
                                                (long)settings->root_ca_size, WOLFSSL_FILETYPE_PEM);
    if (result == WOLFSSL_SUCCESS)
        return 0;
    if (result == ASN_BEFORE_DATE_E || (result == ASN_AFTER_DATE_E && settings->clock_is_doubtful))
        return failure_set(failure, FAILURE_CLOCK, settings->step, "the certificates in %s %s: is the clock right?",
                           anchors_name(settings), result == ASN_BEFORE_DATE_E ? "are not valid yet" : "have expired");
    return failure_set(
        failure, FAILURE_INVALID, settings->step, "%s has no usable certificate: %s", anchors_name(settings),
        result == ASN_AFTER_DATE_E ? "they have expired" : wolfSSL_ERR_reason_error_string((unsigned long)result));
}

static int context_load_client(WOLFSSL_CTX *context, const struct tls_settings *settings, struct failure *failure) {
    if (settings->certificate_pem == NULL)
        return 0;
    int result = wolfSSL_CTX_use_certificate_chain_buffer(context, (const unsigned char *)settings->certificate_pem,
                                                          (long)settings->certificate_size);
    if (result != WOLFSSL_SUCCESS)
        return failure_set(failure, FAILURE_INVALID, settings->step, "the client certificate cannot be used: %s",
                           wolfSSL_ERR_reason_error_string((unsigned long)result));
    return key_use_in_tls(settings->key, context, failure);
}

/* P-256 first: wolfSSL sends a key share for the first group only, and every server has that one. P-384 is there
 * because in TLS 1.2 the list also says which certificates may be used (RFC 8422 section 5.1). */
static int context_set_groups(WOLFSSL_CTX *context) {
    int groups[] = {WOLFSSL_ECC_SECP256R1, WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP384R1};
    return wolfSSL_CTX_set_groups(context, groups, sizeof groups / sizeof groups[0]);
}

static int context_set_policy(WOLFSSL_CTX *context, enum tls_version minimum) {
    int version = minimum == TLS_VERSION_1_3 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2;
    bool set = wolfSSL_CTX_SetMinVersion(context, version) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_set_cipher_list_bytes(context, suites, sizeof suites) == WOLFSSL_SUCCESS &&
               context_set_groups(context) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_SetMinRsaKey_Sz(context, RSA_BITS_MIN) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_SetMinEccKey_Sz(context, ECC_BITS_MIN) == WOLFSSL_SUCCESS;
    wolfSSL_CTX_set_verify(context, WOLFSSL_VERIFY_PEER | WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    wolfSSL_CTX_set_session_cache_mode(context, WOLFSSL_SESS_CACHE_OFF);
    return set ? 0 : -EINVAL;
}

/* The only place of the worker that makes a WOLFSSL_CTX. */
static int context_new(const struct tls_settings *settings, WOLFSSL_CTX **ret, struct failure *failure) {
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfTLS_client_method());
    if (context == NULL)
        return failure_set(failure, FAILURE_INTERNAL, settings->step, "out of memory");
    *ret = context; /* freed with the struct tls, whatever happens below */
    if (context_set_policy(context, settings->minimum) < 0)
        return failure_set(failure, FAILURE_INTERNAL, settings->step, "wolfSSL does not take the TLS policy");
    wolfSSL_CTX_SetIORecv(context, transport_receive);
    wolfSSL_CTX_SetIOSend(context, transport_send);
    if (context_load_anchors(context, settings, failure) < 0)
        return -1;
    return context_load_client(context, settings, failure);
}

/* wolfSSL compares texts, and writes the address of a certificate without leaving out zeros. */
static void address_write_out(const struct in6_addr *address, char text[INET6_ADDRSTRLEN]) {
    for (size_t i = 0; i < sizeof address->s6_addr; i += 2)
        text += snprintf(text, sizeof ":FFFF", i > 0 ? ":%02X%02X" : "%02X%02X", address->s6_addr[i],
                         address->s6_addr[i + 1]);
}

/* An address is not told by SNI (RFC 6066 section 3), and is compared with the addresses of the certificate. */
static bool session_set_name(struct tls *tls, const char *name) {
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];
    bool v4 = inet_pton(AF_INET, name, &address) == 1;
    if (v4 || inet_pton(AF_INET6, name, &address) == 1) {
        snprintf(text, sizeof text, "%s", name);
        if (!v4)
            address_write_out(&address, text);
        return wolfSSL_X509_VERIFY_PARAM_set1_ip_asc(wolfSSL_get0_param(tls->session), text) == WOLFSSL_SUCCESS;
    }
    return wolfSSL_check_domain_name(tls->session, name) == WOLFSSL_SUCCESS &&
           wolfSSL_UseSNI(tls->session, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)strlen(name)) == WOLFSSL_SUCCESS;
}

static int session_new(struct tls *tls, const struct tls_settings *settings, struct failure *failure) {
    tls->session = wolfSSL_new(tls->context);
    if (tls->session == NULL)
        return failure_set(failure, FAILURE_INTERNAL, settings->step, "out of memory");
    wolfSSL_SetIOReadCtx(tls->session, tls);
    wolfSSL_SetIOWriteCtx(tls->session, tls);
    if (settings->key != NULL)
        key_use_in_session(settings->key, tls->session);
    bool set = session_set_name(tls, settings->server_name);
    if (set && settings->alpn != NULL) {
        char alpn[64]; /* wolfSSL cuts it at commas in place */
        snprintf(alpn, sizeof alpn, "%s", settings->alpn);
        set = wolfSSL_UseALPN(tls->session, alpn, (unsigned)strlen(alpn), WOLFSSL_ALPN_FAILED_ON_MISMATCH) ==
              WOLFSSL_SUCCESS;
    }
    return set ? 0
               : failure_set(failure, FAILURE_INVALID, settings->step, "\"%s\" cannot be used as a server name",
                             settings->server_name);
}

/* Returns 0, or the error of wolfSSL; WANT_READ or WANT_WRITE mean that the deadline has passed. */
static int handshake_run(struct tls *tls, int64_t deadline_ms) {
    for (;;) {
        int result = wolfSSL_connect(tls->session);
        if (result == WOLFSSL_SUCCESS)
            return 0;
        int error = wolfSSL_get_error(tls->session, result);
        int64_t left = deadline_ms - tls_now_ms();
        if ((error != WOLFSSL_ERROR_WANT_READ && error != WOLFSSL_ERROR_WANT_WRITE) || left <= 0)
            return error;
        struct pollfd pollfd = {tls->socket, error == WOLFSSL_ERROR_WANT_READ ? POLLIN : POLLOUT, 0};
        poll(&pollfd, 1, left < INT_MAX ? (int)left : INT_MAX);
    }
}

static void alert_note(struct tls *tls) {
    WOLFSSL_ALERT_HISTORY history;
    wolfSSL_get_alert_history(tls->session, &history);
    if (history.last_rx.level != alert_fatal)
        return;
    int code = history.last_rx.code;
    const char *name = wolfSSL_alert_desc_string_long(code);
    if (name == NULL) /* wolfSSL 5.5 does not know all names of RFC 8446 section 6 */
        name = code == certificate_required ? "certificate_required" : "unknown";
    snprintf(tls->alert, sizeof tls->alert, "%s (%d)", name, code);
}

/* The dates of the server's own certificate; a bad one of an intermediate leaves wolfSSL with none to show. */
static int dates_fail(struct tls *tls, const struct tls_settings *settings, int error, struct failure *failure) {
    bool early = error == ASN_BEFORE_DATE_E;
    char date[64] = "";
    WOLFSSL_X509 *certificate = wolfSSL_get_peer_certificate(tls->session);
    if (certificate != NULL) {
        WOLFSSL_ASN1_TIME *time =
            early ? wolfSSL_X509_get_notBefore(certificate) : wolfSSL_X509_get_notAfter(certificate);
        wolfSSL_ASN1_TIME_to_string(time, date, sizeof date);
        wolfSSL_X509_free(certificate);
    }
    const char *which = date[0] != '\0' ? "the server's certificate" : "a certificate of the server's chain";
    bool doubtful = early || settings->clock_is_doubtful;
    return failure_set(failure, doubtful ? FAILURE_CLOCK : FAILURE_NETWORK, settings->step, "%s: %s %s %s%s",
                       settings->server_name, which, early ? "is not valid before" : "expired on",
                       date[0] != '\0' ? date : "a date unknown", doubtful ? ": is the clock right?" : "");
}

static const char *refusal_text(int error) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (refusals[i].error == error)
            return refusals[i].text;
    return NULL;
}

/* In TLS 1.2 a server judges the client within the handshake: what ended it may have been its refusal. */
static bool server_was_verified(struct tls *tls) {
    WOLFSSL_X509 *certificate = wolfSSL_get_peer_certificate(tls->session);
    wolfSSL_X509_free(certificate);
    return certificate != NULL;
}

static int cut_fail(struct tls *tls, const struct tls_settings *settings, struct failure *failure) {
    const char *host = settings->server_name;
    if (tls->alert[0] != '\0')
        failure_record(failure, FAILURE_NETWORK, settings->step, "%s ended the TLS handshake: alert %s", host,
                       tls->alert);
    else if (tls->transport_error == -EPIPE)
        failure_record(failure, FAILURE_NETWORK, settings->step, "%s closed the connection in the TLS handshake", host);
    else
        failure_record(failure, FAILURE_NETWORK, settings->step, "%s: %s in the TLS handshake", host,
                       strerror(-tls->transport_error));
    failure->reached = server_was_verified(tls);
    return -1;
}

/* Everything before the end of the handshake is unauthenticated, hence `network`, but for our own side of it. */
static int handshake_fail(struct tls *tls, const struct tls_settings *settings, int error, struct failure *failure) {
    const char *host = settings->server_name, *step = settings->step;
    const char *key_error = settings->key != NULL ? key_last_error(settings->key) : NULL;
    if (error == ASN_BEFORE_DATE_E || error == ASN_AFTER_DATE_E)
        return dates_fail(tls, settings, error, failure);
    if (refusal_text(error) != NULL)
        return failure_set(failure, FAILURE_NETWORK, step, "%s: %s%s", host, refusal_text(error),
                           error == ASN_NO_SIGNER_E || error == ASN_SELF_SIGNED_E ? anchors_name(settings) : "");
    if (error == WOLFSSL_ERROR_WANT_READ || error == WOLFSSL_ERROR_WANT_WRITE)
        return failure_set(failure, FAILURE_NETWORK, step, "%s: no answer in the TLS handshake", host);
    alert_note(tls);
    if (tls->alert[0] != '\0' || tls->transport_error != 0)
        return cut_fail(tls, settings, failure);
    if (key_error != NULL)
        return failure_set(failure, FAILURE_TPM, step, "the device key cannot sign: %s", key_error);
    return failure_set(failure, FAILURE_NETWORK, step, "%s: TLS handshake failed: %s (%d)", host,
                       wolfSSL_ERR_reason_error_string((unsigned long)error), error);
}

static bool suite_is_offered(int suite) {
    for (size_t i = 0; i < sizeof suites; i += 2)
        if ((suites[i] << 8 | suites[i + 1]) == suite)
            return true;
    return false;
}

/* What the settings demand must also have come about: wolfSSL lets a server skip its Certificate message in suites
 * that have none, and a flaw in wolfSSL's state machine should not be enough for an unauthenticated session. */
static int policy_check(struct tls *tls, const struct tls_settings *settings, struct failure *failure) {
    int version = wolfSSL_version(tls->session);
    WOLFSSL_X509 *certificate = wolfSSL_get_peer_certificate(tls->session);
    bool authenticated = certificate != NULL;
    wolfSSL_X509_free(certificate);
    const char *wrong = NULL;
    if (!authenticated)
        wrong = refusal_text(NO_PEER_CERT);
    else if (version != VERSION_TLS_1_3 && (version != VERSION_TLS_1_2 || settings->minimum == TLS_VERSION_1_3))
        wrong = refusal_text(VERSION_ERROR);
    else if (!suite_is_offered(wolfSSL_get_current_cipher_suite(tls->session)))
        wrong = refusal_text(MATCH_SUITE_ERROR);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_NETWORK, settings->step, "%s: %s", settings->server_name, wrong);
    return 0;
}

int tls_connect(const struct tls_settings *settings, int socket, int64_t deadline_ms, struct tls **ret,
                struct failure *failure) {
    CLEANUP(cleanup_tls) struct tls *tls = calloc(1, sizeof *tls);
    if (tls == NULL)
        return failure_set(failure, FAILURE_INTERNAL, settings->step, "out of memory");
    tls->socket = socket;
    if (context_new(settings, &tls->context, failure) < 0 || session_new(tls, settings, failure) < 0)
        return -1;
    int error = handshake_run(tls, deadline_ms);
    if (error != 0)
        return handshake_fail(tls, settings, error, failure);
    if (policy_check(tls, settings, failure) < 0)
        return -1;
    tls->established = true;
    *ret = TAKE_POINTER(tls);
    return 0;
}

/* The errno of a read or write that gave nothing. An alert counts only here, where wolfSSL has decrypted it. */
static int session_error(struct tls *tls, int result, bool *wants_write) {
    int error = wolfSSL_get_error(tls->session, result);
    WOLFSSL_ALERT_HISTORY history;
    if (error == WOLFSSL_ERROR_WANT_READ || error == WOLFSSL_ERROR_WANT_WRITE) {
        *wants_write = error == WOLFSSL_ERROR_WANT_WRITE;
        return -EAGAIN;
    }
    if (tls->plain_alert)
        return -EBADMSG;
    alert_note(tls);
    if (tls->alert[0] != '\0')
        return -EPROTO;
    wolfSSL_get_alert_history(tls->session, &history);
    if (history.last_rx.code == close_notify)
        return 0;
    return tls->transport_error != 0 ? tls->transport_error : -EBADMSG;
}

int tls_read(struct tls *tls, void *data, size_t size) {
    int result = wolfSSL_read(tls->session, data, size < INT_MAX ? (int)size : INT_MAX);
    tls->read_wants_write = false;
    return result > 0 ? result : session_error(tls, result, &tls->read_wants_write);
}

int tls_write(struct tls *tls, const void *data, size_t size) {
    int result = wolfSSL_write(tls->session, data, size < INT_MAX ? (int)size : INT_MAX);
    tls->write_wants_write = false;
    return result > 0 ? result : session_error(tls, result, &tls->write_wants_write);
}

bool tls_wants_write(const struct tls *tls) {
    return tls->read_wants_write || tls->write_wants_write;
}

const char *tls_alert_text(const struct tls *tls) {
    return tls->alert;
}

bool tls_was_refused(const struct tls *tls) {
    WOLFSSL_ALERT_HISTORY history;
    wolfSSL_get_alert_history(tls->session, &history);
    int code = history.last_rx.code;
    return tls->alert[0] != '\0' && ((code >= bad_certificate && code <= certificate_unknown) || code == unknown_ca ||
                                     code == access_denied || code == certificate_required);
}

void tls_shutdown(struct tls *tls) {
    if (tls->established && !tls->shut)
        wolfSSL_shutdown(tls->session);
    tls->shut = true;
}

struct tls *tls_free(struct tls *tls) {
    if (tls == NULL)
        return NULL;
    if (tls->session != NULL)
        tls_shutdown(tls);
    wolfSSL_free(tls->session);
    wolfSSL_CTX_free(tls->context);
    free(tls);
    return NULL;
}

#include "front.h"

#include <openssl/x509_vfy.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ALPN_MQTT "x-amzn-mqtt-ca"

/* OpenSSL chooses the alert by the error of the verification (RFC 8446, section 6). */
static int error_of_alert(int alert) {
    static const struct {
        int alert;
        int error;
    } table[] = {
        {SSL_AD_HANDSHAKE_FAILURE, X509_V_ERR_APPLICATION_VERIFICATION},
        {SSL_AD_BAD_CERTIFICATE, X509_V_ERR_CERT_REJECTED},
        {SSL_AD_UNSUPPORTED_CERTIFICATE, X509_V_ERR_INVALID_PURPOSE},
        {SSL_AD_CERTIFICATE_REVOKED, X509_V_ERR_CERT_REVOKED},
        {SSL_AD_CERTIFICATE_EXPIRED, X509_V_ERR_CERT_HAS_EXPIRED},
        {SSL_AD_UNKNOWN_CA, X509_V_ERR_INVALID_CA},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].alert == alert)
            return table[i].error;
    /* What has no alert of its own becomes certificate_unknown. */
    return X509_V_ERR_NO_EXPLICIT_POLICY;
}

/* In place of any verification: who has signed it does not matter ("X.509 client certificates"). */
static int verify(X509_STORE_CTX *store, void *userdata) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct front_visit *visit = SSL_get_app_data(ssl);
    bool early = visit->refusal == FRONT_REFUSE_BY_ALERT || visit->refusal == FRONT_REFUSE_BY_CLOSE;
    (void)userdata;
    sk_X509_pop_free(visit->chain, X509_free);
    visit->chain = X509_chain_up_ref(X509_STORE_CTX_get0_untrusted(store));
    if (visit->chain == NULL)
        return 0;
    if (!early || front_note_is_active(visit, X509_STORE_CTX_get0_cert(store))) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    front_visit_announce(visit);
    if (visit->refusal == FRONT_REFUSE_BY_CLOSE)
        shutdown(visit->fd, SHUT_WR); /* so that no alert can follow */
    X509_STORE_CTX_set_error(store, error_of_alert(visit->alert));
    return 0;
}

static int check_server_name(SSL *ssl, int *alert, void *userdata) {
    const struct front_visit *visit = SSL_get_app_data(ssl);
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    (void)userdata;
    if (name != NULL && strcmp(name, visit->front->host) == 0)
        return SSL_TLSEXT_ERR_OK;
    if (!visit->require_sni)
        return SSL_TLSEXT_ERR_NOACK;
    *alert = SSL_AD_UNRECOGNIZED_NAME;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int select_protocol(SSL *ssl, const unsigned char **ret, unsigned char *ret_length, const unsigned char *offered,
                           unsigned offered_length, void *userdata) {
    static const unsigned char known[] = "\x0e" ALPN_MQTT;
    unsigned char *selected;
    (void)ssl;
    (void)userdata;
    if (SSL_select_next_proto(&selected, ret_length, known, sizeof known - 1, offered, offered_length) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *ret = selected;
    return SSL_TLSEXT_ERR_OK;
}

SSL_CTX *front_tls_context(const char *certificate_path, const char *key_path) {
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(context, certificate_path) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key_path, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_num_tickets(context, 0) != 1) {
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_cert_verify_callback(context, verify, NULL);
    SSL_CTX_set_tlsext_servername_callback(context, check_server_name);
    SSL_CTX_set_alpn_select_cb(context, select_protocol, NULL);
    return context;
}

/* The one version that is wanted, or 0 for any. */
static int only_version(const char *name) {
    if (strcmp(name, "1.2") == 0)
        return TLS1_2_VERSION;
    return strcmp(name, "1.3") == 0 ? TLS1_3_VERSION : 0;
}

SSL *front_tls_start(struct front_visit *visit) {
    SSL *ssl = SSL_new(visit->front->context);
    int version = only_version(visit->tls_version);
    if (ssl == NULL || SSL_set_fd(ssl, visit->fd) != 1 ||
        (version != 0 &&
         (SSL_set_min_proto_version(ssl, version) != 1 || SSL_set_max_proto_version(ssl, version) != 1))) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_app_data(ssl, visit);
    return ssl;
}

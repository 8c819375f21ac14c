/* The way to the cloud: as far as it goes without a client certificate, so that no connection of an identity or a claim
 * is disturbed. */
#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "worker/certificate.h"
#include "worker/clock.h"
#include "worker/connect.h"
#include "worker/diagnosis.h"
#include "worker/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROOT_CA "root-ca"
#define DNS "dns"
#define TCP "tcp"
#define TLS "tls"

#define HANDSHAKE_MS 10000
#define CONNECT_MS 8000
#define ADDRESSES_MAX 4

static const char root_ca_advice[] =
    "RootCA= in [Cloud] needs the roots of the server: Amazon's are on www.amazontrust.com/repository";

static int read_root_ca(const char *path, char **ret, size_t *ret_size) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : memfd_read(fd, ret, ret_size);
}

/* How many of them are no use any more, or never will be by this clock. */
static unsigned count_out_of_date(const char *pem, size_t size) {
    const char *at = pem;
    struct certificate_der der;
    struct certificate certificate;
    int64_t now = (int64_t)time(NULL);
    unsigned count = 0;
    while (certificate_next(&at, pem + size, &der) > 0)
        if (certificate_read(&der, &certificate) == 0 && (now < certificate.not_before || now > certificate.not_after))
            count++;
    return count;
}

void diagnose_root_ca(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    const char *path = subject->settings->root_ca;
    AUTO_FREE char *pem = NULL;
    size_t size = 0;
    struct failure failure;
    int r = read_root_ca(path, &pem, &size);
    if (r < 0) {
        diagnosis_add(diagnosis, ROOT_CA, DIAGNOSIS_WRONG, root_ca_advice, "%.300s cannot be read: %s", path,
                      strerror(-r));
        return;
    }
    int count = certificate_count(pem, size, STEP_CONFIGURATION, &failure);
    if (count < 0) {
        diagnosis_add(diagnosis, ROOT_CA, DIAGNOSIS_WRONG, root_ca_advice, "%.300s: %s", path, failure.message);
        return;
    }
    unsigned bad = count_out_of_date(pem, size);
    diagnosis_add(diagnosis, ROOT_CA,
                  bad == 0                ? DIAGNOSIS_OK
                  : bad < (unsigned)count ? DIAGNOSIS_WARNING
                                          : DIAGNOSIS_WRONG,
                  bad == 0 ? "" : "is the clock right? Else replace them", "%d certificate%s in %.300s%s", count,
                  count == 1 ? "" : "s", path,
                  bad == 0                ? ""
                  : bad < (unsigned)count ? ", some of which are not valid now"
                                          : ", not valid now");
}

/* The host that is connected to: with a proxy that one, which resolves the endpoint itself. */
static void target_host(const struct settings *settings, char host[SETTINGS_HOST_MAX]) {
    const char *start = strstr(settings->proxy, "://");
    if (settings->proxy[0] == '\0') {
        snprintf(host, SETTINGS_HOST_MAX, "%s", settings->endpoint);
        return;
    }
    start = start != NULL ? start + 3 : settings->proxy;
    const char *user = strrchr(start, '@');
    start = user != NULL ? user + 1 : start;
    size_t length = start[0] == '[' ? strcspn(++start, "]") : strcspn(start, ":/");
    snprintf(host, SETTINGS_HOST_MAX, "%.*s", (int)length, start);
}

static void describe_addresses(const struct addrinfo *list, char *text, size_t size) {
    size_t length = 0;
    unsigned count = 0;
    text[0] = '\0';
    for (const struct addrinfo *item = list; item != NULL; item = item->ai_next, count++) {
        char address[INET6_ADDRSTRLEN] = "?";
        getnameinfo(item->ai_addr, item->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST);
        if (count < ADDRESSES_MAX)
            length += (size_t)snprintf(text + length, size - length, "%s%s", count > 0 ? ", " : "", address);
    }
    if (count > ADDRESSES_MAX)
        snprintf(text + length, size - length, " and %u more", count - ADDRESSES_MAX);
}

void diagnose_dns(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const char *who = subject->settings->proxy[0] != '\0' ? "the proxy " : "";
    char host[SETTINGS_HOST_MAX], addresses[256];
    struct addrinfo *list = NULL;
    target_host(subject->settings, host);
    int r = getaddrinfo(host, NULL, &hints, &list);
    if (r != 0) {
        diagnosis_add(diagnosis, DNS, DIAGNOSIS_WRONG,
                      r == EAI_AGAIN ? DIAGNOSIS_NO_NAME_SERVER
                                     : "is Endpoint= (or Proxy=) in [Cloud] right? `aws iot describe-endpoint "
                                       "--endpoint-type iot:Data-ATS` prints that of your account",
                      "%s%s: %s", who, host, r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
        return;
    }
    describe_addresses(list, addresses, sizeof addresses);
    freeaddrinfo(list);
    diagnosis_add(diagnosis, DNS, DIAGNOSIS_OK, "", "%s%s is %s", who, host, addresses);
}

static int connect_to(const struct settings *settings, struct connection **ret, struct failure *failure) {
    const struct connect_settings wanted = {.host = settings->endpoint,
                                            .port = settings->port,
                                            .proxy = settings->proxy[0] != '\0' ? settings->proxy : NULL,
                                            .step = "tcp"};
    return connect_open(&wanted, tls_now_ms() + CONNECT_MS, ret, failure);
}

void diagnose_tcp(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    const struct settings *settings = subject->settings;
    struct connection *connection = NULL;
    struct failure failure;
    int64_t begin = tls_now_ms();
    if (connect_to(settings, &connection, &failure) < 0)
        diagnosis_add_failure(diagnosis, TCP, &failure,
                              "does a firewall let this port out (8883, or 443), is Port= in [Cloud] right? "
                              "Networks that only let HTTPS through need Port=443, or Proxy=");
    else
        diagnosis_add(diagnosis, TCP, DIAGNOSIS_OK, "", "%s:%u%s, in %lld ms", settings->endpoint,
                      (unsigned)settings->port, settings->proxy[0] != '\0' ? " through the proxy" : "",
                      (long long)(tls_now_ms() - begin));
    connect_free(connection);
}

static int handshake(const struct settings *settings, int socket, const char *pem, size_t size,
                     struct failure *failure) {
    const struct tls_settings wanted = {
        .server_name = settings->endpoint,
        .root_ca_pem = pem,
        .root_ca_size = size,
        .minimum = settings->minimum_tls == SETTING_TLS_1_3 ? TLS_VERSION_1_3 : TLS_VERSION_1_2,
        .alpn = settings->port == 443 ? "x-amzn-mqtt-ca" : NULL,
        .step = "tls",
    };
    struct tls *tls = NULL;
    *failure = (struct failure){0};
    int r = tls_connect(&wanted, socket, tls_now_ms() + HANDSHAKE_MS, &tls, failure);
    tls_free(tls);
    return r;
}

/* A server that asks for a client certificate may end the handshake where it gets none, but only after its own
 * certificate was verified, which is all that is asked here. */
void diagnose_tls(struct diagnosis *diagnosis, const struct diagnosis_subject *subject) {
    const struct settings *settings = subject->settings;
    AUTO_FREE char *pem = NULL;
    size_t size = 0;
    struct connection *connection = NULL;
    struct failure failure = {0};
    int r = read_root_ca(settings->root_ca, &pem, &size);
    if (r < 0) {
        diagnosis_add(diagnosis, TLS, DIAGNOSIS_SKIPPED, "", "not tried without RootCA=");
        return;
    }
    r = connect_to(settings, &connection, &failure);
    if (r == 0)
        r = handshake(settings, connect_socket(connection), pem, size, &failure);
    if (r < 0 && !failure.reached)
        diagnosis_add_failure(diagnosis, TLS, &failure,
                              failure.class == FAILURE_CLOCK
                                  ? "set the clock"
                                  : "is Endpoint= that of the ATS endpoint, has RootCA= its root, and does nobody "
                                    "on the way take TLS apart (a proxy, a firewall)?");
    else
        diagnosis_add(diagnosis, TLS, DIAGNOSIS_OK, "", "the certificate of %s is verified", settings->endpoint);
    connect_free(connection);
}

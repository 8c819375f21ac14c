/* One MQTT 5 connection to the cloud: libmosquitto on a private unix socket, a relay that carries its bytes over
 * wolfSSL (tls.h) to the endpoint. Single-threaded: each call pumps both until its own deadline. */
#pragma once

#include "common/failure.h"
#include "worker/tls.h"

#include <stddef.h>
#include <stdint.h>

#define MQTT_PAYLOAD_MAX (128 * 1024) /* AWS IoT message limit */
#define MQTT_FILTERS_MAX 8            /* AWS IoT: topic filters per SUBSCRIBE */

struct mqtt_settings {
    const char *endpoint; /* host name */
    uint16_t port;        /* 8883, or 443 with ALPN */
    const char *proxy;    /* "http://host:port", NULL for none; the environment is never consulted */
    const char *client_id;
    struct tls_settings tls;    /* server_name, alpn and step are set by mqtt_connect() */
    const char *step;           /* for failures: STEP_CLAIM, STEP_PROVE */
    unsigned connect_timeout_s; /* name resolution, TCP, TLS and CONNACK together */
};

struct mqtt;

/* Opens the connection and waits for CONNACK. Classes: `network` (DNS, TCP, TLS, reset, silence), `denied` (CONNACK or
 * DISCONNECT 0x86, 0x87, 0x8a, 0x8c, 0x98, also the 3.1.1 codes 4 and 5 and AWS's 7; an alert about the client
 * certificate inside the session; a close after CONNECT by close_notify, which is how AWS IoT turns away a certificate
 * that is not registered or not active - a FIN or RST alone is `network`, since anyone on the path can send one),
 * `cloud-busy` (0x80, 0x88, 0x89, 0x8b, 0x96, 0x97, 0x9f), `invalid` (0x84, 0x85 and others that only another
 * configuration can change), `clock` and `tpm` (tls.h). The message has endpoint, reason code and the server's reason
 * string. */
int mqtt_connect(const struct mqtt_settings *settings, struct mqtt **ret, struct failure *failure);

/* Subscribes to all filters in one SUBSCRIBE (QoS 0: replies live and die with this connection, and a PUBACK each
 * would say nothing) and waits for the SUBACK; a refused filter is class `denied` and named. */
int mqtt_subscribe(struct mqtt *mqtt, const char *const *filters, size_t count, unsigned timeout_s,
                   struct failure *failure);

enum mqtt_outcome {
    MQTT_ACCEPTED,
    MQTT_REJECTED,
};

struct mqtt_reply {
    enum mqtt_outcome outcome;
    char *payload; /* NUL-terminated for convenience, may contain NUL; wiped and freed by mqtt_reply_clear() */
    size_t size;
};

void mqtt_reply_clear(struct mqtt_reply *reply);

/* Publishes with QoS 1 and waits for the first message on REPLY_TOPIC/accepted or REPLY_TOPIC/rejected (both must be
 * subscribed). reply_topic NULL: the topic itself. Messages on other topics and duplicates are ignored; larger than
 * MQTT_PAYLOAD_MAX is a failure. PUBACK 0x87 is `denied`, 0x97 `cloud-busy`; silence, a close before the PUBACK and a
 * reset are `network`. */
int mqtt_request(struct mqtt *mqtt, const char *topic, const char *reply_topic, const void *payload, size_t size,
                 unsigned timeout_s, struct mqtt_reply *ret, struct failure *failure);

/* From now on only messages that this says are replies: of a topic that others share, or where a late answer to an
 * earlier request may come. The payload is not NUL-terminated. */
void mqtt_filter_replies(struct mqtt *mqtt, bool (*is_reply)(const char *payload, size_t size, void *data), void *data);

/* Publishes with QoS 1 and waits for the PUBACK, which must not refuse: that nobody has subscribed (0x10) is no refusal
 * (MQTT 5.0 section 3.4.2.1). Classes as of mqtt_request(); a DISCONNECT in its place has the class of its reason. */
int mqtt_publish(struct mqtt *mqtt, const char *topic, const void *payload, size_t size, unsigned timeout_s,
                 struct failure *failure);

/* Changes the step that failures name from now on. */
void mqtt_set_step(struct mqtt *mqtt, const char *step);

/* DISCONNECT, close_notify, close; waits a second at most until they are on their way. Accepts NULL, returns NULL. */
struct mqtt *mqtt_free(struct mqtt *mqtt);

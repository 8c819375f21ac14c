#include "worker/mqtt.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "worker/connect.h"
#include "worker/relay.h"

#include <mosquitto.h>
#if LIBMOSQUITTO_VERSION_NUMBER < 2001000 /* from 2.1 on it is part of mosquitto.h */
#include <mqtt_protocol.h>
#endif

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

/* AWS IoT takes 30 to 1200 s; no exchange of ours is that long, so that a PINGREQ is rare. */
#define KEEP_ALIVE_S 60
#define PUMP_SLICE_MS 10000 /* for the keep alive */
#define FLUSH_MS 1000
#define CLIENT_ID_MAX 128 /* AWS IoT Core message broker limits */
#define HTTPS_PORT 443
#define HTTPS_ALPN "x-amzn-mqtt-ca" /* MQTT with a client certificate on 443: AWS IoT Developer Guide, "Protocols" */

/* An acknowledgement of the server. */
struct answer {
    bool seen;
    int code;
    char reason[256]; /* the reason string, "" for none */
};

/* The one outstanding request, and what came for it. */
struct exchange {
    int id; /* packet identifier of SUBSCRIBE or PUBLISH */
    struct answer acknowledged;
    int codes[MQTT_FILTERS_MAX]; /* SUBACK */
    size_t code_count;
    const char *topic; /* where the reply of a request comes, without its last level; else NULL */
    bool replied;
    bool oversize;
    struct mqtt_reply reply;
};

struct mqtt {
    struct connection *connection;
    struct tls *tls;
    struct relay *relay;
    struct mosquitto *client;
    char peer[300]; /* "host:port", for messages */
    const char *step;
    struct answer connack;
    struct answer disconnect;  /* the server's DISCONNECT */
    int library_error;         /* of libmosquitto, when it gave the connection up */
    struct exchange *exchange; /* NULL when nothing is outstanding */
    bool (*is_reply)(const char *payload, size_t size, void *data); /* NULL: each is */
    void *is_reply_data;
};

static void cleanup_mqtt(struct mqtt **mqtt) {
    mqtt_free(*mqtt);
}

static void answer_note(struct answer *answer, int code, const mosquitto_property *properties) {
    char *reason = NULL;
    answer->seen = true;
    answer->code = code;
    if (mosquitto_property_read_string(properties, MQTT_PROP_REASON_STRING, &reason, false) != NULL && reason != NULL)
        snprintf(answer->reason, sizeof answer->reason, "%s", reason);
    free(reason);
}

static void on_connect(struct mosquitto *client, void *userdata, int code, int flags,
                       const mosquitto_property *properties) {
    struct mqtt *mqtt = userdata;
    (void)client, (void)flags;
    answer_note(&mqtt->connack, code, properties);
}

/* Called for the server's DISCONNECT with its reason code, and for errors of the library with their small numbers; may
 * be called again when the socket is closed after that. */
static void on_disconnect(struct mosquitto *client, void *userdata, int code, const mosquitto_property *properties) {
    struct mqtt *mqtt = userdata;
    (void)client;
    if (code >= MQTT_RC_UNSPECIFIED && !mqtt->disconnect.seen)
        answer_note(&mqtt->disconnect, code, properties);
}

static void on_subscribe(struct mosquitto *client, void *userdata, int id, int count, const int *codes,
                         const mosquitto_property *properties) {
    struct mqtt *mqtt = userdata;
    struct exchange *exchange = mqtt->exchange;
    (void)client;
    if (exchange == NULL || exchange->id != id)
        return;
    answer_note(&exchange->acknowledged, 0, properties);
    exchange->code_count = (size_t)count;
    for (int i = 0; i < count && i < MQTT_FILTERS_MAX; i++)
        exchange->codes[i] = codes[i];
}

static void on_publish(struct mosquitto *client, void *userdata, int id, int code,
                       const mosquitto_property *properties) {
    struct mqtt *mqtt = userdata;
    (void)client;
    if (mqtt->exchange != NULL && mqtt->exchange->id == id)
        answer_note(&mqtt->exchange->acknowledged, code, properties);
}

/* True if the message answers the request's topic; the payload stays with the library and is copied once. */
static bool reply_matches(const struct exchange *exchange, const char *topic, enum mqtt_outcome *ret) {
    size_t length = strlen(exchange->topic);
    if (strncmp(topic, exchange->topic, length) != 0)
        return false;
    *ret = strcmp(topic + length, "/accepted") == 0 ? MQTT_ACCEPTED : MQTT_REJECTED;
    return *ret == MQTT_ACCEPTED || strcmp(topic + length, "/rejected") == 0;
}

static void on_message(struct mosquitto *client, void *userdata, const struct mosquitto_message *message,
                       const mosquitto_property *properties) {
    struct mqtt *mqtt = userdata;
    struct exchange *exchange = mqtt->exchange;
    struct mqtt_reply reply;
    (void)client, (void)properties;
    if (exchange == NULL || exchange->topic == NULL || exchange->replied ||
        !reply_matches(exchange, message->topic, &reply.outcome))
        return;
    reply.size = (size_t)message->payloadlen;
    if (mqtt->is_reply != NULL && !mqtt->is_reply(message->payload, reply.size, mqtt->is_reply_data))
        return;
    exchange->replied = true;
    exchange->oversize = reply.size > MQTT_PAYLOAD_MAX;
    if (exchange->oversize || (reply.payload = malloc(reply.size + 1)) == NULL)
        return;
    if (reply.size > 0)
        memcpy(reply.payload, message->payload, reply.size);
    reply.payload[reply.size] = '\0';
    exchange->reply = reply;
}

/* What a reason code of MQTT 5 means for the retry (MQTT 5.0 section 2.4; AWS IoT Developer Guide, "MQTT"). */
static enum failure_class reason_class(int code) {
    switch (code) {
    case MQTT_RC_BAD_USERNAME_OR_PASSWORD:
    case MQTT_RC_NOT_AUTHORIZED:
    case MQTT_RC_BANNED:
    case MQTT_RC_BAD_AUTHENTICATION_METHOD:
    case MQTT_RC_ADMINISTRATIVE_ACTION:
        return FAILURE_DENIED;
    case MQTT_RC_UNSPECIFIED:
    case MQTT_RC_SERVER_UNAVAILABLE:
    case MQTT_RC_SERVER_BUSY:
    case MQTT_RC_SERVER_SHUTTING_DOWN:
    case MQTT_RC_MESSAGE_RATE_TOO_HIGH:
    case MQTT_RC_QUOTA_EXCEEDED:
    case MQTT_RC_CONNECTION_RATE_EXCEEDED:
        return FAILURE_CLOUD_BUSY;
    case MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION:
    case MQTT_RC_CLIENTID_NOT_VALID:
    case MQTT_RC_TOPIC_FILTER_INVALID:
    case MQTT_RC_TOPIC_NAME_INVALID:
    case MQTT_RC_PACKET_TOO_LARGE:
    case MQTT_RC_PAYLOAD_FORMAT_INVALID:
    case MQTT_RC_QOS_NOT_SUPPORTED:
    case MQTT_RC_USE_ANOTHER_SERVER:
    case MQTT_RC_SERVER_MOVED:
        return FAILURE_INVALID;
    default: /* an int from the wire */
        return FAILURE_NETWORK;
    }
}

static int fail_with_reason(const struct mqtt *mqtt, const char *what, const struct answer *answer,
                            struct failure *failure) {
    return failure_set(failure, reason_class(answer->code), mqtt->step, "%s %s: %s (0x%02x)%s%s", mqtt->peer, what,
                       mosquitto_reason_string(answer->code), (unsigned)answer->code,
                       answer->reason[0] != '\0' ? ": " : "", answer->reason);
}

/* A server may answer a CONNECT of version 5 with a CONNACK in the form of version 3.1.1 (MQTT 5.0 section 3.1.2.2),
 * which libmosquitto takes for malformed: two bytes, of which the second is the return code. 7 is AWS IoT's own "not
 * authorized". Returns the code, 0 if there was no such CONNACK. */
static int connack_of_3_1_1(const struct mqtt *mqtt) {
    size_t size;
    const uint8_t *bytes = relay_first_bytes(mqtt->relay, &size);
    return size == RELAY_FIRST_SIZE && bytes[0] == CMD_CONNACK && bytes[1] == 2 ? bytes[3] : 0;
}

static int fail_connack_3_1_1(const struct mqtt *mqtt, int code, struct failure *failure) {
    enum failure_class class =
        code == CONNACK_REFUSED_BAD_USERNAME_PASSWORD || code == CONNACK_REFUSED_NOT_AUTHORIZED || code == 7
            ? FAILURE_DENIED
        : code == CONNACK_REFUSED_SERVER_UNAVAILABLE ? FAILURE_CLOUD_BUSY
                                                     : FAILURE_INVALID;
    return failure_set(failure, class, mqtt->step, "%s refused the connection: %s (CONNACK %d of MQTT 3.1.1)",
                       mqtt->peer, code == 7 ? "not authorized" : mosquitto_connack_string(code), code);
}

/* The connection is gone: by whom, and what that is worth as evidence (only what came inside the session is). */
static int fail_ended(const struct mqtt *mqtt, const char *awaited, struct failure *failure) {
    switch (relay_ended(mqtt->relay)) {
    case RELAY_CLOSED:
        failure_record(failure, mqtt->connack.seen ? FAILURE_NETWORK : FAILURE_DENIED, mqtt->step,
                       "%s closed the connection without a %s", mqtt->peer, awaited);
        failure->wordless = true;
        return -1;
    case RELAY_ALERT:
    case RELAY_CUT:
    case RELAY_FLOODED:
    case RELAY_REFUSED:
        return relay_fail(mqtt->relay, mqtt->peer, awaited, mqtt->step, failure);
    case RELAY_RUNNING:
        break;
    }
    return failure_set(failure, FAILURE_NETWORK, mqtt->step, "%s broke the MQTT protocol before the %s: %s", mqtt->peer,
                       awaited, mosquitto_strerror(mqtt->library_error));
}

static int fail_lost(const struct mqtt *mqtt, const char *awaited, struct failure *failure) {
    if (mqtt->disconnect.seen)
        return fail_with_reason(mqtt, "closed the connection", &mqtt->disconnect, failure);
    if (!mqtt->connack.seen && connack_of_3_1_1(mqtt) != 0)
        return fail_connack_3_1_1(mqtt, connack_of_3_1_1(mqtt), failure);
    return fail_ended(mqtt, awaited, failure);
}

static void library_note(struct mqtt *mqtt, int error) {
    if (error != MOSQ_ERR_SUCCESS && mqtt->library_error == MOSQ_ERR_SUCCESS)
        mqtt->library_error = error;
}

/* One round: waits until bytes can move, and moves them through TLS, relay and libmosquitto. */
static void pump(struct mqtt *mqtt, int64_t deadline_ms) {
    struct pollfd descriptors[1 + RELAY_DESCRIPTORS] = {{mosquitto_socket(mqtt->client), POLLIN, 0}};
    int64_t left = deadline_ms - tls_now_ms();
    if (mosquitto_want_write(mqtt->client))
        descriptors[0].events |= POLLOUT;
    relay_prepare(mqtt->relay, descriptors + 1);
    poll(descriptors, 1 + RELAY_DESCRIPTORS, left < 0 ? 0 : left < PUMP_SLICE_MS ? (int)left : PUMP_SLICE_MS);
    relay_run(mqtt->relay);
    if (descriptors[0].revents & POLLOUT)
        library_note(mqtt, mosquitto_loop_write(mqtt->client, 1));
    if (descriptors[0].revents & (POLLIN | POLLHUP | POLLERR))
        library_note(mqtt, mosquitto_loop_read(mqtt->client, 1));
    if (mosquitto_socket(mqtt->client) >= 0)
        library_note(mqtt, mosquitto_loop_misc(mqtt->client));
}

/* Until one of the two is true (the second may be NULL), the connection ends or the time is over. `awaited` is the name
 * for messages. */
static int wait_for(struct mqtt *mqtt, const bool *done, const bool *also_done, const char *awaited, unsigned timeout_s,
                    int64_t deadline_ms, struct failure *failure) {
    while (!*done && (also_done == NULL || !*also_done)) {
        if (mosquitto_socket(mqtt->client) < 0)
            return fail_lost(mqtt, awaited, failure);
        if (tls_now_ms() >= deadline_ms)
            return failure_set(failure, FAILURE_NETWORK, mqtt->step, "no %s from %s within %u s", awaited, mqtt->peer,
                               timeout_s);
        pump(mqtt, deadline_ms);
    }
    return 0;
}

static int client_new(struct mqtt *mqtt, const char *client_id) {
    if (mosquitto_lib_init() != MOSQ_ERR_SUCCESS)
        return -ENOMEM;
    mqtt->client = mosquitto_new(client_id, true, mqtt);
    if (mqtt->client == NULL) {
        mosquitto_lib_cleanup();
        return -ENOMEM;
    }
    mosquitto_int_option(mqtt->client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_connect_v5_callback_set(mqtt->client, on_connect);
    mosquitto_disconnect_v5_callback_set(mqtt->client, on_disconnect);
    mosquitto_subscribe_v5_callback_set(mqtt->client, on_subscribe);
    mosquitto_publish_v5_callback_set(mqtt->client, on_publish);
    mosquitto_message_v5_callback_set(mqtt->client, on_message);
    return 0;
}

/* A session expiry interval that is absent is 0 (MQTT 5.0 section 3.1.2.11.2): nothing stays behind in the cloud. */
static int client_connect(struct mqtt *mqtt, const char *client_id, struct failure *failure) {
    size_t length = strlen(client_id);
    if (length == 0 || length > CLIENT_ID_MAX || !text_is_utf8(client_id, length))
        return failure_set(failure, FAILURE_INVALID, mqtt->step, "the client id must be 1 to %d bytes of UTF-8",
                           CLIENT_ID_MAX);
    if (client_new(mqtt, client_id) < 0)
        return failure_set(failure, FAILURE_INTERNAL, mqtt->step, "out of memory");
    int error = mosquitto_connect_bind_v5(mqtt->client, relay_path(mqtt->relay), 0, KEEP_ALIVE_S, NULL, NULL);
    if (error != MOSQ_ERR_SUCCESS)
        return failure_set(failure, FAILURE_INTERNAL, mqtt->step,
                           "libmosquitto cannot connect to the private socket: %s",
                           error == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(error));
    return 0;
}

static int transport_open(struct mqtt *mqtt, const struct mqtt_settings *settings, int64_t deadline_ms,
                          struct failure *failure) {
    struct connect_settings tcp = {settings->endpoint, settings->port, settings->proxy, settings->step};
    struct tls_settings tls = settings->tls;
    tls.server_name = settings->endpoint;
    tls.alpn = settings->port == HTTPS_PORT ? HTTPS_ALPN : NULL;
    tls.step = settings->step;
    if (connect_open(&tcp, deadline_ms, &mqtt->connection, failure) < 0)
        return -1;
    int socket = connect_socket(mqtt->connection);
    if (tls_connect(&tls, socket, deadline_ms, &mqtt->tls, failure) < 0)
        return -1;
    return relay_open(mqtt->tls, socket, settings->step, &mqtt->relay, failure);
}

int mqtt_connect(const struct mqtt_settings *settings, struct mqtt **ret, struct failure *failure) {
    int64_t deadline_ms = tls_now_ms() + (int64_t)settings->connect_timeout_s * 1000;
    CLEANUP(cleanup_mqtt) struct mqtt *mqtt = calloc(1, sizeof *mqtt);
    if (mqtt == NULL)
        return failure_set(failure, FAILURE_INTERNAL, settings->step, "out of memory");
    mqtt->step = settings->step;
    snprintf(mqtt->peer, sizeof mqtt->peer, "%s:%u", settings->endpoint, (unsigned)settings->port);
    if (transport_open(mqtt, settings, deadline_ms, failure) < 0 ||
        client_connect(mqtt, settings->client_id, failure) < 0)
        return -1;
    /* Nothing may be sent before the CONNACK (AWS IoT Developer Guide, "MQTT"). */
    int r = wait_for(mqtt, &mqtt->connack.seen, NULL, "CONNACK", settings->connect_timeout_s, deadline_ms, failure);
    if (r == 0 && mqtt->connack.code != MQTT_RC_SUCCESS)
        r = fail_with_reason(mqtt, "refused the connection", &mqtt->connack, failure);
    if (r < 0) {
        failure->reached = true;
        return -1;
    }
    *ret = TAKE_POINTER(mqtt);
    return 0;
}

static int fail_send(const struct mqtt *mqtt, const char *packet, int error, struct failure *failure) {
    if (error == MOSQ_ERR_NO_CONN || error == MOSQ_ERR_CONN_LOST || error == MOSQ_ERR_ERRNO)
        return fail_lost(mqtt, packet, failure);
    return failure_set(failure, error == MOSQ_ERR_NOMEM ? FAILURE_INTERNAL : FAILURE_INVALID, mqtt->step,
                       "cannot send the %s: %s", packet, mosquitto_strerror(error));
}

static int suback_check(const struct mqtt *mqtt, const struct exchange *exchange, const char *const *filters,
                        size_t count, struct failure *failure) {
    if (exchange->code_count != count)
        return failure_set(failure, FAILURE_NETWORK, mqtt->step, "%s acknowledged %zu topic filters of %zu", mqtt->peer,
                           exchange->code_count, count);
    for (size_t i = 0; i < count; i++) {
        struct answer answer = exchange->acknowledged;
        char what[300];
        answer.code = exchange->codes[i];
        if (answer.code < MQTT_RC_UNSPECIFIED)
            continue;
        snprintf(what, sizeof what, "refused the subscription to %s", filters[i]);
        fail_with_reason(mqtt, what, &answer, failure);
        /* 0x80 was the only way to refuse a filter before MQTT 5. */
        if (failure->class == FAILURE_NETWORK || answer.code == MQTT_RC_UNSPECIFIED)
            failure->class = FAILURE_DENIED;
        return -1;
    }
    return 0;
}

int mqtt_subscribe(struct mqtt *mqtt, const char *const *filters, size_t count, unsigned timeout_s,
                   struct failure *failure) {
    int64_t deadline_ms = tls_now_ms() + (int64_t)timeout_s * 1000;
    struct exchange exchange = {0};
    if (count == 0 || count > MQTT_FILTERS_MAX)
        return failure_set(failure, FAILURE_INVALID, mqtt->step, "%zu topic filters: 1 to %d fit into a SUBSCRIBE",
                           count, MQTT_FILTERS_MAX);
    int error =
        mosquitto_subscribe_multiple(mqtt->client, &exchange.id, (int)count, (char *const *)filters, 0, 0, NULL);
    if (error != MOSQ_ERR_SUCCESS)
        return fail_send(mqtt, "SUBSCRIBE", error, failure);
    mqtt->exchange = &exchange;
    int result = wait_for(mqtt, &exchange.acknowledged.seen, NULL, "SUBACK", timeout_s, deadline_ms, failure);
    mqtt->exchange = NULL;
    return result < 0 ? -1 : suback_check(mqtt, &exchange, filters, count, failure);
}

static int publish(struct mqtt *mqtt, struct exchange *exchange, const char *topic, const void *payload, size_t size,
                   struct failure *failure) {
    if (size > MQTT_PAYLOAD_MAX)
        return failure_set(failure, FAILURE_INVALID, mqtt->step, "the message for %s has %zu bytes, AWS IoT takes %d",
                           topic, size, MQTT_PAYLOAD_MAX);
    int error = mosquitto_publish_v5(mqtt->client, &exchange->id, topic, (int)size, payload, 1, false, NULL);
    return error == MOSQ_ERR_SUCCESS ? 0 : fail_send(mqtt, "PUBLISH", error, failure);
}

static int puback_check(const struct mqtt *mqtt, const char *topic, const struct answer *puback,
                        struct failure *failure) {
    char what[300];
    if (puback->code < MQTT_RC_UNSPECIFIED)
        return 0;
    snprintf(what, sizeof what, "refused the message to %s", topic);
    return fail_with_reason(mqtt, what, puback, failure);
}

int mqtt_publish(struct mqtt *mqtt, const char *topic, const void *payload, size_t size, unsigned timeout_s,
                 struct failure *failure) {
    int64_t deadline_ms = tls_now_ms() + (int64_t)timeout_s * 1000;
    struct exchange exchange = {0};
    if (publish(mqtt, &exchange, topic, payload, size, failure) < 0)
        return -1;
    mqtt->exchange = &exchange;
    int result = wait_for(mqtt, &exchange.acknowledged.seen, NULL, "PUBACK", timeout_s, deadline_ms, failure);
    mqtt->exchange = NULL;
    return result < 0 ? -1 : puback_check(mqtt, topic, &exchange.acknowledged, failure);
}

/* The PUBACK only matters if it refuses: the reply may come before it, or without one. */
static int reply_wait(struct mqtt *mqtt, struct exchange *exchange, const char *topic, unsigned timeout_s,
                      int64_t deadline_ms, struct failure *failure) {
    char awaited[300];
    snprintf(awaited, sizeof awaited, "reply to %s", topic);
    if (wait_for(mqtt, &exchange->replied, &exchange->acknowledged.seen, awaited, timeout_s, deadline_ms, failure) < 0)
        return -1;
    if (!exchange->replied && (puback_check(mqtt, topic, &exchange->acknowledged, failure) < 0 ||
                               wait_for(mqtt, &exchange->replied, NULL, awaited, timeout_s, deadline_ms, failure) < 0))
        return -1;
    if (exchange->oversize)
        return failure_set(failure, FAILURE_INVALID, mqtt->step, "%s: the reply to %s is larger than %d bytes",
                           mqtt->peer, topic, MQTT_PAYLOAD_MAX);
    if (exchange->reply.payload == NULL)
        return failure_set(failure, FAILURE_INTERNAL, mqtt->step, "out of memory");
    return 0;
}

int mqtt_request(struct mqtt *mqtt, const char *topic, const char *reply_topic, const void *payload, size_t size,
                 unsigned timeout_s, struct mqtt_reply *ret, struct failure *failure) {
    int64_t deadline_ms = tls_now_ms() + (int64_t)timeout_s * 1000;
    struct exchange exchange = {.topic = reply_topic != NULL ? reply_topic : topic};
    if (publish(mqtt, &exchange, topic, payload, size, failure) < 0)
        return -1;
    mqtt->exchange = &exchange;
    int result = reply_wait(mqtt, &exchange, topic, timeout_s, deadline_ms, failure);
    mqtt->exchange = NULL;
    if (result < 0)
        return -1;
    *ret = exchange.reply;
    return 0;
}

void mqtt_filter_replies(struct mqtt *mqtt, bool (*is_reply)(const char *payload, size_t size, void *data),
                         void *data) {
    mqtt->is_reply = is_reply;
    mqtt->is_reply_data = data;
}

void mqtt_reply_clear(struct mqtt_reply *reply) {
    if (reply->payload != NULL)
        explicit_bzero(reply->payload, reply->size);
    free(reply->payload);
    *reply = (struct mqtt_reply){0};
}

void mqtt_set_step(struct mqtt *mqtt, const char *step) {
    mqtt->step = step;
}

static void client_disconnect(struct mqtt *mqtt) {
    int64_t deadline_ms = tls_now_ms() + FLUSH_MS;
    if (mosquitto_socket(mqtt->client) < 0 || !mqtt->connack.seen)
        return;
    mosquitto_disconnect_v5(mqtt->client, MQTT_RC_NORMAL_DISCONNECTION, NULL);
    relay_run(mqtt->relay);
    while (!relay_is_flushed(mqtt->relay) && tls_now_ms() < deadline_ms)
        pump(mqtt, deadline_ms);
}

struct mqtt *mqtt_free(struct mqtt *mqtt) {
    if (mqtt == NULL)
        return NULL;
    if (mqtt->client != NULL) {
        client_disconnect(mqtt);
        mosquitto_destroy(mqtt->client);
        mosquitto_lib_cleanup();
    }
    relay_free(mqtt->relay);
    tls_free(mqtt->tls);
    connect_free(mqtt->connection);
    free(mqtt);
    return NULL;
}

#include "worker/mqtt.h"

#include "worker/refusal.h"

#include "harness.h"
#include "tls-fixture.h"

#include <mosquitto.h>
#if LIBMOSQUITTO_VERSION_NUMBER < 2001000 /* from 2.1 on it is part of mosquitto.h */
#include <mqtt_protocol.h>
#endif

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEP "claim"
#define TIMEOUT_S 5

static const char certificates[] = "authority ca\n"
                                   "issue localhost ca DNS:localhost serverAuth $NOW $LATER $P256\n"
                                   "issue device ca DNS:client clientAuth $NOW $LATER $P256\n"
                                   "issue stranger ca DNS:client clientAuth $NOW $LATER $P256\n";

/* A mosquitto with mutual TLS, whose log is broker.log, and a client beside it that answers requests. */
struct broker {
    struct server server;
    pid_t responder;
};

static uint16_t free_port(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    CU_ASSERT_FATAL(bind(listener, (struct sockaddr *)&address, size) == 0);
    getsockname(listener, (struct sockaddr *)&address, &size);
    close(listener);
    return ntohs(address.sin_port);
}

static size_t count_in_log(const char *words) {
    size_t size, count = 0;
    char *log = fixture_read("broker.log", &size);
    for (const char *at = log; (at = strstr(at, words)) != NULL; at++)
        count++;
    free(log);
    return count;
}

static bool wait_for_log(const char *words) {
    int64_t deadline = tls_now_ms() + FIXTURE_DEADLINE_MS;
    while (count_in_log(words) == 0) {
        if (tls_now_ms() > deadline) {
            printf("# not in broker.log: %s\n", words);
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return true;
}

/* The responder: what it does with a request is in the last level of its topic. */
static pid_t responder_broker;

static void answer(struct mosquitto *client, const char *topic, const char *suffix, const void *payload, int size) {
    char reply[128];
    snprintf(reply, sizeof reply, "%s/%s", topic, suffix);
    mosquitto_publish(client, NULL, reply, size, payload, 0, false);
}

static void on_request(struct mosquitto *client, void *userdata, const struct mosquitto_message *message) {
    static char large[MQTT_PAYLOAD_MAX + 1];
    const char *topic = message->topic, *verb = strrchr(message->topic, '/') + 1;
    (void)userdata;
    memset(large, 'x', sizeof large);
    if (strcmp(verb, "echo") == 0)
        answer(client, topic, "accepted", message->payload, message->payloadlen);
    else if (strcmp(verb, "no") == 0)
        answer(client, topic, "rejected", "{\"statusCode\":403}", 18);
    else if (strcmp(verb, "empty") == 0)
        answer(client, topic, "accepted", NULL, 0);
    else if (strcmp(verb, "large") == 0)
        answer(client, topic, "accepted", large, MQTT_PAYLOAD_MAX);
    else if (strcmp(verb, "oversize") == 0)
        answer(client, topic, "accepted", large, MQTT_PAYLOAD_MAX + 1);
    else if (strcmp(verb, "twice") == 0) {
        answer(client, "req/echo", "accepted", "of another request", 18);
        answer(client, topic, "accepted", "first", 5);
        answer(client, topic, "accepted", "second", 6);
        answer(client, topic, "rejected", "third", 5);
    } else if (strcmp(verb, "else") == 0) /* as long as the other topic */
        answer(client, "req/echo", "accepted", "of another request", 18);
    else if (strcmp(verb, "kill") == 0)
        kill(responder_broker, SIGKILL);
}

static _Noreturn void responder_run(pid_t broker) {
    char path[128];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    responder_broker = broker;
    snprintf(path, sizeof path, "%s/control", fixture_directory());
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new("responder", true, NULL);
    mosquitto_message_callback_set(client, on_request);
    /* The broker says that it runs before it listens. Its end is this process's, too. */
    while (mosquitto_connect(client, path, 0, 60) != MOSQ_ERR_SUCCESS)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    if (mosquitto_subscribe(client, NULL, "req/+", 0) == MOSQ_ERR_SUCCESS)
        while (mosquitto_loop(client, -1, 1) == MOSQ_ERR_SUCCESS)
            ;
    _exit(0);
}

static void broker_start(struct broker *ret, const char *tls_version, bool anonymous) {
    char configuration[2048];
    uint16_t port = free_port();
    snprintf(configuration, sizeof configuration,
             "per_listener_settings true\nuser root\nlog_dest stderr\nlog_type all\n"
             "listener 0 %s/control\nallow_anonymous true\n"
             "listener %u 127.0.0.1\ncafile ca.pem\ncertfile localhost.pem\nkeyfile localhost.key\ntls_version %s\n"
             "require_certificate true\nuse_identity_as_username %s\nallow_anonymous false\nacl_file acl\n",
             fixture_directory(), (unsigned)port, tls_version, anonymous ? "false" : "true");
    fixture_write("broker.conf", configuration);
    fixture_write("acl", "user device\ntopic readwrite req/#\n");
    fixture_write("broker.log", "");
    unlink("control");
    server_spawn(&ret->server, "PATH=$PATH:/usr/sbin exec mosquitto -c broker.conf 2> broker.log");
    ret->server.port = port;
    CU_ASSERT_FATAL(wait_for_log(" running"));
    fflush(stdout);
    ret->responder = fork();
    if (ret->responder == 0)
        responder_run(ret->server.pid);
    CU_ASSERT_FATAL(wait_for_log("Sending SUBACK to responder"));
}

static void broker_stop(struct broker *broker) {
    kill(broker->responder, SIGKILL);
    waitpid(broker->responder, NULL, 0);
    server_stop(&broker->server);
}

/* One connection of the device. */
struct device {
    struct mqtt *mqtt;
    struct key *key;
    char *root_ca, *certificate;
    int result;
    struct failure failure;
};

static void device_connect(struct device *device, uint16_t port, const char *name, unsigned timeout_s) {
    char file[64];
    struct mqtt_settings settings = {
        .endpoint = "localhost", .port = port, .client_id = name, .step = STEP, .connect_timeout_s = timeout_s};
    memset(device, 0, sizeof *device);
    snprintf(file, sizeof file, "%s.pem", name);
    settings.tls.root_ca_pem = device->root_ca = fixture_read("ca.pem", &settings.tls.root_ca_size);
    settings.tls.certificate_pem = device->certificate = fixture_read(file, &settings.tls.certificate_size);
    settings.tls.key = device->key = fixture_key(name);
    device->result = mqtt_connect(&settings, &device->mqtt, &device->failure);
}

static void device_free(struct device *device) {
    mqtt_free(device->mqtt);
    key_free(device->key);
    free(device->root_ca);
    free(device->certificate);
}

static void assert_done(const struct device *device, int result) {
    ASSERT_TEXT(device->failure.message, "");
    CU_ASSERT_FATAL(result == 0);
}

static void assert_failure(const struct failure *failure, int result, const char *class, const char *words) {
    ASSERT_NUMBER(result, -1);
    ASSERT_TEXT(failure_class_name(failure->class), class);
    ASSERT_TEXT(failure->step, STEP);
    if (strstr(failure->message, words) == NULL)
        ASSERT_TEXT(failure->message, words);
}

static void subscribe(struct device *device, const char *verb) {
    char accepted[64], rejected[64];
    const char *filters[] = {accepted, rejected, "req/echo/accepted"};
    snprintf(accepted, sizeof accepted, "req/%s/accepted", verb);
    snprintf(rejected, sizeof rejected, "req/%s/rejected", verb);
    assert_done(device, mqtt_subscribe(device->mqtt, filters, 3, TIMEOUT_S, &device->failure));
}

static int request(struct device *device, const char *verb, unsigned timeout_s, struct mqtt_reply *ret) {
    char topic[64];
    snprintf(topic, sizeof topic, "req/%s", verb);
    return mqtt_request(device->mqtt, topic, NULL, "canary-4711", 11, timeout_s, ret, &device->failure);
}

static void assert_reply(struct device *device, const char *verb, enum mqtt_outcome outcome, const char *payload) {
    struct mqtt_reply reply = {0};
    assert_done(device, request(device, verb, TIMEOUT_S, &reply));
    ASSERT_NUMBER(reply.outcome, outcome);
    ASSERT_TEXT(reply.payload, payload);
    ASSERT_NUMBER((long long)reply.size, (long long)strlen(payload));
    mqtt_reply_clear(&reply);
    CU_ASSERT(reply.payload == NULL);
}

/* What one enrolment does, and that no more packets are sent than it needs. */
static void assert_exchange(const char *tls_version) {
    struct broker broker;
    struct device device;
    broker_start(&broker, tls_version, false);
    device_connect(&device, broker.server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    subscribe(&device, "no");
    assert_reply(&device, "echo", MQTT_ACCEPTED, "canary-4711");
    assert_reply(&device, "no", MQTT_REJECTED, "{\"statusCode\":403}");
    device_free(&device);
    CU_ASSERT(wait_for_log("Received DISCONNECT from device"));
    ASSERT_NUMBER((long long)count_in_log("Received SUBSCRIBE from device"), 1);
    ASSERT_NUMBER((long long)count_in_log("Received PUBLISH from device"), 2);
    ASSERT_NUMBER((long long)count_in_log("Received DISCONNECT from device"), 1);
    ASSERT_NUMBER((long long)count_in_log("Received P"),
                  2 + (long long)count_in_log("Received PUBLISH from responder"));
    ASSERT_NUMBER((long long)count_in_log("as device (p5, c1, k60"), 1);
    broker_stop(&broker);
}

static void test_exchange(void) {
    assert_exchange("tlsv1.2");
    assert_exchange("tlsv1.3");
}

/* The tests below share a broker. */
static struct broker shared;

static void shared_device(struct device *device) {
    if (shared.server.port == 0)
        broker_start(&shared, "tlsv1.3", false);
    device_connect(device, shared.server.port, "device", TIMEOUT_S);
    assert_done(device, device->result);
}

static void test_replies(void) {
    struct device device;
    struct mqtt_reply reply = {0};
    shared_device(&device);
    subscribe(&device, "+");
    assert_reply(&device, "empty", MQTT_ACCEPTED, "");
    assert_reply(&device, "twice", MQTT_ACCEPTED, "first");
    assert_reply(&device, "echo", MQTT_ACCEPTED, "canary-4711"); /* and not "second" */
    assert_done(&device, request(&device, "large", TIMEOUT_S, &reply));
    ASSERT_NUMBER((long long)reply.size, MQTT_PAYLOAD_MAX);
    mqtt_reply_clear(&reply);
    assert_failure(&device.failure, request(&device, "oversize", TIMEOUT_S, &reply), "invalid",
                   "the reply to req/oversize is larger than 131072 bytes");
    device_free(&device);
}

static void test_silence(void) {
    struct device device;
    struct mqtt_reply reply = {0};
    shared_device(&device);
    subscribe(&device, "else");
    mqtt_set_step(device.mqtt, STEP);
    assert_failure(&device.failure, request(&device, "else", 1, &reply), "network",
                   "no reply to req/else from localhost:");
    CU_ASSERT(strstr(device.failure.message, " within 1 s") != NULL);
    CU_ASSERT(strstr(device.failure.message, "canary") == NULL);
    device_free(&device);
}

static void test_publish(void) {
    struct device device;
    struct mqtt_reply reply = {0};
    char *large = calloc(1, MQTT_PAYLOAD_MAX + 1);
    CU_ASSERT_FATAL(large != NULL);
    shared_device(&device);
    assert_failure(
        &device.failure,
        mqtt_request(device.mqtt, "req/nothing", NULL, large, MQTT_PAYLOAD_MAX + 1, TIMEOUT_S, &reply, &device.failure),
        "invalid", "has 131073 bytes");
    assert_failure(&device.failure,
                   mqtt_request(device.mqtt, "req/#", NULL, "{}", 2, TIMEOUT_S, &reply, &device.failure), "invalid",
                   "cannot send the PUBLISH");
    assert_failure(&device.failure,
                   mqtt_request(device.mqtt, "forbidden", NULL, "{}", 2, TIMEOUT_S, &reply, &device.failure), "denied",
                   "refused the message to forbidden: Not authorized (0x87)");
    device_free(&device);
    free(large);
}

static int publish(struct device *device, const char *topic) {
    return mqtt_publish(device->mqtt, topic, "canary-4711", 11, TIMEOUT_S, &device->failure);
}

/* Nobody has subscribed to req/nobody, which the broker says (0x10). */
static void test_acknowledged(void) {
    struct device device;
    shared_device(&device);
    assert_done(&device, publish(&device, "req/nobody"));
    assert_done(&device, publish(&device, "req/echo"));
    assert_failure(&device.failure, publish(&device, "forbidden"), "denied",
                   "refused the message to forbidden: Not authorized (0x87)");
    CU_ASSERT(strstr(device.failure.message, "canary") == NULL);
    device_free(&device);
}

/* The reply to a request may come elsewhere than the request went. */
static void test_reply_elsewhere(void) {
    struct device device;
    struct mqtt_reply reply = {0};
    shared_device(&device);
    subscribe(&device, "no");
    int r = mqtt_request(device.mqtt, "req/twice", "req/echo", "{}", 2, TIMEOUT_S, &reply, &device.failure);
    assert_done(&device, r);
    ASSERT_TEXT(reply.payload, "of another request");
    mqtt_reply_clear(&reply);
    device_free(&device);
}

static bool is_second(const char *payload, size_t size, void *data) {
    ++*(int *)data;
    return size == 6 && memcmp(payload, "second", 6) == 0;
}

/* Of a topic that others use, too. */
static void test_filter_replies(void) {
    struct device device;
    struct mqtt_reply reply = {0};
    int seen = 0;
    shared_device(&device);
    subscribe(&device, "twice");
    mqtt_filter_replies(device.mqtt, is_second, &seen);
    assert_done(&device, request(&device, "twice", TIMEOUT_S, &reply));
    ASSERT_TEXT(reply.payload, "second");
    ASSERT_NUMBER(seen, 2);
    mqtt_reply_clear(&reply);
    device_free(&device);
}

/* What is evidence that the identity is refused: every kind of answer to a CONNECT comes through here. */
static void assert_evidence(const struct failure *failure, bool refuses) {
    ASSERT_NUMBER(refusal_is_beyond_doubt(failure, true), refuses);
    CU_ASSERT_FALSE(refusal_is_beyond_doubt(failure, false)); /* the client id was never accepted */
}

static void test_refused(void) {
    struct broker broker;
    struct device device;
    broker_start(&broker, "tlsv1.3", true);
    device_connect(&device, broker.server.port, "device", TIMEOUT_S);
    assert_failure(&device.failure, device.result, "denied", " refused the connection: Not authorized (0x87)");
    assert_evidence(&device.failure, true);
    device_free(&device);
    broker_stop(&broker);
}

static void test_broker_killed(void) {
    struct broker broker;
    struct device device;
    struct mqtt_reply reply = {0};
    const char *words = "the connection broke before the reply to req/kill: closed without a word";
    broker_start(&broker, "tlsv1.3", false);
    device_connect(&device, broker.server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    subscribe(&device, "kill");
    assert_failure(&device.failure, request(&device, "kill", TIMEOUT_S, &reply), "network", words);
    /* And what is asked of a connection that is gone fails at once. */
    assert_failure(&device.failure, request(&device, "kill", TIMEOUT_S, &reply), "network", "the connection broke");
    device_free(&device);
    broker_stop(&broker);
}

/* A server of the bytes given, which wait in its input before the client connects: what mosquitto cannot be made to
 * say. The first byte of none of them is a command of s_server. */
static void fake_start(struct server *server, const void *bytes, size_t size) {
    server_spawn(server, "exec openssl s_server -accept 127.0.0.1:0 -cert localhost.pem -key localhost.key "
                         "-CAfile ca.pem -Verify 1 -naccept 1");
    const char *port = server_expect(server, "ACCEPT 127.0.0.1:");
    server->port = port != NULL ? (uint16_t)atoi(port) : 0;
    ASSERT_NUMBER(write(server->input, bytes, size), (long long)size);
}

static void assert_fake(const void *bytes, size_t size, const char *class, const char *words) {
    struct server server;
    struct device device;
    fake_start(&server, bytes, size);
    device_connect(&device, server.port, "device", 1);
    assert_failure(&device.failure, device.result, class, words);
    assert_evidence(&device.failure, strcmp(class, "denied") == 0);
    device_free(&device);
    server_stop(&server);
}

#define BYTES(text) (text), sizeof(text) - 1

static void test_connack(void) {
    assert_fake(BYTES("\x20\x02\x00\x07"), "denied", ": not authorized (CONNACK 7 of MQTT 3.1.1)");
    assert_fake(BYTES("\x20\x02\x00\x05"), "denied", "(CONNACK 5 of MQTT 3.1.1)");
    assert_fake(BYTES("\x20\x02\x00\x04"), "denied", "(CONNACK 4 of MQTT 3.1.1)");
    assert_fake(BYTES("\x20\x02\x00\x03"), "cloud-busy", "(CONNACK 3 of MQTT 3.1.1)");
    assert_fake(BYTES("\x20\x02\x00\x02"), "invalid", "(CONNACK 2 of MQTT 3.1.1)");
    assert_fake(BYTES("\x20\x02\x00\x01"), "invalid", " refused the connection: ");
    assert_fake(BYTES("\x20\x03\x00\x85\x00"), "invalid", " (0x85)");
    assert_fake(BYTES("\x20\x03\x00\x97\x00"), "cloud-busy", ": Quota exceeded (0x97)");
    assert_fake(BYTES("\x20\x0c\x00\x87\x09\x1f\x00\x06no one"), "denied", "Not authorized (0x87): no one");
    assert_fake(BYTES("\xe0\x02\x87\x00"), "denied", " closed the connection: Not authorized (0x87)");
    assert_fake(BYTES("\x20\x03\x00\x8a\x00"), "denied", " (0x8a)");
    assert_fake(BYTES("\x20\x03\x00\x80\x00"), "cloud-busy", " (0x80)");
    assert_fake(BYTES("\x20\x03\x00\x88\x00"), "cloud-busy", " (0x88)");
    assert_fake(BYTES("\x20\x03\x00\x89\x00"), "cloud-busy", ": Server busy (0x89)");
    assert_fake(BYTES("\xe0\x02\x8b\x00"), "cloud-busy", " closed the connection: Server shutting down (0x8b)");
    assert_fake(BYTES("\xe0\x02\x8e\x00"), "network", " closed the connection: Session taken over (0x8e)");
    assert_fake(BYTES("\xe0\x02\x98\x00"), "denied", " (0x98)");
}

static void test_no_connack(void) {
    assert_fake("", 0, "network", "no CONNACK from localhost:");
    assert_fake(BYTES("\x20\x02\x00\x00"), "network", " broke the MQTT protocol before the CONNACK: ");
    assert_fake(BYTES("\x20\xff\xff\xff\xff\xff"), "network", " broke the MQTT protocol before the CONNACK: ");
    assert_fake(BYTES("\x00\x00"), "network", " broke the MQTT protocol before the CONNACK: ");
}

/* Reads the CONNECT, says close_notify and nothing else: AWS IoT, when it does not take the certificate. */
static void serve_close(int socket) {
    char packet[512];
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfTLS_server_method());
    wolfSSL_CTX_use_certificate_chain_file(context, "localhost.pem");
    wolfSSL_CTX_use_PrivateKey_file(context, "localhost.key", WOLFSSL_FILETYPE_PEM);
    WOLFSSL *session = wolfSSL_new(context);
    wolfSSL_set_fd(session, socket);
    if (wolfSSL_accept(session) == WOLFSSL_SUCCESS && wolfSSL_read(session, packet, sizeof packet) > 0)
        wolfSSL_shutdown(session);
    while (recv(socket, packet, sizeof packet, 0) > 0)
        ;
}

static void test_close_after_connect(void) {
    struct server server;
    struct device device;
    server_start_fake(&server, serve_close);
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_failure(&device.failure, device.result, "denied", " closed the connection without a CONNACK");
    assert_evidence(&device.failure, false);
    device_free(&device);
    server_stop(&server);
}

#define CONNACK "\x20\x03\x00\x00\x00"

/* What the server says after the CONNACK comes after the request, as libmosquitto 2.1 reads ahead. */
static void assert_suback(const void *bytes, size_t size, const char *class, const char *words) {
    static const char *const filters[] = {"req/a/accepted", "req/a/rejected"};
    struct server server;
    struct device device;
    fake_start(&server, BYTES(CONNACK));
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    ASSERT_NUMBER(write(server.input, bytes, size), (long long)size);
    assert_failure(&device.failure, mqtt_subscribe(device.mqtt, filters, 2, 1, &device.failure), class, words);
    device_free(&device);
    server_stop(&server);
}

static void test_suback(void) {
    assert_suback(BYTES("\x90\x05\x00\x01\x00\x00\x87"), "denied",
                  " refused the subscription to req/a/rejected: Not authorized (0x87)");
    assert_suback(BYTES("\x90\x05\x00\x01\x00\x80\x00"), "denied", " refused the subscription to req/a/accepted: ");
    assert_suback(BYTES("\x90\x05\x00\x01\x00\x97\x00"), "cloud-busy", "Quota exceeded (0x97)");
    assert_suback(BYTES("\x90\x04\x00\x01\x00\x00"), "network", " acknowledged 1 topic filters of 2");
    assert_suback(BYTES("\x90\x05\x00\x63\x00\x00\x00"), "network", "no SUBACK from localhost:");
    assert_suback(BYTES("\xe0\x02\x87\x00"), "denied", " closed the connection: Not authorized (0x87)");
}

/* The reply may overtake the PUBACK, and AWS IoT may send replies that were never subscribed to. */
static void test_reply_before_puback(void) {
    struct server server;
    struct device device;
    struct mqtt_reply reply = {0};
    fake_start(&server, BYTES(CONNACK));
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    ASSERT_NUMBER(write(server.input, BYTES("\x30\x12\x00\x0ereq/a/accepted\x00y")), 20);
    assert_done(&device, request(&device, "a", TIMEOUT_S, &reply));
    ASSERT_TEXT(reply.payload, "y");
    mqtt_reply_clear(&reply);
    device_free(&device);
    server_stop(&server);
}

static void assert_puback(const void *bytes, size_t size, const char *class, const char *words) {
    struct server server;
    struct device device;
    fake_start(&server, BYTES(CONNACK));
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    ASSERT_NUMBER(write(server.input, bytes, size), (long long)size);
    int r = mqtt_publish(device.mqtt, "req/a", "{}", 2, 1, &device.failure);
    if (class == NULL)
        assert_done(&device, r);
    else
        assert_failure(&device.failure, r, class, words);
    device_free(&device);
    server_stop(&server);
}

static void test_puback(void) {
    assert_puback(BYTES("\x40\x02\x00\x01"), NULL, NULL);
    assert_puback(BYTES("\x40\x04\x00\x01\x10\x00"), NULL, NULL);
    assert_puback(BYTES("\x40\x0b\x00\x01\x87\x07\x1f\x00\x04why?"), "denied", ": Not authorized (0x87): why?");
    assert_puback(BYTES("\x40\x04\x00\x01\x97\x00"), "cloud-busy", ": Quota exceeded (0x97)");
    assert_puback(BYTES("\x40\x04\x00\x01\x80\x00"), "cloud-busy", "(0x80)");
    assert_puback(BYTES("\x40\x04\x00\x01\x90\x00"), "invalid", "(0x90)");
    assert_puback(BYTES("\x40\x04\x00\x63\x00\x00"), "network", "no PUBACK from localhost:");
    assert_puback(BYTES("\xe0\x02\x87\x00"), "denied", " closed the connection: Not authorized (0x87)");
    assert_puback(BYTES("\xe0\x02\x8b\x00"), "cloud-busy", " closed the connection: Server shutting down (0x8b)");
}

/* AWS IoT, where it does not explain: says close_notify in place of the PUBACK. */
static void serve_close_after_publish(int socket) {
    char packet[512];
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfTLS_server_method());
    wolfSSL_CTX_use_certificate_chain_file(context, "localhost.pem");
    wolfSSL_CTX_use_PrivateKey_file(context, "localhost.key", WOLFSSL_FILETYPE_PEM);
    WOLFSSL *session = wolfSSL_new(context);
    wolfSSL_set_fd(session, socket);
    if (wolfSSL_accept(session) == WOLFSSL_SUCCESS && wolfSSL_read(session, packet, sizeof packet) > 0 &&
        wolfSSL_write(session, CONNACK, sizeof CONNACK - 1) > 0 && wolfSSL_read(session, packet, sizeof packet) > 0)
        wolfSSL_shutdown(session);
    while (recv(socket, packet, sizeof packet, 0) > 0)
        ;
}

static void test_close_after_publish(void) {
    struct server server;
    struct device device;
    server_start_fake(&server, serve_close_after_publish);
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    assert_failure(&device.failure, publish(&device, "req/a"), "network", " closed the connection without a PUBACK");
    CU_ASSERT(device.failure.wordless);
    device_free(&device);
    server_stop(&server);
}

static void test_disconnect_amid_request(void) {
    struct server server;
    struct device device;
    struct mqtt_reply reply = {0};
    fake_start(&server, BYTES(CONNACK));
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_done(&device, device.result);
    ASSERT_NUMBER(write(server.input, BYTES("\xe0\x02\x8b\x00")), 4);
    assert_failure(&device.failure, request(&device, "a", TIMEOUT_S, &reply), "cloud-busy",
                   " closed the connection: Server shutting down (0x8b)");
    device_free(&device);
    server_stop(&server);
}

/* In TLS 1.3 a server that does not take the client's certificate says so after the client believes to be through. */
static void test_certificate_refused(void) {
    struct server server;
    struct device device;
    if (system("openssl x509 -in ca.pem -noout -subject > /dev/null && cp device.pem other.pem") != 0)
        CU_FAIL("openssl");
    server_start_openssl(&server, "-cert localhost.pem -key localhost.key -CAfile localhost.pem -Verify 1 "
                                  "-verify_return_error -tls1_3");
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_failure(&device.failure, device.result, "denied", " refused the client certificate: TLS alert ");
    assert_evidence(&device.failure, true);
    device_free(&device);
    server_stop(&server);
}

/* In TLS 1.2 the same alert comes in the handshake, where anybody could have said it. */
static void test_certificate_refused_1_2(void) {
    struct server server;
    struct device device;
    server_start_openssl(&server, "-cert localhost.pem -key localhost.key -CAfile localhost.pem -Verify 1 "
                                  "-verify_return_error -tls1_2");
    device_connect(&device, server.port, "device", TIMEOUT_S);
    assert_failure(&device.failure, device.result, "network", "");
    assert_evidence(&device.failure, false);
    device_free(&device);
    server_stop(&server);
}

static bool resets;

/* Reads the CONNECT; then the end of TCP, and not of TLS. */
static void serve_cut(int socket) {
    const struct linger at_once = {.l_onoff = resets};
    char packet[512];
    WOLFSSL_CTX *context = wolfSSL_CTX_new(wolfTLS_server_method());
    wolfSSL_CTX_use_certificate_chain_file(context, "localhost.pem");
    wolfSSL_CTX_use_PrivateKey_file(context, "localhost.key", WOLFSSL_FILETYPE_PEM);
    WOLFSSL *session = wolfSSL_new(context);
    wolfSSL_set_fd(session, socket);
    if (wolfSSL_accept(session) == WOLFSSL_SUCCESS)
        wolfSSL_read(session, packet, sizeof packet);
    setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(socket);
}

static void test_cut_after_connect(void) {
    for (int i = 0; i < 2; i++) {
        struct server server;
        struct device device;
        resets = i == 1;
        server_start_fake(&server, serve_cut);
        device_connect(&device, server.port, "device", TIMEOUT_S);
        assert_failure(&device.failure, device.result, "network", "the connection broke before the CONNACK");
        assert_evidence(&device.failure, false);
        device_free(&device);
        server_stop(&server);
    }
}

static void test_filters(void) {
    static const char *const nine[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
    struct device device;
    shared_device(&device);
    assert_failure(&device.failure, mqtt_subscribe(device.mqtt, nine, 9, TIMEOUT_S, &device.failure), "invalid",
                   "9 topic filters: 1 to 8 fit into a SUBSCRIBE");
    assert_done(&device, 0 * (device.failure.message[0] = '\0'));
    assert_done(&device, mqtt_subscribe(device.mqtt, nine, 8, TIMEOUT_S, &device.failure));
    device_free(&device);
}

static void test_bad_client_id(void) {
    struct device device;
    if (system("cp device.pem '\xff.pem'; cp device.key '\xff.key'") != 0)
        CU_FAIL("cp");
    shared_device(&device);
    device_free(&device);
    device_connect(&device, shared.server.port, "\xff", TIMEOUT_S);
    assert_failure(&device.failure, device.result, "invalid", "the client id must be 1 to 128 bytes of UTF-8");
    device_free(&device);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"connect, subscribe, two requests, disconnect: no packet more", test_exchange},
        {"replies: empty, duplicate, of other topics, large, too large", test_replies},
        {"silence: network, and no payload in the message", test_silence},
        {"publish and its refusals", test_publish},
        {"a message, and whether it may be published", test_acknowledged},
        {"a reply on another topic", test_reply_elsewhere},
        {"a topic that others use, too", test_filter_replies},
        {"CONNACK: not authorized", test_refused},
        {"the broker is killed amid a request", test_broker_killed},
        {"other CONNACKs, of MQTT 5 and 3.1.1", test_connack},
        {"no CONNACK", test_no_connack},
        {"close_notify instead of a CONNACK: denied", test_close_after_connect},
        {"FIN and RST instead of a CONNACK: network", test_cut_after_connect},
        {"client certificate refused by an alert in TLS 1.2", test_certificate_refused_1_2},
        {"SUBACK", test_suback},
        {"a reply before the PUBACK", test_reply_before_puback},
        {"PUBACK", test_puback},
        {"close_notify instead of a PUBACK: network", test_close_after_publish},
        {"a DISCONNECT amid a request", test_disconnect_amid_request},
        {"client certificate refused by an alert in TLS 1.3", test_certificate_refused},
        {"eight filters in a SUBSCRIBE", test_filters},
        {"a client id that is not UTF-8", test_bad_client_id},
        {NULL, NULL},
    };
    static char script[8192];
    snprintf(script, sizeof script, "%s%s", fixture_functions, certificates);
    fixture_begin(script);
    int result = unit_run("mqtt", tests, argc, argv);
    if (shared.server.port != 0)
        broker_stop(&shared);
    return result;
}

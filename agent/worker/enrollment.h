/* One run of the job `enroll`: what the host has gathered, shared by the job (job-enroll.c), the plugin's view of the
 * host (host.c) and the proof (prove.c). */
#pragma once

#include "common/settings.h"
#include "worker/certificate.h"
#include "worker/key.h"
#include "worker/mqtt.h"
#include "worker/options.h"
#include "worker/plugin.h"
#include "worker/serial.h"

/* Each wait of the exchange, in seconds. A pre-provisioning hook may take 5 s (AWS IoT Developer Guide,
 * "Pre-provisioning hooks"), and the service needs its own time on top. */
#define CONNECT_TIMEOUT_S 30
#define SUBSCRIBE_TIMEOUT_S 15
#define EXCHANGE_TIMEOUT_S 30

struct enrollment {
    struct enrolld_host host; /* first: the plugin's pointer leads back here */
    const struct settings *settings;
    const struct options *options;
    struct failure *failure;
    const char *step;
    char serial_number[SERIAL_MAX];
    char *root_ca_pem;
    size_t root_ca_size;
    struct key *key;
    char *request_pem;
    struct mqtt *mqtt;
    struct key *client_key; /* the key of the connection that is open, when it is not `key` */
    struct mqtt_reply reply;
    char *certificate_pem; /* the new chain, leaf first */
    struct certificate certificate;
    char thing_name[129];
    bool has_thing; /* take_thing() was called */
    char *device_configuration;
    char client_id[256]; /* that was accepted when the identity was proven */
};

/* Fills the plugin's view of the host. */
void host_open(struct enrollment *enrollment);

/* Opens a connection; the key must outlive it. */
int host_connect(struct enrollment *enrollment, const char *client_id, const char *certificate_pem, struct key *key,
                 const char *step, struct failure *failure);

/* Closes it; accepts that there is none. */
void host_disconnect(struct enrollment *enrollment);

/* Judges what the proof will need of the settings, before anything is asked of the cloud: a mistake that only showed at
 * the proof would cost a certificate with each attempt. */
int prove_check_settings(const struct enrollment *enrollment);

/* Connects with the new certificate until it is accepted. A certificate, thing and policy that were just made may
 * need a while to be honoured, so whatever can pass is asked again for two minutes. */
int prove_identity(struct enrollment *enrollment);

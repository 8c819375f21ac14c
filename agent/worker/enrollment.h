/* One run of the job `enroll` or `renew`: what the host has gathered, shared by its steps (enrollment-run.c), its
 * checkpoints (enrollment.c), the plugin's view of the host (host.c) and the proof (prove.c). */
#pragma once

#include "common/channel.h"
#include "common/settings.h"
#include "worker/certificate.h"
#include "worker/checkpoint.h"
#include "worker/current.h"
#include "worker/https.h"
#include "worker/key.h"
#include "worker/mqtt.h"
#include "worker/options.h"
#include "worker/serial.h"

#include <enrolld/plugin.h>

/* Each wait of the exchange, in seconds. A pre-provisioning hook may take 5 s (AWS IoT Developer Guide,
 * "Pre-provisioning hooks"), and the service needs its own time on top. */
#define CONNECT_TIMEOUT_S 30
#define SUBSCRIBE_TIMEOUT_S 15
#define EXCHANGE_TIMEOUT_S 30
#define HTTPS_TIMEOUT_S 60
/* "Create that takes 60 s": a discrete TPM may need a minute for a key. */
#define KEY_TIMEOUT_S 120

/* AWS IoT Core accepts one CONNECT per second and client id (quotas, "Connect requests per second per client ID"). The
 * cloud counts from when it sees them: a little more. */
#define HOST_CONNECT_DISTANCE_MS 1100

struct enrollment {
    struct enrolld_host host;              /* first: the plugin's pointer leads back here */
    struct enrolld_current public_current; /* the plugin's view of `current` */
    const struct settings *settings;
    struct current *current; /* the identity in use, whose successor is wanted; NULL: there is none yet */
    const char *method;
    const struct enrolld_plugin *plugin;
    bool imports; /* key and certificate are those of `enrollctl import` */
    const struct options *options;
    struct failure *failure;
    const char *step;
    bool clock_is_doubtful; /* nobody has set it yet */
    char serial_number[SERIAL_MAX];
    struct subject subject;             /* of the request */
    struct tpm_endorsement endorsement; /* which TPM this is; empty with the file backend */
    char *root_ca_pem;
    size_t root_ca_size;
    struct key *key;
    uint32_t retry_after_s; /* what the last HTTPS response asked for */
    bool brings_key;        /* the method gets the key with the certificate: none is made here */
    bool had_key;           /* the private key was here in the clear */
    bool must_end;          /* and so this process does not go on: another one does, from the checkpoint */
    char *request_pem;
    struct mqtt *mqtt;
    struct key *client_key; /* the key of the connection that is open, when it is not `key` */
    struct mqtt_reply reply;
    struct https_response https_response;
    struct checkpoint held;         /* key, certificate, thing: as far as it has come */
    bool was_sent;                  /* its registration was asked for in an earlier attempt, and not answered */
    bool never_confirmed;           /* the certificate that was given up last: no answer said that it is registered */
    struct certificate certificate; /* the leaf of held.certificate_pem */
    bool wants_another;             /* a certificate is held, but the plugin is to ask for one in its place */
    char client_id[256];            /* that was accepted when the identity was proven */
    bool accepted;                  /* the plugin itself has proven the certificate that is held */
    bool connects_only;             /* at the last proof it was accepted, but may not publish to ProveTopic= */
    unsigned tries;                 /* of the plugin to do so */
    struct failure refusal;         /* of the last one */
    struct enrollment_connect {
        char client_id[256];
        int64_t boottime_ms;
    } connects[4]; /* the last ones */
    unsigned connect_count;
};

/* The whole run, once settings, method, failure and current are set; frees what it gathers. *resume: this process has
 * held a private key in the clear, and another one is to go on from the checkpoint; there is no result then. */
int enrollment_run(struct enrollment *enrollment, const struct configuration *configuration, struct message *job,
                   struct message *result, bool *resume);

/* Reads RootCA=, and gives up what a run does without: before the first byte that others have made. A run that needs it
 * earlier calls it itself. */
int enrollment_lock_down(struct enrollment *enrollment);

/* True for a renewal with ReuseKey=yes by a certificate that is asked for. */
bool enrollment_reuses_key(const struct enrollment *enrollment);

/* True for a renewal that was registered for another thing than that of the identity in use. */
bool enrollment_has_other_thing(const struct enrollment *enrollment);

/* The failure that says so; returns -1. */
int enrollment_refuse_thing(struct enrollment *enrollment);

/* Says which settings the checkpoints of this run are for: a change of endpoint, method, serial number, subject, kind
 * of key or of the plugin's options makes them worthless, and so does another identity that is renewed. Files that an
 * option names (the claim) are not among them. */
int enrollment_bind(struct enrollment *enrollment);

/* Goes on from the checkpoint of the job, if it has one for these settings whose key works in this TPM; otherwise
 * `held` stays at CHECKPOINT_NOTHING. Fails when the TPM cannot just now: the checkpoint is good. */
int enrollment_resume(struct enrollment *enrollment, const struct message *job);

/* Takes key and certificate of `enrollctl import` from the job. Class `invalid` and unusable if there are none, or not
 * for this TPM. */
int enrollment_take_imported(struct enrollment *enrollment, const struct message *job);

/* What is configured for the device's key. */
struct key_settings enrollment_key_settings(const struct enrollment *enrollment);

/* Takes the key over, also on failure, in place of one that is there. origin: as in identity.json. */
int enrollment_take_key(struct enrollment *enrollment, struct key *key, const char *origin);

/* Goes to a stage; durable when it returns. */
int enrollment_save(struct enrollment *enrollment, enum checkpoint_stage stage);

/* Fills the plugin's view of the host. */
void host_open(struct enrollment *enrollment);

/* Opens a connection; the key must outlive it. Waits first if the last CONNECT of this client id is less than a second
 * ago. */
int host_connect(struct enrollment *enrollment, const char *client_id, const char *certificate_pem, struct key *key,
                 const char *step, struct failure *failure);

/* Adds to a failure of host_connect(), if that is class `denied`, what to look at. */
void host_explain_denial(const char *client_id, struct failure *failure);

/* A software key for a connection that is not the device's own, and its certificate. Class `invalid` and unusable if
 * they cannot be used, or do not belong together. */
int host_load_client_key(struct enrollment *enrollment, const char *certificate_pem, const char *private_key_pem,
                         struct key **ret);

/* enrolld_host.https */
int host_https(const struct enrolld_host *host, const struct enrolld_https_request *request,
               struct enrolld_https_response *response);

/* Closes it; accepts that there is none. */
void host_disconnect(struct enrollment *enrollment);

/* Judges what the proof will need of the settings, before anything is asked of the cloud: a mistake that only showed at
 * the proof would cost a certificate with each attempt. */
int prove_check_settings(const struct enrollment *enrollment);

/* The name of the thing whose identity is renewed: as the cloud has told it, else by ThingName=, else "". */
int prove_known_name(const struct enrollment *enrollment, char ret[THING_NAME_SIZE]);

/* Connects with the certificate that is held until it is accepted. A certificate, thing and policy that were just made
 * may need a while to be honoured, so whatever can pass is asked again for patience_ms; 0: each client id once. Names
 * the thing by ThingName= if the cloud has not. */
int prove_identity(struct enrollment *enrollment, uint64_t patience_ms);

/* One CONNECT with the certificate that is held: with each of the client ids in turn, one a call. */
int prove_once(struct enrollment *enrollment);

/* True for the classes of failure that can pass while a new certificate becomes known in the cloud. */
bool prove_is_worth_waiting(enum failure_class class);

#include "worker/prove.h"
#include "common/cleanup.h"
#include "common/specifier.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/client-id.h"
#include "worker/enrollment.h"
#include "worker/report.h"
#include "worker/topic.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The two names and what JSON has around them. */
#define PROOF_SIZE (CERTIFICATE_ID_SIZE + THING_NAME_SIZE + 64)

/* What a proof connects as, and where it publishes. */
struct proof {
    char *own_id;  /* the agent's own */
    char *bare_id; /* of the thing itself; NULL: not to be used */
    char *topic;   /* NULL: connecting is enough */
};

static void cleanup_proof(struct proof *proof) {
    free(proof->own_id);
    free(proof->bare_id);
    free(proof->topic);
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* 64 hexadecimal digits, in place of an id that is not known yet. */
static const char any_id[] = "0000000000000000000000000000000000000000000000000000000000000000";

/* The common name of a certificate that was imported. Any other one has what its issuer writes into it, which may be
 * the same for a whole fleet ("AWS IoT Certificate"): there it is the name that was asked for, or the serial number
 * where nothing is asked for. */
static const char *common_name_of(const struct enrollment *enrollment) {
    const char *name = enrollment->subject.common_name;
    if (enrollment->imports)
        name = enrollment->certificate.common_name;
    else if (enrollment->brings_key)
        name = enrollment->serial_number;
    return name[0] != '\0' ? name : NULL;
}

static struct specifier_values values_of(const struct enrollment *enrollment, const char *thing_name) {
    bool held = enrollment->held.certificate_pem != NULL;
    return (struct specifier_values){
        .serial_number = enrollment->serial_number,
        .thing_name = thing_name[0] != '\0' ? thing_name : NULL,
        .common_name = common_name_of(enrollment),
        .certificate_id = held ? enrollment->certificate.id : any_id,
        .old_certificate_id = enrollment->current != NULL ? enrollment->current->certificate.id : NULL,
    };
}

/* What a device is known by that was never told the name of its thing: an imported certificate was made for it by its
 * common name, any other one was asked for by the serial number. Many use that as the thing's name, too. */
static const char *other_name(const struct enrollment *enrollment, const struct specifier_values *values) {
    return enrollment->imports && values->common_name != NULL ? "%c" : "%s";
}

/* The ids to try in turn, those that are too long left out. The agent's own id never throws the application out; a
 * policy that only allows the thing's name as client id, as many do, leaves no other choice, and without an identity no
 * application is online. */
static int list_client_ids(const struct enrollment *enrollment, const char *thing_name, struct proof *proof) {
    const struct specifier_values values = values_of(enrollment, thing_name);
    const char *configured = enrollment->settings->client_id;
    const char *bare = values.thing_name != NULL ? "%t" : other_name(enrollment, &values);
    char own[SETTINGS_NAME_MAX + 1];
    if (configured[0] != '\0')
        snprintf(own, sizeof own, "%s", configured);
    else
        snprintf(own, sizeof own, "%s" CLIENT_ID_SUFFIX, bare);
    const char *patterns[] = {own, configured[0] == '\0' ? bare : NULL};
    char **ids[] = {&proof->own_id, &proof->bare_id};
    size_t count = 0;
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns && patterns[i] != NULL; i++) {
        AUTO_FREE char *id = NULL;
        if (specifier_expand(patterns[i], &values, "ClientId", &id, enrollment->failure) < 0)
            return -1;
        if (strlen(id) <= CLIENT_ID_MAX)
            *ids[count++] = TAKE_POINTER(id);
    }
    if (count > 0)
        return 0;
    return failure_set(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                       "ClientId=%s gives an MQTT client id of more than %d bytes", own, CLIENT_ID_MAX);
}

/* Where the name of the thing was never told, the topic has that which the device connects as. */
static int name_topic(const struct enrollment *enrollment, const char *thing_name, struct proof *proof) {
    struct specifier_values values = values_of(enrollment, thing_name);
    if (enrollment->settings->prove_topic[0] == '\0')
        return 0;
    if (values.thing_name == NULL)
        values.thing_name =
            strcmp(other_name(enrollment, &values), "%c") == 0 ? values.common_name : values.serial_number;
    return topic_expand(enrollment->settings->prove_topic, &values, "ProveTopic", &proof->topic, enrollment->failure);
}

/* Beside an identity in use there is an application: its id is never taken, not even where the proof of that identity
 * needed it. */
static int name_own_id(const struct enrollment *enrollment, const char *thing_name, struct proof *proof) {
    const struct specifier_values values = values_of(enrollment, thing_name);
    struct identity identity = enrollment->current->identity; /* only its names are looked at */
    snprintf(identity.thing_name, sizeof identity.thing_name, "%s", thing_name);
    return client_id_own(enrollment->settings, &identity, values.common_name, values.certificate_id, &proof->own_id,
                         enrollment->failure);
}

static int prepare_proof(const struct enrollment *enrollment, const char *thing_name, struct proof *proof) {
    int r = enrollment->current != NULL ? name_own_id(enrollment, thing_name, proof)
                                        : list_client_ids(enrollment, thing_name, proof);
    if (r < 0)
        return -1;
    return name_topic(enrollment, thing_name, proof);
}

/* What ThingName= says, "" for nothing. */
static int expand_thing_name(const struct enrollment *enrollment, char ret[THING_NAME_SIZE]) {
    const struct specifier_values values = values_of(enrollment, "");
    AUTO_FREE char *name = NULL;
    ret[0] = '\0';
    if (enrollment->settings->thing_name[0] == '\0')
        return 0;
    if (specifier_expand(enrollment->settings->thing_name, &values, "ThingName", &name, enrollment->failure) < 0)
        return -1;
    if (!text_is_thing_name(name))
        return failure_set(enrollment->failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "ThingName= gives \"%.140s\", which is no thing name: 1 to 128 of a-z A-Z 0-9 : _ -", name);
    memcpy(ret, name, strlen(name) + 1);
    return 0;
}

int prove_known_name(const struct enrollment *enrollment, char ret[THING_NAME_SIZE]) {
    snprintf(ret, THING_NAME_SIZE, "%s", enrollment->current->identity.thing_name);
    return ret[0] != '\0' || enrollment->imports ? 0 : expand_thing_name(enrollment, ret);
}

int prove_check_settings(const struct enrollment *enrollment) {
    CLEANUP(cleanup_proof) struct proof proof = {.topic = NULL};
    char name[THING_NAME_SIZE];
    if (expand_thing_name(enrollment, name) < 0)
        return -1;
    return prepare_proof(
        enrollment, enrollment->current != NULL ? enrollment->current->identity.thing_name : enrollment->serial_number,
        &proof);
}

/* AWS IoT takes one CONNECT per second and client id, so the first wait is already longer than that. */
static int wait_before(unsigned round) {
    static const int seconds[] = {2, 2, 4, 8, 15};
    size_t last = sizeof seconds / sizeof *seconds - 1;
    return poll(NULL, 0, 1000 * seconds[round < last ? round : last]);
}

/* AWS IoT may also refuse a certificate that it does not know yet by closing the connection, which looks like the
 * network's fault; and giving up now would waste a certificate that is registered already. */
bool prove_is_worth_waiting(enum failure_class class) {
    switch (class) {
    case FAILURE_DENIED:
    case FAILURE_NETWORK:
    case FAILURE_CLOUD_BUSY:
    case FAILURE_NOT_YET:
        return true;
    case FAILURE_INVALID:
    case FAILURE_CLOCK:
    case FAILURE_TPM:
    case FAILURE_INTERNAL:
        return false;
    }
    return false;
}

int prove_publish(struct mqtt *mqtt, const char *topic, const char *certificate_id, const char *thing_name,
                  struct failure *failure) {
    char proof[PROOF_SIZE];
    /* Neither has a letter that JSON would escape. */
    snprintf(proof, sizeof proof, "{\"certificateId\":\"%s\",\"thingName\":\"%s\"}", certificate_id, thing_name);
    if (mqtt_publish(mqtt, topic, proof, strlen(proof), EXCHANGE_TIMEOUT_S, failure) == 0)
        return 0;
    failure->reached = true;
    if (failure->class == FAILURE_DENIED || failure->wordless)
        failure_append(failure,
                       "; the certificate connects but may not publish to %s (ProveTopic=): does its policy allow "
                       "iot:Publish on topic/%s?",
                       topic, topic);
    return -1;
}

/* Notes of a refusal at which of the two it was: one that connects is surely registered. */
static int try_id(struct enrollment *enrollment, const struct proof *proof, const char *id) {
    int r = host_connect(enrollment, id, enrollment->held.certificate_pem, enrollment->key, STEP_PROVE,
                         enrollment->failure);
    enrollment->connects_only = r == 0 && proof->topic != NULL;
    if (enrollment->connects_only)
        r = prove_publish(enrollment->mqtt, proof->topic, enrollment->certificate.id, enrollment->held.thing_name,
                          enrollment->failure);
    if (r == 0)
        snprintf(enrollment->client_id, sizeof enrollment->client_id, "%s", id);
    host_disconnect(enrollment);
    return r;
}

static int try_id_and_explain(struct enrollment *enrollment, const struct proof *proof, const char *id) {
    int r = try_id(enrollment, proof, id);
    if (r < 0 && !enrollment->connects_only)
        host_explain_denial(id, enrollment->failure);
    return r;
}

/* The agent's own id first, and in the attempt in which the cloud is still at work on the registration also second: so
 * that the other one, which the application may use as soon as there is an identity, is only used where it must be. */
static bool is_turn_of_bare(struct enrollment *enrollment) {
    unsigned number = enrollment->tries++;
    return enrollment->host.waited_s > 0 ? number % 2 == 1 : number > 0 && number % 2 == 0;
}

/* Where the cloud has not told the thing's name the operator may have, and a renewal is for the thing that the device
 * is already. An imported certificate that ThingName= makes another one of is refused. */
static int name_thing(struct enrollment *enrollment, struct proof *proof) {
    const struct current *current = enrollment->current;
    char *thing_name = enrollment->held.thing_name;
    bool known = current != NULL && current->identity.thing_name[0] != '\0' && !enrollment->imports;
    if (thing_name[0] == '\0' && !known && expand_thing_name(enrollment, thing_name) < 0)
        return -1;
    if (enrollment_has_other_thing(enrollment))
        return enrollment_refuse_thing(enrollment);
    if (thing_name[0] == '\0' && current != NULL)
        snprintf(thing_name, THING_NAME_SIZE, "%s", current->identity.thing_name);
    return prepare_proof(enrollment, thing_name, proof);
}

int prove_once(struct enrollment *enrollment) {
    CLEANUP(cleanup_proof) struct proof proof = {.topic = NULL};
    if (name_thing(enrollment, &proof) < 0)
        return -1;
    bool bare = proof.bare_id != NULL && is_turn_of_bare(enrollment);
    int r = try_id(enrollment, &proof, bare ? proof.bare_id : proof.own_id);
    if (r < 0 && enrollment->failure->reached)
        failure_append(enrollment->failure, "; the agent's client id is %s", proof.own_id);
    return r;
}

int prove_identity(struct enrollment *enrollment, uint64_t patience_ms) {
    CLEANUP(cleanup_proof) struct proof proof = {.topic = NULL};
    int r = name_thing(enrollment, &proof);
    if (r < 0)
        return -1;
    report_step(STEP_PROVE);
    int64_t end_ms = now_ms() + (int64_t)patience_ms;
    for (unsigned round = 0;; round++) {
        r = try_id_and_explain(enrollment, &proof, proof.own_id);
        if (r < 0 && enrollment->failure->class == FAILURE_DENIED && proof.bare_id != NULL)
            r = try_id_and_explain(enrollment, &proof, proof.bare_id);
        if (r == 0 || !prove_is_worth_waiting(enrollment->failure->class) || now_ms() >= end_ms)
            return r;
        report_refusal(enrollment->failure);
        wait_before(round);
    }
}

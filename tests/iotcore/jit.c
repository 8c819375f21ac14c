#include "jit.h"

#include "common/cleanup.h"
#include "json_read.h"
#include "registry_authority.h"
#include "reply.h"
#include "rule.h"
#include "subject.h"
#include "template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A certificate that waits for its template to be applied. */
struct jit_work {
    char certificate_id[ISSUER_ID_SIZE];
    int64_t due; /* monotonic milliseconds */
    struct jit_work *next;
};

static bool text_is(struct json_object *object, const char *name, const char *value) {
    const char *text = json_text(object, name);
    return text != NULL && strcmp(text, value) == 0;
}

/* Why nothing is registered under it, or NULL. */
static const char *authority_fault(struct json_object *authority) {
    if (!text_is(authority, "status", "ACTIVE"))
        return "the authority is not ACTIVE";
    if (!text_is(authority, "autoRegistrationStatus", "ENABLE"))
        return "automatic registration is disabled";
    return NULL;
}

/* Whether the client has sent the authority's certificate along. */
static bool chain_has(const struct arrival *arrival, const char *authority_id) {
    for (unsigned i = 0; i < arrival->issuer_count; i++) {
        char id[ISSUER_ID_SIZE];
        if (issuer_certificate_id(arrival->issuers[i], id) && strcmp(id, authority_id) == 0)
            return true;
    }
    return false;
}

/* Since 2022 a server name stands for the authority's certificate; before, it had to be sent in any case. */
static const char *chain_fault(const struct standin *standin, const struct arrival *arrival, const char *authority_id) {
    if (chain_has(arrival, authority_id))
        return NULL;
    if (standin->options.require_issuer)
        return "the authority's certificate was not sent";
    return arrival->named ? NULL : "neither the authority's certificate nor the server name was sent";
}

/* The authority under which the certificate is registered: several may have signed it, and the first without a fault is
 * taken. Returns NULL or the reason. */
static const char *find_authority(const struct standin *standin, const struct arrival *arrival,
                                  char ret_id[ISSUER_ID_SIZE]) {
    const struct registry *registry = standin->provisioning.registry;
    AUTO_JSON struct json_object *ids = registry_authorities_of(registry, arrival->identity.certificate);
    const char *reason = "no registered authority has signed it";
    for (size_t i = 0; i < json_object_array_length(ids); i++) {
        const char *id = json_object_get_string(json_object_array_get_idx(ids, i));
        reason = authority_fault(registry_authority(registry, id));
        if (reason == NULL)
            reason = chain_fault(standin, arrival, id);
        if (reason != NULL)
            continue;
        snprintf(ret_id, ISSUER_ID_SIZE, "%s", id);
        return NULL;
    }
    return reason;
}

static void publish(struct standin *standin, const char *certificate_id, const char *authority_id) {
    const struct registry *registry = standin->provisioning.registry;
    char topic[sizeof "$aws/events/certificates/registered/" + ISSUER_ID_SIZE];
    AUTO_JSON struct json_object *payload = json_object_new_object();
    snprintf(topic, sizeof topic, "$aws/events/certificates/registered/%s", authority_id);
    json_object_object_add(payload, "certificateId", json_object_new_string(certificate_id));
    json_object_object_add(payload, "caCertificateId", json_object_new_string(authority_id));
    json_object_object_add(payload, "timestamp", json_object_new_int64(registry_milliseconds(registry)));
    json_object_object_add(payload, "certificateStatus", json_object_new_string("PENDING_ACTIVATION"));
    json_object_object_add(payload, "awsAccountId", json_object_new_string(registry_account(registry)));
    /* The guide shows text, what AWS IoT sends is null. */
    json_object_object_add(payload, "certificateRegistrationTimestamp", NULL);
    const char *text = json_object_to_json_string_ext(payload, JSON_C_TO_STRING_PLAIN);
    for (const struct connection *connection = standin->connections.first; connection != NULL;
         connection = connection->next)
        if (connection->client != NULL && connection_subscribed(connection, topic) >= 0)
            reply_send(standin, &connection->identity, topic, text, 0);
    const struct rule_input input = {topic, "", certificate_id, text, strlen(text)};
    rule_message(standin, &input);
}

/* The second time too, and each time after: as long as the certificate is PENDING_ACTIVATION. */
static void tell_registered(struct standin *standin, const struct arrival *arrival, const char *authority_id,
                            bool repeated) {
    struct json_object *event = standin_event("registered", &arrival->identity);
    event_text(event, "caCertificateId", authority_id);
    if (repeated)
        json_object_object_add(event, "repeated", json_object_new_boolean(true));
    event_write(standin->events, event);
    publish(standin, arrival->identity.certificate_id, authority_id);
}

static struct jit_work *find_work(const struct standin *standin, const char *certificate_id) {
    for (struct jit_work *work = standin->jit_works; work != NULL; work = work->next)
        if (strcmp(work->certificate_id, certificate_id) == 0)
            return work;
    return NULL;
}

static void schedule(struct standin *standin, const char *certificate_id, const char *authority_id) {
    struct json_object *authority = registry_authority(standin->provisioning.registry, authority_id);
    if (json_member(authority, "registrationConfig", json_type_object) == NULL ||
        find_work(standin, certificate_id) != NULL)
        return;
    struct jit_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return;
    snprintf(work->certificate_id, sizeof work->certificate_id, "%s", certificate_id);
    work->due = standin_milliseconds() + standin->options.jitp_delay;
    work->next = standin->jit_works;
    standin->jit_works = work;
}

static const char *register_certificate(struct standin *standin, const struct arrival *arrival) {
    char authority_id[ISSUER_ID_SIZE], certificate_id[ISSUER_ID_SIZE];
    struct registry *registry = standin->provisioning.registry;
    const char *reason = issuer_certificate_fault(arrival->identity.certificate);
    if (reason == NULL && !identity_within_validity(&arrival->identity, registry_now(registry)))
        reason = "it is not within its validity";
    if (reason == NULL)
        reason = find_authority(standin, arrival, authority_id);
    if (reason != NULL)
        return reason;
    const char *mode = json_text(registry_authority(registry, authority_id), "certificateMode");
    if (registry_certificate_register(registry, arrival->identity.certificate, "PENDING_ACTIVATION", authority_id,
                                      mode != NULL ? mode : "DEFAULT", certificate_id) < 0)
        return "out of memory";
    standin_save(standin);
    tell_registered(standin, arrival, authority_id, false);
    schedule(standin, certificate_id, authority_id);
    return NULL;
}

/* A certificate of the provisioning API is PENDING_ACTIVATION too, and has no authority here. */
static const char *meet_again(struct standin *standin, const struct arrival *arrival, struct json_object *certificate) {
    const char *id = arrival->identity.certificate_id, *authority_id = json_text(certificate, "caCertificateId");
    if (authority_id == NULL)
        return "it waits for RegisterThing";
    const char *reason = authority_fault(registry_authority(standin->provisioning.registry, authority_id));
    if (reason != NULL)
        return reason;
    tell_registered(standin, arrival, authority_id, true);
    if (standin->options.jitp_rerun)
        schedule(standin, id, authority_id);
    return NULL;
}

const char *jit_connect(struct standin *standin, const struct arrival *arrival) {
    struct json_object *certificate =
        registry_certificate(standin->provisioning.registry, arrival->identity.certificate_id);
    if (certificate == NULL)
        return register_certificate(standin, arrival);
    if (text_is(certificate, "status", "PENDING_ACTIVATION"))
        return meet_again(standin, arrival, certificate);
    return NULL;
}

/* The authority's own template, or one by its name; owned by the caller. */
static struct json_object *find_template(const struct registry *registry, struct json_object *authority) {
    struct json_object *config = json_member(authority, "registrationConfig", json_type_object);
    const char *body = json_text(config, "templateBody"), *name = json_text(config, "templateName");
    if (body != NULL)
        return json_parse(body, strlen(body));
    return name != NULL ? registry_template(registry, name, REGISTRY_TEMPLATE_JITP) : NULL;
}

/* What only fleet provisioning templates have. */
static int check_members(struct json_object *template, struct rejection *rejection) {
    static const char *const foreign[] = {"DeviceConfiguration", "Mappings"};
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++)
        if (json_object_object_get_ex(template, foreign[i], NULL))
            return rejection_set(rejection, 400, "InvalidParameters", "A JITP template has no %s", foreign[i]);
    return 0;
}

static int apply_template(struct registry *registry, const char *certificate_id, struct json_object *template,
                          char **ret_thing, struct rejection *rejection) {
    const char *pem = json_text(registry_certificate(registry, certificate_id), "pem");
    AUTO_JSON struct json_object *parameters = NULL;
    struct template_result result;
    X509 *certificate = pem != NULL ? issuer_read_certificate(pem, strlen(pem)) : NULL;
    if (certificate == NULL)
        return rejection_set(rejection, 500, "InternalError", "The registry has no such certificate");
    int error = subject_parameters(certificate, certificate_id, json_member(template, "Parameters", json_type_object),
                                   &parameters, rejection);
    X509_free(certificate);
    if (error < 0 || check_members(template, rejection) < 0 ||
        template_resolve(template, parameters, certificate_id, &result, rejection) < 0)
        return -1;
    error = registry_apply(registry, &result, certificate_id, rejection);
    if (error == 0)
        *ret_thing = TAKE_POINTER(result.thing.name);
    template_result_clear(&result);
    return error;
}

/* jitp_fail: so many fail, as AWS IoT's own requests may be throttled; a negative number is all of them. */
static bool is_to_fail(struct standin_options *options) {
    if (options->jitp_fail > 0)
        options->jitp_fail--;
    else if (options->jitp_fail == 0)
        return false;
    return true;
}

static int provision(struct standin *standin, const char *certificate_id, char **ret_thing,
                     struct rejection *rejection) {
    struct registry *registry = standin->provisioning.registry;
    struct json_object *certificate = registry_certificate(registry, certificate_id);
    const char *authority_id = json_text(certificate, "caCertificateId");
    if (authority_id == NULL || !text_is(certificate, "status", "PENDING_ACTIVATION"))
        return rejection_set(rejection, 409, "ResourceConflict", "The certificate is no longer PENDING_ACTIVATION");
    if (is_to_fail(&standin->options))
        return rejection_set(rejection, 429, "Throttled", "Injected fault");
    AUTO_JSON struct json_object *template = find_template(registry, registry_authority(registry, authority_id));
    if (template == NULL)
        return rejection_set(rejection, 404, "ResourceNotFound", "The authority has no template that can be used");
    return apply_template(registry, certificate_id, template, ret_thing, rejection);
}

static void finish(struct standin *standin, const char *certificate_id) {
    AUTO_FREE char *thing_name = NULL;
    struct rejection rejection;
    int error = provision(standin, certificate_id, &thing_name, &rejection);
    if (error == 0)
        standin_save(standin);
    struct json_object *event = event_new("jitp");
    event_text(event, "certificateId", certificate_id);
    event_text(event, "result", error == 0 ? "provisioned" : "failed");
    event_text(event, "thingName", thing_name);
    event_text(event, "reason", error == 0 ? NULL : rejection.message);
    event_write(standin->events, event);
}

void jit_tick(struct standin *standin) {
    int64_t now = standin_milliseconds();
    for (struct jit_work **link = &standin->jit_works; *link != NULL;) {
        struct jit_work *work = *link;
        if (work->due > now) {
            link = &work->next;
            continue;
        }
        *link = work->next;
        finish(standin, work->certificate_id);
        free(work);
    }
}

void jit_clear(struct standin *standin) {
    while (standin->jit_works != NULL) {
        struct jit_work *work = standin->jit_works;
        standin->jit_works = work->next;
        free(work);
    }
}

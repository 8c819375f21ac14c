#include "worker/identity.h"

#include "common/step.h"
#include "worker/document.h"

#include <stdlib.h>
#include <string.h>

void identity_clear(struct identity *identity) {
    free(identity->device_configuration);
    memset(identity, 0, sizeof *identity);
}

int identity_encode(const struct identity *identity, char **ret_json, struct failure *failure) {
    AUTO_DOCUMENT json_object *object = json_object_new_object();
    json_object *configuration = NULL;
    if (identity->device_configuration != NULL) {
        configuration = document_parse(identity->device_configuration, strlen(identity->device_configuration));
        if (configuration == NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_REGISTER, "deviceConfiguration is not a JSON object");
    }
    document_add_number(object, "schema", IDENTITY_SCHEMA);
    document_add_number(object, "generation", (int64_t)identity->generation);
    document_add_text(object, "method", identity->method);
    document_add_text(object, "endpoint", identity->endpoint);
    document_add_text(object, "clientId", identity->client_id);
    document_add_text(object, "thingName", identity->thing_name);
    document_add_text(object, "serialNumber", identity->serial_number);
    document_add_text(object, "certificateId", identity->certificate_id);
    document_add_text(object, "keyBackend", identity->key_backend);
    document_add_text(object, "keyAlgorithm", identity->key_algorithm);
    document_add_text(object, "keyOrigin", identity->key_origin);
    document_add_text(object, "parentName", identity->parent_name);
    document_add_text(object, "ekName", identity->ek_name);
    document_add_number(object, "notBefore", identity->not_before);
    document_add_number(object, "notAfter", identity->not_after);
    document_add_number(object, "issuedAt", identity->issued_at);
    if (configuration != NULL)
        json_object_object_add(object, "deviceConfiguration", configuration);
    *ret_json = document_print(object);
    return *ret_json != NULL ? 0 : failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "out of memory");
}

/* NULL, or the first member that is missing or malformed. */
static const char *read_members(json_object *object, struct identity *identity) {
    const struct {
        const char *name;
        char *buffer;
        size_t size;
    } texts[] = {
        {"method", identity->method, sizeof identity->method},
        {"endpoint", identity->endpoint, sizeof identity->endpoint},
        {"clientId", identity->client_id, sizeof identity->client_id},
        {"thingName", identity->thing_name, sizeof identity->thing_name},
        {"serialNumber", identity->serial_number, sizeof identity->serial_number},
        {"certificateId", identity->certificate_id, sizeof identity->certificate_id},
        {"keyBackend", identity->key_backend, sizeof identity->key_backend},
        {"keyAlgorithm", identity->key_algorithm, sizeof identity->key_algorithm},
        {"keyOrigin", identity->key_origin, sizeof identity->key_origin},
        {"parentName", identity->parent_name, sizeof identity->parent_name},
    };
    int64_t generation = 0;
    json_object *ek_name = NULL; /* not written by the first version */
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!document_get_text(object, texts[i].name, texts[i].buffer, texts[i].size))
            return texts[i].name;
    if (json_object_object_get_ex(object, "ekName", &ek_name) &&
        !document_get_text(object, "ekName", identity->ek_name, sizeof identity->ek_name))
        return "ekName";
    if (!document_get_number(object, "generation", &generation))
        return "generation";
    identity->generation = (uint64_t)generation;
    if (!document_get_number(object, "notBefore", &identity->not_before))
        return "notBefore";
    if (!document_get_number(object, "notAfter", &identity->not_after))
        return "notAfter";
    return document_get_number(object, "issuedAt", &identity->issued_at) ? NULL : "issuedAt";
}

int identity_parse(const char *json, size_t size, struct identity *ret, struct failure *failure) {
    AUTO_DOCUMENT json_object *object = document_parse(json, size);
    struct identity identity = {0};
    int64_t schema = 0;
    if (object == NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "identity.json is not a JSON object");
    if (!document_get_number(object, "schema", &schema) || schema < 1)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "identity.json: schema is missing or malformed");
    const char *wrong = read_members(object, &identity);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_VERIFY, "identity.json: %s is missing or malformed", wrong);
    identity.device_configuration = document_get_object(object, "deviceConfiguration");
    *ret = identity;
    return 0;
}

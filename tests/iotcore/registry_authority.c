#include "registry_authority.h"

#include "common/cleanup.h"
#include "json_read.h"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void set_text(struct json_object *object, const char *name, const char *text) {
    json_object_object_add(object, name, json_object_new_string(text));
}

static void set_number(struct json_object *object, const char *name, int64_t number) {
    json_object_object_add(object, name, json_object_new_int64(number));
}

struct json_object *registry_authorities(const struct registry *registry) {
    return registry_section(registry, "authorities");
}

struct json_object *registry_authority(const struct registry *registry, const char *authority_id) {
    return json_member(registry_authorities(registry), authority_id, json_type_object);
}

struct json_object *registry_certificates(const struct registry *registry) {
    return registry_section(registry, "certificates");
}

struct json_object *registry_certificate(const struct registry *registry, const char *certificate_id) {
    return json_member(registry_certificates(registry), certificate_id, json_type_object);
}

static int64_t seconds_of(const ASN1_TIME *time) {
    struct tm parts;
    return ASN1_TIME_to_tm(time, &parts) == 1 ? (int64_t)timegm(&parts) : 0;
}

struct json_object *registry_validity(const X509 *certificate) {
    struct json_object *validity = json_object_new_object();
    set_number(validity, "notBefore", seconds_of(X509_get0_notBefore(certificate)));
    set_number(validity, "notAfter", seconds_of(X509_get0_notAfter(certificate)));
    return validity;
}

/* So many random bytes as hexadecimal digits. */
static bool random_digits(char *digits, unsigned count) {
    unsigned char bytes[32];
    if (RAND_bytes(bytes, (int)count) != 1)
        return false;
    for (unsigned i = 0; i < count; i++)
        snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

static void apply_settings(struct json_object *authority, const struct registry_authority_settings *settings) {
    if (settings->status != NULL)
        set_text(authority, "status", settings->status);
    if (settings->auto_registration != NULL)
        set_text(authority, "autoRegistrationStatus", settings->auto_registration);
    if (settings->registration_config != NULL)
        json_object_object_add(authority, "registrationConfig", json_object_get(settings->registration_config));
}

int registry_authority_add(struct registry *registry, X509 *certificate,
                           const struct registry_authority_settings *settings, char ret_id[ISSUER_ID_SIZE]) {
    char id[ISSUER_ID_SIZE], generation[65];
    AUTO_FREE char *pem = issuer_certificate_pem(certificate);
    if (pem == NULL || !issuer_certificate_id(certificate, id) || !random_digits(generation, 32))
        return -ENOMEM;
    if (registry_authority(registry, id) != NULL)
        return -EEXIST;
    struct json_object *authority = json_object_new_object();
    apply_settings(authority, settings);
    set_text(authority, "certificateMode", settings->mode);
    set_number(authority, "createdAt", registry_now(registry));
    set_number(authority, "modifiedAt", registry_now(registry));
    json_object_object_add(authority, "validity", registry_validity(certificate));
    set_number(authority, "customerVersion", 1);
    set_text(authority, "generationId", generation);
    set_text(authority, "ownedBy", registry_account(registry));
    set_text(authority, "pem", pem);
    json_object_object_add(registry_authorities(registry), id, authority);
    memcpy(ret_id, id, sizeof id);
    return 0;
}

/* Each change counts up the version ("customerVersion"). */
static int touch(struct registry *registry, struct json_object *authority) {
    if (authority == NULL)
        return -ENOENT;
    int64_t version = json_object_get_int64(json_member(authority, "customerVersion", json_type_int));
    set_number(authority, "customerVersion", version + 1);
    set_number(authority, "modifiedAt", registry_now(registry));
    return 0;
}

int registry_authority_update(struct registry *registry, const char *authority_id,
                              const struct registry_authority_settings *settings) {
    struct json_object *authority = registry_authority(registry, authority_id);
    if (touch(registry, authority) < 0)
        return -ENOENT;
    apply_settings(authority, settings);
    return 0;
}

int registry_authority_forget_config(struct registry *registry, const char *authority_id) {
    struct json_object *authority = registry_authority(registry, authority_id);
    if (touch(registry, authority) < 0)
        return -ENOENT;
    json_object_object_del(authority, "registrationConfig");
    return 0;
}

int registry_authority_delete(struct registry *registry, const char *authority_id) {
    struct json_object *authority = registry_authority(registry, authority_id);
    const char *status = json_text(authority, "status");
    if (authority == NULL)
        return -ENOENT;
    if (status != NULL && strcmp(status, "ACTIVE") == 0)
        return -EBUSY;
    json_object_object_del(registry_authorities(registry), authority_id);
    return 0;
}

bool registry_signed_by(X509 *certificate, X509 *authority) {
    EVP_PKEY *key = X509_get0_pubkey(authority);
    return key != NULL && X509_NAME_cmp(X509_get_issuer_name(certificate), X509_get_subject_name(authority)) == 0 &&
           X509_verify(certificate, key) == 1;
}

static bool signed_by_pem(X509 *certificate, const char *pem) {
    X509 *authority = pem != NULL ? issuer_read_certificate(pem, strlen(pem)) : NULL;
    bool answer = authority != NULL && registry_signed_by(certificate, authority);
    X509_free(authority);
    return answer;
}

struct json_object *registry_authorities_of(const struct registry *registry, X509 *certificate) {
    struct json_object *found = json_object_new_array();
    json_object_object_foreach(registry_authorities(registry), id, authority) {
        if (signed_by_pem(certificate, json_text(authority, "pem")))
            json_object_array_add(found, json_object_new_string(id));
    }
    return found;
}

const char *registry_registration_code(struct registry *registry) {
    const char *code = json_text(registry_root(registry), "registrationCode");
    char digits[65];
    if (code != NULL)
        return code;
    if (!random_digits(digits, 32))
        return NULL;
    set_text(registry_root(registry), "registrationCode", digits);
    return json_text(registry_root(registry), "registrationCode");
}

void registry_registration_code_delete(struct registry *registry) {
    json_object_object_del(registry_root(registry), "registrationCode");
}

int registry_certificate_register(struct registry *registry, X509 *certificate, const char *status,
                                  const char *authority_id, const char *mode, char ret_id[ISSUER_ID_SIZE]) {
    char id[ISSUER_ID_SIZE];
    AUTO_FREE char *pem = issuer_certificate_pem(certificate);
    if (pem == NULL || !issuer_certificate_id(certificate, id))
        return -ENOMEM;
    if (registry_certificate(registry, id) != NULL)
        return -EEXIST;
    struct json_object *entry = registry_certificate_new(registry, status, pem);
    set_text(entry, "certificateMode", mode);
    if (authority_id != NULL)
        set_text(entry, "caCertificateId", authority_id);
    json_object_object_add(registry_certificates(registry), id, entry);
    memcpy(ret_id, id, sizeof id);
    return 0;
}

int registry_certificate_delete(struct registry *registry, const char *certificate_id) {
    if (registry_certificate(registry, certificate_id) == NULL)
        return -ENOENT;
    json_object_object_del(registry_certificates(registry), certificate_id);
    return 0;
}

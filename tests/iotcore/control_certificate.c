#include "control_handler.h"

#include "authority_registration.h"
#include "common/cleanup.h"
#include "control_page.h"
#include "json_read.h"
#include "registry_authority.h"

#include <string.h>

/* API reference, certificatePem */
#define PEM_LIMIT 65536

static inline void cleanup_x509(X509 **certificate) {
    X509_free(*certificate);
}

#define AUTO_X509 CLEANUP(cleanup_x509)

static const struct control_paging paging = {"pageSize", "marker", "nextMarker", "certificates", "certificateId"};

static int unknown(const struct control_call *call) {
    return control_not_found(call, "Certificate", call->name);
}

/* The states that only AWS IoT itself gives are told apart from words that are no state at all. */
static int check_status(const struct control_call *call, const char *name, const char *status) {
    static const char *const words[] = {"ACTIVE",           "INACTIVE",           "REVOKED",
                                        "PENDING_TRANSFER", "PENDING_ACTIVATION", NULL};
    if (control_one_of(call, name, status, words) < 0)
        return -1;
    if (status != NULL && strncmp(status, "PENDING_", strlen("PENDING_")) == 0)
        return control_state(call, "Not allowed to set the status %s", status);
    return 0;
}

/* The status that the certificate is to have: INACTIVE if nothing is said. */
static int read_status(const struct control_call *call, const char **ret) {
    bool active;
    const char *status;
    if (control_flag(call, "setAsActive", &active) < 0 || control_text(call, call->body, "status", 32, &status) < 0 ||
        check_status(call, "status", status) < 0)
        return -1;
    if (status == NULL)
        status = active ? "ACTIVE" : "INACTIVE";
    *ret = status;
    return 0;
}

static int read_certificate(const struct control_call *call, X509 **ret) {
    const char *pem;
    if (control_text(call, call->body, "certificatePem", PEM_LIMIT, &pem) < 0)
        return -1;
    if (pem == NULL)
        return control_invalid(call, "certificatePem is required");
    AUTO_X509 X509 *certificate = registration_read(pem, call->rejection);
    if (certificate == NULL ||
        registration_check_client(certificate, registry_now(call->registry), call->rejection) < 0)
        return -1;
    *ret = TAKE_POINTER(certificate);
    return 0;
}

static int not_signed(const struct control_call *call) {
    return rejection_set(call->rejection, 400, "CertificateValidationException",
                         "The certificate is not signed by a registered CA certificate");
}

static int find_named_authority(const struct control_call *call, const char *pem, X509 *certificate,
                                char ret_id[ISSUER_ID_SIZE]) {
    char id[ISSUER_ID_SIZE];
    AUTO_X509 X509 *authority = registration_read(pem, call->rejection);
    if (authority == NULL)
        return -1;
    if (!issuer_certificate_id(authority, id) || registry_authority(call->registry, id) == NULL ||
        !registry_signed_by(certificate, authority))
        return not_signed(call);
    memcpy(ret_id, id, sizeof id);
    return 0;
}

/* "RegisterCertificate": with more than one CA certificate of the same subject the caller must say which is meant, even
 * where only one key fits. */
static int find_only_authority(const struct control_call *call, X509 *certificate, char ret_id[ISSUER_ID_SIZE]) {
    unsigned count = 0;
    json_object_object_foreach(registry_authorities(call->registry), id, entry) {
        const char *pem = json_text(entry, "pem");
        AUTO_X509 X509 *authority = pem != NULL ? issuer_read_certificate(pem, strlen(pem)) : NULL;
        if (authority != NULL &&
            X509_NAME_cmp(X509_get_subject_name(authority), X509_get_issuer_name(certificate)) == 0)
            count++;
        if (authority != NULL && registry_signed_by(certificate, authority))
            memcpy(ret_id, id, ISSUER_ID_SIZE);
    }
    if (count > 1)
        return rejection_set(call->rejection, 409, "CertificateConflictException",
                             "%u registered CA certificates have that subject: caCertificatePem is needed", count);
    return count == 1 && ret_id[0] != '\0' ? 0 : not_signed(call);
}

static int find_authority(const struct control_call *call, X509 *certificate, char ret_id[ISSUER_ID_SIZE]) {
    const char *pem;
    if (control_text(call, call->body, "caCertificatePem", PEM_LIMIT, &pem) < 0)
        return -1;
    return pem != NULL ? find_named_authority(call, pem, certificate, ret_id)
                       : find_only_authority(call, certificate, ret_id);
}

static int add_certificate(const struct control_call *call, X509 *certificate, const char *status,
                           const char *authority_id, const char *mode) {
    char id[ISSUER_ID_SIZE];
    if (!issuer_certificate_id(certificate, id))
        return control_out_of_memory(call);
    AUTO_FREE char *arn = registry_arn(call->registry, "cert", id);
    if (registry_certificate(call->registry, id) != NULL) {
        control_set(call->reply, "resourceId", id);
        control_set(call->reply, "resourceArn", arn);
        return rejection_set(call->rejection, 409, "ResourceAlreadyExistsException",
                             "The certificate is already registered");
    }
    if (registry_certificate_register(call->registry, certificate, status, authority_id, mode, id) < 0)
        return control_out_of_memory(call);
    control_set(call->reply, "certificateArn", arn);
    control_set(call->reply, "certificateId", id);
    return 0;
}

int control_register_certificate(const struct control_call *call) {
    AUTO_X509 X509 *certificate = NULL;
    char authority_id[ISSUER_ID_SIZE] = "";
    const char *status;
    if (read_status(call, &status) < 0 || read_certificate(call, &certificate) < 0 ||
        find_authority(call, certificate, authority_id) < 0)
        return -1;
    struct json_object *authority = registry_authority(call->registry, authority_id);
    const char *own_status = json_text(authority, "status"), *mode = json_text(authority, "certificateMode");
    if (own_status == NULL || strcmp(own_status, "ACTIVE") != 0)
        return control_state(call, "The CA certificate %.64s is not ACTIVE", authority_id);
    return add_certificate(call, certificate, status, authority_id, mode != NULL ? mode : "DEFAULT");
}

/* A device with such a certificate must tell the endpoint's name in TLS, as its CA is nobody's ("certificateMode"). */
int control_register_certificate_without_ca(const struct control_call *call) {
    AUTO_X509 X509 *certificate = NULL;
    const char *status;
    if (read_status(call, &status) < 0 || read_certificate(call, &certificate) < 0)
        return -1;
    return add_certificate(call, certificate, status, NULL, "SNI_ONLY");
}

static void set_number(struct json_object *object, const char *name, struct json_object *from, const char *member) {
    struct json_object *value = json_member(from, member, json_type_int);
    if (value != NULL)
        json_object_object_add(object, name, json_object_get(value));
}

static struct json_object *summary(const struct control_call *call, const char *id, struct json_object *certificate) {
    const char *mode = json_text(certificate, "certificateMode");
    struct json_object *entry = json_object_new_object();
    AUTO_FREE char *arn = registry_arn(call->registry, "cert", id);
    control_set(entry, "certificateArn", arn);
    control_set(entry, "certificateId", id);
    control_set(entry, "status", json_text(certificate, "status"));
    control_set(entry, "certificateMode", mode != NULL ? mode : "DEFAULT");
    set_number(entry, "creationDate", certificate, "createdAt");
    return entry;
}

static int list(const struct control_call *call, const char *authority_id) {
    struct json_object *entries = json_object_new_array();
    json_object_object_foreach(registry_certificates(call->registry), id, certificate) {
        const char *signer = json_text(certificate, "caCertificateId");
        if (authority_id == NULL || (signer != NULL && strcmp(signer, authority_id) == 0))
            json_object_array_add(entries, summary(call, id, certificate));
    }
    return control_page(&paging, call->uri, entries, call->reply, call->rejection);
}

int control_list_certificates(const struct control_call *call) {
    return list(call, NULL);
}

/* An authority that is not registered, or not any more, has no certificates: the API knows no error for it. */
int control_list_certificates_by_ca(const struct control_call *call) {
    return control_certificate_id(call) < 0 ? -1 : list(call, call->name);
}

int control_describe_certificate(const struct control_call *call) {
    if (control_certificate_id(call) < 0)
        return -1;
    struct json_object *certificate = registry_certificate(call->registry, call->name);
    const char *pem = json_text(certificate, "pem");
    if (pem == NULL)
        return unknown(call);
    struct json_object *description = summary(call, call->name, certificate);
    AUTO_X509 X509 *parsed = issuer_read_certificate(pem, strlen(pem));
    control_set(description, "certificatePem", pem);
    control_set(description, "ownedBy", registry_account(call->registry));
    control_set(description, "caCertificateId", json_text(certificate, "caCertificateId"));
    set_number(description, "lastModifiedDate", certificate, "createdAt");
    set_number(description, "lastModifiedDate", certificate, "modifiedAt");
    if (parsed != NULL)
        json_object_object_add(description, "validity", registry_validity(parsed));
    json_object_object_add(call->reply, "certificateDescription", description);
    return 0;
}

int control_update_certificate(const struct control_call *call) {
    const char *status = control_uri_parameter(call->uri, "newStatus");
    if (control_certificate_id(call) < 0)
        return -1;
    if (status == NULL)
        return control_invalid(call, "newStatus is required");
    if (check_status(call, "newStatus", status) < 0)
        return -1;
    struct json_object *certificate = registry_certificate(call->registry, call->name);
    if (certificate == NULL)
        return unknown(call);
    control_set(certificate, "status", status);
    json_object_object_add(certificate, "modifiedAt", json_object_new_int64(registry_now(call->registry)));
    return 0;
}

static int conflict(const struct control_call *call, const char *what) {
    return rejection_set(call->rejection, 409, "DeleteConflictException", "%s must be detached before deletion", what);
}

/* forceDelete detaches policies, never things. */
int control_delete_certificate(const struct control_call *call) {
    bool force;
    if (control_certificate_id(call) < 0 || control_flag(call, "forceDelete", &force) < 0)
        return -1;
    struct json_object *certificate = registry_certificate(call->registry, call->name);
    struct json_object *things = json_member(certificate, "things", json_type_object);
    struct json_object *policies = json_member(certificate, "policies", json_type_array);
    const char *status = json_text(certificate, "status");
    if (status == NULL)
        return unknown(call);
    if (strcmp(status, "ACTIVE") == 0)
        return control_state(call, "The certificate must be deactivated before it can be deleted");
    if (things != NULL && json_object_object_length(things) > 0)
        return conflict(call, "Things");
    if (!force && policies != NULL && json_object_array_length(policies) > 0)
        return conflict(call, "Policies");
    registry_certificate_delete(call->registry, call->name);
    return 0;
}

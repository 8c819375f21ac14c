/* The authorities (CA certificates) that the account has registered, and certificates that came from one of them or
 * from an operator instead of the provisioning API. Part of the registry's file:
 *
 *   registrationCode  64 hexadecimal digits, made when somebody asks for it
 *   authorities.ID    pem, status (ACTIVE, INACTIVE), autoRegistrationStatus (ENABLE, DISABLE),
 *                     certificateMode (DEFAULT, SNI_ONLY), createdAt, modifiedAt, validity {notBefore, notAfter} (all
 *                     seconds since the epoch), customerVersion, generationId, ownedBy (the account),
 *                     registrationConfig {templateBody or templateName, roleArn}
 *
 * An authority's id is made as that of any certificate: the SHA-256 of its DER. */
#pragma once

#include "issuer.h"
#include "registry.h"

struct registry_authority_settings {
    const char *status;                      /* ACTIVE or INACTIVE */
    const char *auto_registration;           /* ENABLE or DISABLE */
    const char *mode;                        /* DEFAULT or SNI_ONLY; not for an update */
    struct json_object *registration_config; /* NULL: none. Not taken over, a reference is added */
};

/* All authorities by their ids: an object of objects. */
struct json_object *registry_authorities(const struct registry *registry);

/* The authority's object, or NULL. */
struct json_object *registry_authority(const struct registry *registry, const char *authority_id);

/* Adds an authority as it comes; whether it may be one is for the caller to judge. Returns 0, -EEXIST or -ENOMEM. */
int registry_authority_add(struct registry *registry, X509 *certificate,
                           const struct registry_authority_settings *settings, char ret_id[ISSUER_ID_SIZE]);

/* Changes what is not NULL in the settings. Returns 0 or -ENOENT. */
int registry_authority_update(struct registry *registry, const char *authority_id,
                              const struct registry_authority_settings *settings);

/* Takes the registrationConfig away. Returns 0 or -ENOENT. */
int registry_authority_forget_config(struct registry *registry, const char *authority_id);

/* Its certificates stay. Returns 0, -ENOENT, or -EBUSY for one that is ACTIVE ("DeleteCACertificate"). */
int registry_authority_delete(struct registry *registry, const char *authority_id);

/* The ids of all authorities that have signed the certificate (issuer name and signature): a list that the caller owns,
 * empty if there are none. Several authorities may have one name and even one key. */
struct json_object *registry_authorities_of(const struct registry *registry, X509 *certificate);

/* True if authority has signed the certificate: its subject is the issuer, and its key fits the signature. */
bool registry_signed_by(X509 *certificate, X509 *authority);

/* {notBefore, notAfter} in seconds since the epoch, owned by the caller. */
struct json_object *registry_validity(const X509 *certificate);

/* "GetRegistrationCode": makes one if there is none, which the caller has to save then. NULL if out of memory. */
const char *registry_registration_code(struct registry *registry);
void registry_registration_code_delete(struct registry *registry);

/* All certificates by their ids: an object of objects. */
struct json_object *registry_certificates(const struct registry *registry);

/* The certificate's object, or NULL. */
struct json_object *registry_certificate(const struct registry *registry, const char *certificate_id);

/* Adds a certificate with that status and certificateMode, without policies and things; authority_id (its
 * caCertificateId) may be NULL. Returns 0, -EEXIST or -ENOMEM. */
int registry_certificate_register(struct registry *registry, X509 *certificate, const char *status,
                                  const char *authority_id, const char *mode, char ret_id[ISSUER_ID_SIZE]);

/* Returns 0 or -ENOENT. */
int registry_certificate_delete(struct registry *registry, const char *certificate_id);

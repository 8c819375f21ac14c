#include "identity.h"

#include "common/cleanup.h"
#include "json_read.h"
#include "subject.h"

#include <openssl/crypto.h>
#include <openssl/objects.h>

#include <stdlib.h>
#include <string.h>

struct question {
    const struct identity *identity;
    const struct registry *registry;
};

/* "X.509 Certificate AWS IoT Core policy variables": of an attribute with several values the first counts. */
static const struct {
    const char *name;
    int identifier;
} name_attributes[] = {
    {"DistinguishedNameQualifier", NID_dnQualifier},
    {"Country", NID_countryName},
    {"Organization", NID_organizationName},
    {"OrganizationalUnit", NID_organizationalUnitName},
    {"State", NID_stateOrProvinceName},
    {"CommonName", NID_commonName},
    {"SerialNumber", NID_serialNumber},
    {"Title", NID_title},
    {"Surname", NID_surname},
    {"GivenName", NID_givenName},
    {"Initials", NID_initials},
    {"Pseudonym", NID_pseudonym},
    {"GenerationQualifier", NID_generationQualifier},
};

static char *name_variable(const X509_NAME *name, const char *attribute) {
    for (size_t i = 0; i < sizeof name_attributes / sizeof *name_attributes; i++)
        if (strcmp(name_attributes[i].name, attribute) == 0)
            return subject_value(name, name_attributes[i].identifier);
    return NULL;
}

static char *serial_number(X509 *certificate) {
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get_serialNumber(certificate), NULL);
    char *digits = serial != NULL ? BN_bn2hex(serial) : NULL;
    char *text = digits != NULL ? strdup(digits) : NULL;
    OPENSSL_free(digits);
    BN_free(serial);
    return text;
}

static char *certificate_variable(X509 *certificate, const char *name) {
    if (strncmp(name, "Subject.", strlen("Subject.")) == 0)
        return name_variable(X509_get_subject_name(certificate), name + strlen("Subject."));
    if (strncmp(name, "Issuer.", strlen("Issuer.")) == 0)
        return name_variable(X509_get_issuer_name(certificate), name + strlen("Issuer."));
    if (strcmp(name, "SerialNumber") == 0)
        return serial_number(certificate);
    return NULL;
}

static const char *attribute_value(struct json_object *thing, const char *name) {
    size_t length = strlen(name);
    struct json_object *attributes = json_member(thing, "attributes", json_type_object);
    if (attributes == NULL || length == 0 || name[length - 1] != ']')
        return NULL;
    AUTO_FREE char *attribute = strndup(name, length - 1);
    return attribute != NULL ? json_text(attributes, attribute) : NULL;
}

static char *thing_variable(const struct question *question, const char *name) {
    bool exclusive;
    const char *value = NULL,
               *thing_name = registry_certificate_thing(question->registry, question->identity->certificate_id,
                                                        question->identity->client_id, &exclusive);
    struct json_object *thing = thing_name != NULL ? registry_thing(question->registry, thing_name) : NULL;
    if (strcmp(name, "IsAttached") == 0)
        return strdup(thing != NULL ? "true" : "false");
    if (thing == NULL)
        return NULL;
    if (strcmp(name, "ThingName") == 0)
        value = thing_name;
    else if (strcmp(name, "ThingTypeName") == 0)
        value = json_text(thing, "thingTypeName");
    else if (strncmp(name, "Attributes[", strlen("Attributes[")) == 0)
        value = attribute_value(thing, name + strlen("Attributes["));
    return value != NULL ? strdup(value) : NULL;
}

static char *variable(void *userdata, const char *name) {
    const struct question *question = userdata;
    if (strcmp(name, "iot:ClientId") == 0)
        return strdup(question->identity->client_id);
    if (strcmp(name, "iot:CertificateId") == 0)
        return strdup(question->identity->certificate_id);
    if (strcmp(name, "aws:SourceIp") == 0)
        return question->identity->source_address != NULL ? strdup(question->identity->source_address) : NULL;
    if (strncmp(name, "iot:Certificate.", strlen("iot:Certificate.")) == 0)
        return certificate_variable(question->identity->certificate, name + strlen("iot:Certificate."));
    if (strncmp(name, "iot:Connection.Thing.", strlen("iot:Connection.Thing.")) == 0)
        return thing_variable(question, name + strlen("iot:Connection.Thing."));
    return NULL;
}

enum policy_decision identity_decide(const struct identity *identity, const struct registry *registry,
                                     const char *action, const char *kind, const char *name) {
    struct question question = {identity, registry};
    struct policy_variables variables = {variable, &question};
    enum policy_decision decision = POLICY_NO_STATEMENT;
    struct json_object *document;
    AUTO_FREE char *resource = registry_arn(registry, kind, name);
    if (resource == NULL)
        return POLICY_NO_STATEMENT;
    for (size_t i = 0; (document = registry_certificate_policy(registry, identity->certificate_id, i)) != NULL; i++)
        decision = policy_join(decision, policy_evaluate(document, action, resource, &variables));
    return decision;
}

bool identity_within_validity(const struct identity *identity, time_t now) {
    return X509_cmp_time(X509_get0_notBefore(identity->certificate), &now) < 0 &&
           X509_cmp_time(X509_get0_notAfter(identity->certificate), &now) > 0;
}

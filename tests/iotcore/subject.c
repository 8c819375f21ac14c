#include "subject.h"

#include "common/cleanup.h"
#include "json_read.h"

#include <openssl/crypto.h>
#include <openssl/objects.h>

#include <stdlib.h>
#include <string.h>

#define PREFIX "AWS::IoT::Certificate::"

static const struct {
    const char *name;
    int identifier;
} parameters[] = {
    {"Country", NID_countryName},
    {"Organization", NID_organizationName},
    {"OrganizationalUnit", NID_organizationalUnitName},
    {"DistinguishedNameQualifier", NID_dnQualifier},
    {"StateName", NID_stateOrProvinceName},
    {"CommonName", NID_commonName},
    {"SerialNumber", NID_serialNumber},
};

char *subject_value(const X509_NAME *name, int identifier) {
    unsigned char *utf8 = NULL;
    int index = X509_NAME_get_index_by_NID(name, identifier, -1);
    if (index < 0)
        return NULL;
    const ASN1_STRING *value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index));
    int length = ASN1_STRING_to_UTF8(&utf8, value);
    char *text =
        length >= 0 && memchr(utf8, '\0', (size_t)length) == NULL ? strndup((char *)utf8, (size_t)length) : NULL;
    OPENSSL_free(utf8);
    return text;
}

/* NULL for a parameter that there is not, or that this certificate has not. */
static char *parameter_value(const X509 *certificate, const char *certificate_id, const char *name) {
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0)
        return NULL;
    const char *attribute = name + strlen(PREFIX);
    if (strcmp(attribute, "Id") == 0)
        return strdup(certificate_id);
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        if (strcmp(parameters[i].name, attribute) == 0)
            return subject_value(X509_get_subject_name(certificate), parameters[i].identifier);
    return NULL;
}

int subject_parameters(const X509 *certificate, const char *certificate_id, struct json_object *declared,
                       struct json_object **ret, struct rejection *rejection) {
    AUTO_JSON struct json_object *values = json_object_new_object();
    if (declared != NULL) {
        json_object_object_foreach(declared, name, declaration) {
            (void)declaration;
            AUTO_FREE char *value = parameter_value(certificate, certificate_id, name);
            if (value == NULL)
                return rejection_set(rejection, 400, "InvalidParameters", "The certificate gives no value for %.128s",
                                     name);
            json_object_object_add(values, name, json_object_new_string(value));
        }
    }
    *ret = TAKE_POINTER(values);
    return 0;
}

#include "harness.h"
#include "json_read.h"
#include "subject.h"

#include <openssl/objects.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PARAMETER(name) "\"AWS::IoT::Certificate::" name "\":{\"Type\":\"String\"}"

static void add(X509_NAME *name, int identifier, const char *value) {
    CU_ASSERT_FATAL(
        X509_NAME_add_entry_by_NID(name, identifier, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1);
}

/* A certificate, as far as its subject goes. */
static X509 *make_certificate(void) {
    X509 *certificate = X509_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(certificate);
    X509_NAME *name = X509_get_subject_name(certificate);
    add(name, NID_countryName, "DE");
    add(name, NID_stateOrProvinceName, "Bayern");
    add(name, NID_organizationName, "Müller & Söhne");
    add(name, NID_organizationalUnitName, "Gateways");
    add(name, NID_organizationalUnitName, "Second");
    add(name, NID_dnQualifier, "q1");
    add(name, NID_commonName, "GW-0001");
    add(name, NID_serialNumber, "4711");
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 99);
    return certificate;
}

/* The parameters for a template that declares these, or the message of the rejection. */
static const char *parameters(const char *declared_text) {
    static char output[1024];
    struct rejection rejection;
    AUTO_JSON struct json_object *declared = json_parse(declared_text, strlen(declared_text)), *values = NULL;
    X509 *certificate = make_certificate();
    CU_ASSERT_PTR_NOT_NULL_FATAL(declared);
    if (subject_parameters(certificate, ID, declared, &values, &rejection) < 0)
        snprintf(output, sizeof output, "%d %s", rejection.status_code, rejection.message);
    else
        snprintf(output, sizeof output, "%s",
                 json_object_to_json_string_ext(values, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
    X509_free(certificate);
    return output;
}

static void test_attributes(void) {
    ASSERT_TEXT(parameters("{}"), "{}");
    ASSERT_TEXT(parameters("{" PARAMETER("Country") "}"), "{\"AWS::IoT::Certificate::Country\":\"DE\"}");
    ASSERT_TEXT(parameters("{" PARAMETER("StateName") "}"), "{\"AWS::IoT::Certificate::StateName\":\"Bayern\"}");
    ASSERT_TEXT(parameters("{" PARAMETER("Organization") "}"),
                "{\"AWS::IoT::Certificate::Organization\":\"Müller & Söhne\"}");
    ASSERT_TEXT(parameters("{" PARAMETER("DistinguishedNameQualifier") "," PARAMETER("Id") "}"),
                "{\"AWS::IoT::Certificate::DistinguishedNameQualifier\":\"q1\",\"AWS::IoT::Certificate::Id\":\"" ID
                "\"}");
    ASSERT_TEXT(parameters("{" PARAMETER("CommonName") "}"), "{\"AWS::IoT::Certificate::CommonName\":\"GW-0001\"}");
}

/* Of several the first; and the attribute serialNumber, not the certificate's serial number. */
static void test_which_value(void) {
    ASSERT_TEXT(parameters("{" PARAMETER("OrganizationalUnit") "}"),
                "{\"AWS::IoT::Certificate::OrganizationalUnit\":\"Gateways\"}");
    ASSERT_TEXT(parameters("{" PARAMETER("SerialNumber") "}"), "{\"AWS::IoT::Certificate::SerialNumber\":\"4711\"}");
}

static void test_no_value(void) {
    ASSERT_TEXT(parameters("{\"Room\":{\"Type\":\"String\",\"Default\":\"7\"}}"),
                "400 The certificate gives no value for Room");
    ASSERT_TEXT(parameters("{" PARAMETER("Title") "}"),
                "400 The certificate gives no value for AWS::IoT::Certificate::Title");
    ASSERT_TEXT(parameters("{\"AWS::IoT::Certificate::\":1}"),
                "400 The certificate gives no value for AWS::IoT::Certificate::");
}

static void test_odd_names(void) {
    X509_NAME *name = X509_NAME_new();
    CU_ASSERT_PTR_NOT_NULL_FATAL(name);
    CU_ASSERT_PTR_NULL(subject_value(name, NID_commonName));
    CU_ASSERT(X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)"a\0b", 3, -1,
                                         0) == 1);
    CU_ASSERT_PTR_NULL(subject_value(name, NID_commonName));
    X509_NAME_free(name);
    struct json_object *values = NULL;
    struct rejection rejection;
    X509 *certificate = make_certificate();
    ASSERT_NUMBER(subject_parameters(certificate, ID, NULL, &values, &rejection), 0);
    ASSERT_NUMBER(json_object_object_length(values), 0);
    json_object_put(values);
    X509_free(certificate);
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"attributes of the subject", test_attributes},
        {"which value it is", test_which_value},
        {"what the certificate lacks", test_no_value},
        {"odd names and no declaration", test_odd_names},
        {NULL, NULL},
    };
    return unit_run("subject", tests, argc, argv);
}

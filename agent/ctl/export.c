#include "ctl/export.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static const char what[] = "cannot export";
static const char end_line[] = "-----END CERTIFICATE-----";

static void object_put(json_object **object) {
    json_object_put(*object);
}
#define AUTO_JSON CLEANUP(object_put)

static int add(json_object *object, const char *name, const char *text, size_t size) {
    json_object *value = json_object_new_string_len(text, (int)size);
    if (value != NULL && json_object_object_add(object, name, value) == 0)
        return 0;
    json_object_put(value);
    return -ENOMEM;
}

/* Where the first certificate of a chain ends, behind its line. */
static const char *end_of_first(const char *pem) {
    const char *end = strstr(pem, end_line);
    if (end == NULL)
        return pem + strlen(pem);
    end += sizeof end_line - 1;
    return end + strspn(end, "\r\n");
}

/* The members of a template's certificate resource: CertificateId, CertificatePem, CACertificatePem, or a
 * CertificateSigningRequest, which AWS's own example of a batch calls CSR. */
static int add_certificate(json_object *object, const struct properties *properties, const char *pem) {
    const char *id = properties_text(properties, PROPERTY_CERTIFICATE_ID), *issuer = end_of_first(pem);
    int r = add(object, "CertificateId", id, strlen(id));
    if (r == 0)
        r = add(object, "CertificatePem", pem, (size_t)(issuer - pem));
    if (r == 0 && issuer[0] != '\0')
        r = add(object, "CACertificatePem", issuer, (size_t)(end_of_first(issuer) - issuer));
    return r;
}

static enum exit_code print_line(const struct properties *properties, const char *certificate, const char *request) {
    AUTO_JSON json_object *object = json_object_new_object();
    const char *serial = properties_text(properties, PROPERTY_SERIAL_NUMBER);
    const char *thing = properties_text(properties, PROPERTY_THING_NAME);
    if (thing[0] == '\0')
        thing = serial;
    int r = object == NULL ? -ENOMEM : add(object, "ThingName", thing, strlen(thing));
    if (r == 0)
        r = add(object, "SerialNumber", serial, strlen(serial));
    if (r == 0)
        r = certificate != NULL ? add_certificate(object, properties, certificate)
                                : add(object, "CSR", request, strlen(request));
    const char *text =
        r == 0 ? json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE) : NULL;
    if (text != NULL && puts(text) >= 0)
        return EXIT_CODE_DONE;
    fprintf(stderr, "enrollctl: %s: out of memory.\n", what);
    return EXIT_CODE_FAILED;
}

static int get_text(sd_bus *bus, const char *method, char **ret, sd_bus_error *error) {
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    const char *text = NULL;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, &reply, error, method, "");
    if (r >= 0)
        r = sd_bus_message_read(reply, "s", &text);
    if (r < 0)
        return r;
    *ret = strdup(text);
    return *ret != NULL ? 0 : -ENOMEM;
}

static enum exit_code export_request(sd_bus *bus, const struct properties *properties) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_FREE char *request = NULL;
    int r = get_text(bus, "GetRequest", &request, &error);
    if (r >= 0)
        return print_line(properties, NULL, request);
    if (!sd_bus_error_has_name(&error, BUS_NAME ".Error.NoRequest"))
        return bus_complain(what, r, &error);
    fprintf(stderr,
            "enrollctl: %s: this device has no identity, and no request was made since enrolld has started: "
            "`enrollctl request` makes one.\n",
            what);
    return EXIT_CODE_NOT_PROVISIONED;
}

enum exit_code export_run(sd_bus *bus, bool json) {
    AUTO_PROPERTIES struct properties properties = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_FREE char *pem = NULL;
    int r = get_text(bus, "GetCertificate", &pem, &error);
    bool is_none = r < 0 && sd_bus_error_has_name(&error, BUS_NAME ".Error.NoIdentity");
    if (r < 0 && !is_none)
        return bus_complain(what, r, &error);
    if (is_none && !json) {
        fprintf(stderr, "enrollctl: %s: this device has no identity: `enrollctl status` says why.\n", what);
        return EXIT_CODE_NOT_PROVISIONED;
    }
    if (!json) {
        size_t size = strlen(pem);
        printf("%s%s", pem, size > 0 && pem[size - 1] == '\n' ? "" : "\n");
        return EXIT_CODE_DONE;
    }
    sd_bus_error_free(&error);
    r = bus_get_properties(bus, BUS_USUAL_TIMEOUT, &properties, &error);
    if (r < 0)
        return bus_complain(what, r, &error);
    return is_none ? export_request(bus, &properties) : print_line(&properties, pem, NULL);
}

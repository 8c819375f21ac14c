/* What the cloud answers to a claim: the same bytes as each of the three replies. */
#include "fuzz.h"
#include "messages.h"

#include <json-c/json.h>

#include <stdbool.h>

/* Of bytes that look like UTF-8: json-c takes overlong forms, and the host judges them (take_thing()). */
static bool is_text(const char *text, size_t max) {
    size_t length = strlen(text);
    return length > 0 && length <= max;
}

static const char *member_text(json_object *object, const char *name) {
    json_object *member = NULL;
    REQUIRE(json_object_object_get_ex(object, name, &member));
    return json_object_get_string(member);
}

/* A request says what it was given, whatever the token looks like. */
static void check_requests(const char *text) {
    const struct parameter parameters[] = {{"SerialNumber", text}, {"Other", "%"}};
    char *request = register_thing_request(text, parameters, 2), *create = create_from_csr_request(text);
    json_object *object = json_tokener_parse(request), *map = NULL;
    REQUIRE(strcmp(member_text(object, "certificateOwnershipToken"), text) == 0);
    REQUIRE(json_object_object_get_ex(object, "parameters", &map));
    REQUIRE(strcmp(member_text(map, "SerialNumber"), text) == 0);
    json_object_put(object);
    object = json_tokener_parse(create);
    REQUIRE(strcmp(member_text(object, "certificateSigningRequest"), text) == 0);
    json_object_put(object);
    free(request);
    free(create);
}

static void check_created(const char *json, size_t size) {
    struct created_certificate created = {0};
    if (created_certificate_parse(json, size, &created) != NULL) {
        REQUIRE(created.certificate_pem == NULL && created.certificate_id == NULL && created.ownership_token == NULL &&
                created.private_key_pem == NULL);
        return;
    }
    REQUIRE(is_text(created.certificate_pem, 65536));
    REQUIRE(strlen(created.certificate_id) == 64 && strspn(created.certificate_id, "0123456789abcdef") == 64);
    REQUIRE(is_text(created.ownership_token, OWNERSHIP_TOKEN_MAX));
    REQUIRE(created.private_key_pem == NULL || is_text(created.private_key_pem, 65536));
    check_requests(created.ownership_token);
    created_certificate_clear(&created);
}

/* What is kept of the device configuration is an object that reads back as the same. */
static void check_configuration(const char *text) {
    json_object *object = json_tokener_parse(text);
    REQUIRE(json_object_is_type(object, json_type_object));
    REQUIRE(strcmp(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
                   text) == 0);
    json_object_put(object);
}

static void check_registered(const char *json, size_t size) {
    struct registered_thing registered = {0};
    if (registered_thing_parse(json, size, &registered) != NULL) {
        REQUIRE(registered.thing_name == NULL && registered.device_configuration == NULL);
        return;
    }
    REQUIRE(registered.thing_name[0] == '\0' || is_text(registered.thing_name, 128));
    if (registered.device_configuration != NULL)
        check_configuration(registered.device_configuration);
    registered_thing_clear(&registered);
}

static void check_rejection(const char *json, size_t size) {
    struct rejection rejection;
    rejection_parse(json, size, &rejection);
    REQUIRE(rejection.status_code == 0 || (rejection.status_code >= 100 && rejection.status_code <= 599));
    REQUIRE(memchr(rejection.error_code, '\0', sizeof rejection.error_code) != NULL);
    REQUIRE(memchr(rejection.error_message, '\0', sizeof rejection.error_message) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    check_created((const char *)data, size);
    check_registered((const char *)data, size);
    check_rejection((const char *)data, size);
    return 0;
}

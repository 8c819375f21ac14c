#include "messages.h"

#include "common/cleanup.h"
#include "common/json-flags.h"

#include <string.h>

#define REPLY_MAX (128 * 1024) /* AWS IoT message limit */
#define REPLY_DEPTH 8
#define CERTIFICATE_MAX 65536 /* API reference, CertificatePem */
#define PRIVATE_KEY_MAX 8192  /* RSA of 4096 bits has 3300 */

static void cleanup_json(json_object **object) {
    json_object_put(*object);
}
#define AUTO_JSON CLEANUP(cleanup_json)

/* The whole text must be one JSON object. */
static json_object *parse_object(const char *text, size_t size) {
    json_tokener *tokener = size > 0 && size <= REPLY_MAX ? json_tokener_new_ex(REPLY_DEPTH) : NULL;
    if (tokener == NULL)
        return NULL;
    json_tokener_set_flags(tokener, json_flags_for(text, size));
    json_object *object = json_tokener_parse_ex(tokener, text, (int)size);
    bool whole = json_tokener_get_error(tokener) == json_tokener_success;
    for (size_t i = json_tokener_get_parse_end(tokener); whole && i < size; i++)
        whole = strchr(" \t\r\n", text[i]) != NULL && text[i] != '\0';
    json_tokener_free(tokener);
    if (whole && json_object_is_type(object, json_type_object))
        return object;
    json_object_put(object);
    return NULL;
}

/* A text member of 1 to max bytes without NUL; NULL if it is not that. Borrowed. */
static const char *get_text(json_object *object, const char *name, size_t max) {
    json_object *member = NULL;
    if (!json_object_object_get_ex(object, name, &member) || !json_object_is_type(member, json_type_string))
        return NULL;
    const char *text = json_object_get_string(member);
    size_t length = (size_t)json_object_get_string_len(member);
    return length > 0 && length <= max && strlen(text) == length ? text : NULL;
}

/* json-c's own copies of a secret: the text of a member, and the object as it was printed. */
static void wipe_text(json_object *object, const char *name) {
    json_object *member = NULL;
    if (json_object_object_get_ex(object, name, &member) && json_object_is_type(member, json_type_string))
        explicit_bzero((char *)json_object_get_string(member), (size_t)json_object_get_string_len(member));
}

static char *print_object(json_object *object) {
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    char *copy = text != NULL ? strdup(text) : NULL;
    if (text != NULL)
        explicit_bzero((char *)text, strlen(text));
    return copy;
}

char *create_from_csr_request(const char *request_pem) {
    AUTO_JSON json_object *object = json_object_new_object();
    json_object_object_add(object, "certificateSigningRequest", json_object_new_string(request_pem));
    return print_object(object);
}

char *register_thing_request(const char *ownership_token, const struct parameter *parameters, size_t count) {
    AUTO_JSON json_object *object = json_object_new_object();
    json_object *map = json_object_new_object();
    for (size_t i = 0; i < count; i++)
        json_object_object_add(map, parameters[i].name, json_object_new_string(parameters[i].value));
    json_object_object_add(object, "certificateOwnershipToken", json_object_new_string(ownership_token));
    json_object_object_add(object, "parameters", map);
    char *text = print_object(object);
    wipe_text(object, "certificateOwnershipToken");
    for (size_t i = 0; i < count; i++)
        wipe_text(map, parameters[i].name);
    return text;
}

static bool is_certificate_id(const char *text) {
    return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

static const char *read_created(json_object *object, struct created_certificate *ret) {
    const char *pem = get_text(object, "certificatePem", CERTIFICATE_MAX);
    const char *id = get_text(object, "certificateId", 64);
    const char *token = get_text(object, "certificateOwnershipToken", OWNERSHIP_TOKEN_MAX);
    const char *key = get_text(object, "privateKey", PRIVATE_KEY_MAX);
    if (pem == NULL)
        return "certificatePem is missing or malformed";
    if (id == NULL || !is_certificate_id(id))
        return "certificateId is missing or malformed";
    if (token == NULL)
        return "certificateOwnershipToken is missing or malformed";
    struct created_certificate created = {key != NULL ? strdup(key) : NULL, strdup(pem), strdup(id), strdup(token)};
    if ((key != NULL && created.private_key_pem == NULL) || created.certificate_pem == NULL ||
        created.certificate_id == NULL || created.ownership_token == NULL) {
        created_certificate_clear(&created);
        return "there is no memory for it";
    }
    *ret = created;
    return NULL;
}

const char *created_certificate_parse(const char *json, size_t size, struct created_certificate *ret) {
    AUTO_JSON json_object *object = parse_object(json, size);
    if (object == NULL)
        return "it is not a JSON object";
    const char *wrong = read_created(object, ret);
    wipe_text(object, "certificateOwnershipToken");
    wipe_text(object, "privateKey");
    return wrong;
}

/* The template's DeviceConfiguration is a flat map of text (AWS IoT Developer Guide, "Provisioning templates"). */
static const char *get_device_configuration(json_object *object, char **ret) {
    json_object *member = NULL;
    *ret = NULL;
    if (!json_object_object_get_ex(object, "deviceConfiguration", &member) || member == NULL)
        return NULL;
    if (!json_object_is_type(member, json_type_object))
        return "deviceConfiguration is not a JSON object";
    *ret = print_object(member);
    return *ret != NULL ? NULL : "there is no memory for it";
}

const char *registered_thing_parse(const char *json, size_t size, struct registered_thing *ret) {
    AUTO_JSON json_object *object = parse_object(json, size);
    struct registered_thing registered = {0};
    json_object *member = NULL;
    const char *name = "";
    if (object == NULL)
        return "it is not a JSON object";
    /* A template without a thing is legal: then the name is absent or null. */
    if (json_object_object_get_ex(object, "thingName", &member) && member != NULL) {
        name = get_text(object, "thingName", 128);
        if (name == NULL)
            return "thingName is malformed";
    }
    const char *wrong = get_device_configuration(object, &registered.device_configuration);
    if (wrong != NULL)
        return wrong;
    registered.thing_name = strdup(name);
    if (registered.thing_name == NULL) {
        registered_thing_clear(&registered);
        return "there is no memory for it";
    }
    *ret = registered;
    return NULL;
}

static void copy_text(json_object *object, const char *name, char *buffer, size_t size) {
    const char *text = get_text(object, name, REPLY_MAX);
    if (text == NULL)
        return;
    strncpy(buffer, text, size - 1);
    buffer[size - 1] = '\0';
}

void rejection_parse(const char *json, size_t size, struct rejection *ret) {
    AUTO_JSON json_object *object = parse_object(json, size);
    json_object *member = NULL;
    memset(ret, 0, sizeof *ret);
    if (object == NULL)
        return;
    if (json_object_object_get_ex(object, "statusCode", &member) && json_object_is_type(member, json_type_int)) {
        int64_t code = json_object_get_int64(member);
        ret->status_code = code >= 100 && code <= 599 ? (int)code : 0;
    }
    copy_text(object, "errorCode", ret->error_code, sizeof ret->error_code);
    copy_text(object, "errorMessage", ret->error_message, sizeof ret->error_message);
}

static void wipe_and_free(char *text) {
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

void created_certificate_clear(struct created_certificate *created) {
    wipe_and_free(created->private_key_pem);
    wipe_and_free(created->ownership_token);
    free(created->certificate_pem);
    free(created->certificate_id);
    memset(created, 0, sizeof *created);
}

void registered_thing_clear(struct registered_thing *registered) {
    free(registered->thing_name);
    free(registered->device_configuration);
    memset(registered, 0, sizeof *registered);
}

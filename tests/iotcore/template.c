#include "template.h"

#include "common/cleanup.h"
#include "json_read.h"
#include "template_value.h"

#include <string.h>
#include <strings.h>

#define LETTERS_AND_DIGITS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

/* "AWS IoT Core thing resource limits": attributes without and with a thing type; AWS General Reference. */
enum { ATTRIBUTES_WITHOUT_TYPE = 3, ATTRIBUTES_WITH_TYPE = 50 };

static bool made_of(const char *text, const char *allowed, size_t minimum, size_t maximum) {
    size_t length = strlen(text);
    return length >= minimum && length <= maximum && strspn(text, allowed) == length;
}

bool template_thing_name_valid(const char *name) {
    return made_of(name, LETTERS_AND_DIGITS ":_-", 1, 128);
}

void template_result_clear(struct template_result *result) {
    free(result->thing.name);
    free(result->thing.type_name);
    json_object_put(result->thing.attributes);
    json_object_put(result->thing.groups);
    json_object_put(result->policy_names);
    json_object_put(result->policy_documents);
    json_object_put(result->device_configuration);
    *result = (struct template_result){0};
}

static int property_text(const struct template_scope *scope, struct json_object *properties, const char *name,
                         char **ret, struct rejection *rejection) {
    struct json_object *value;
    if (!json_object_object_get_ex(properties, name, &value))
        return 0;
    return template_value_text(scope, value, ret, rejection);
}

/* Resolves a map whose values must all be text; an absent one is empty. */
static int property_map(const struct template_scope *scope, struct json_object *parent, const char *name,
                        struct json_object **ret, struct rejection *rejection) {
    struct json_object *map;
    AUTO_JSON struct json_object *resolved = json_object_new_object();
    if (json_object_object_get_ex(parent, name, &map) && !json_object_is_type(map, json_type_object))
        return rejection_set(rejection, 400, "InvalidParameters", "%s is not a map", name);
    if (map != NULL) {
        json_object_object_foreach(map, key, value) {
            AUTO_FREE char *text = NULL;
            if (template_value_text(scope, value, &text, rejection) < 0)
                return -1;
            json_object_object_add(resolved, key, json_object_new_string(text));
        }
    }
    *ret = TAKE_POINTER(resolved);
    return 0;
}

/* The patterns of AttributeName and AttributeValue have no blank in them (API reference). */
static int check_attributes(const struct template_thing *thing, struct rejection *rejection) {
    int limit = thing->type_name != NULL ? ATTRIBUTES_WITH_TYPE : ATTRIBUTES_WITHOUT_TYPE;
    if (json_object_object_length(thing->attributes) > limit)
        return rejection_set(rejection, 400, "InvalidParameters", "A thing %s type may have %d attributes",
                             thing->type_name != NULL ? "with a" : "without a", limit);
    json_object_object_foreach(thing->attributes, name, value) {
        if (!made_of(name, LETTERS_AND_DIGITS "_.,@/:#-", 1, 128) ||
            !made_of(json_object_get_string(value), LETTERS_AND_DIGITS "_.,@/:#=[]-", 0, 800))
            return rejection_set(rejection, 400, "InvalidParameters",
                                 "1 validation error detected: Value at 'attributePayload.attributes.%.128s' failed "
                                 "to satisfy constraint: [a-zA-Z0-9_.,@/:#=\\[\\]-]*",
                                 name);
    }
    return 0;
}

int template_check_thing(const struct template_thing *thing, struct rejection *rejection) {
    if (!template_thing_name_valid(thing->name))
        return rejection_set(rejection, 400, "InvalidParameters",
                             "1 validation error detected: Value '%.128s' at 'thingName' failed to satisfy "
                             "constraint: [a-zA-Z0-9:_-]{1,128}",
                             thing->name);
    if (thing->type_name != NULL && !template_thing_name_valid(thing->type_name))
        return rejection_set(rejection, 400, "InvalidParameters", "Invalid thing type name '%.128s'", thing->type_name);
    for (size_t i = 0; i < json_object_array_length(thing->groups); i++) {
        struct json_object *group = json_object_array_get_idx(thing->groups, i);
        if (!json_object_is_type(group, json_type_string) || !template_thing_name_valid(json_object_get_string(group)))
            return rejection_set(rejection, 400, "InvalidParameters", "Invalid thing group name");
    }
    return check_attributes(thing, rejection);
}

static int resolve_groups(const struct template_scope *scope, struct json_object *properties,
                          struct template_thing *thing, struct rejection *rejection) {
    struct json_object *groups;
    if (!json_object_object_get_ex(properties, "ThingGroups", &groups)) {
        thing->groups = json_object_new_array();
        return 0;
    }
    if (template_value_resolve(scope, groups, &thing->groups, rejection) < 0)
        return -1;
    if (!json_object_is_type(thing->groups, json_type_array))
        return rejection_set(rejection, 400, "InvalidParameters", "ThingGroups is not a list");
    return 0;
}

/* Only lists and maps can be merged. AWS documents no defaults: a resource that exists takes the template's values. */
static int resolve_override(struct json_object *settings, const char *name, bool mergeable, enum template_override *ret,
                            struct rejection *rejection) {
    const char *text = json_text(settings, name);
    if (text == NULL || strcmp(text, "REPLACE") == 0)
        *ret = TEMPLATE_REPLACE;
    else if (strcmp(text, "DO_NOTHING") == 0)
        *ret = TEMPLATE_DO_NOTHING;
    else if (strcmp(text, "FAIL") == 0)
        *ret = TEMPLATE_FAIL;
    else if (strcmp(text, "MERGE") == 0 && mergeable)
        *ret = TEMPLATE_MERGE;
    else
        return rejection_set(rejection, 400, "InvalidParameters", "OverrideSettings: %s can't be %.64s", name, text);
    return 0;
}

static int resolve_overrides(struct json_object *resource, struct template_thing *thing, struct rejection *rejection) {
    struct json_object *settings = json_member(resource, "OverrideSettings", json_type_object);
    if (resolve_override(settings, "AttributePayload", true, &thing->override_attributes, rejection) < 0 ||
        resolve_override(settings, "ThingTypeName", false, &thing->override_type, rejection) < 0 ||
        resolve_override(settings, "ThingGroups", true, &thing->override_groups, rejection) < 0)
        return -1;
    return 0;
}

static int resolve_thing(const struct template_scope *scope, struct json_object *resource,
                         struct json_object *properties, struct template_result *result, struct rejection *rejection) {
    struct template_thing *thing = &result->thing;
    if (json_object_object_get_ex(properties, "ThingPrincipalType", NULL))
        return rejection_set(rejection, 400, "InvalidParameters", "ThingPrincipalType belongs to the certificate");
    if (thing->name != NULL)
        return rejection_set(rejection, 400, "InvalidParameters", "The template has two things");
    if (property_text(scope, properties, "ThingName", &thing->name, rejection) < 0 ||
        property_text(scope, properties, "ThingTypeName", &thing->type_name, rejection) < 0 ||
        property_map(scope, properties, "AttributePayload", &thing->attributes, rejection) < 0 ||
        resolve_groups(scope, properties, thing, rejection) < 0 || resolve_overrides(resource, thing, rejection) < 0)
        return -1;
    if (thing->name == NULL)
        return rejection_set(rejection, 400, "InvalidParameters", "The thing has no ThingName");
    return template_check_thing(thing, rejection);
}

/* The samples of AWS write both ACTIVE and Active. */
static int resolve_certificate(const struct template_scope *scope, struct json_object *properties,
                               struct template_result *result, struct rejection *rejection) {
    AUTO_FREE char *id = NULL, *status = NULL, *type = NULL;
    if (property_text(scope, properties, "CertificateId", &id, rejection) < 0 ||
        property_text(scope, properties, "Status", &status, rejection) < 0 ||
        property_text(scope, properties, "ThingPrincipalType", &type, rejection) < 0)
        return -1;
    if (id == NULL || strcmp(id, scope->certificate_id) != 0)
        return rejection_set(rejection, 400, "InvalidParameters",
                             "CertificateId must be {\"Ref\": \"AWS::IoT::Certificate::Id\"}");
    if (status != NULL && strcasecmp(status, "ACTIVE") != 0 && strcasecmp(status, "INACTIVE") != 0)
        return rejection_set(rejection, 400, "InvalidParameters", "Invalid certificate Status %.64s", status);
    if (type != NULL && strcmp(type, "EXCLUSIVE_THING") != 0 && strcmp(type, "NON_EXCLUSIVE_THING") != 0)
        return rejection_set(rejection, 400, "InvalidParameters", "Invalid ThingPrincipalType %.64s", type);
    result->thing.exclusive = type != NULL && strcmp(type, "EXCLUSIVE_THING") == 0;
    result->certificate_active = status == NULL || strcasecmp(status, "ACTIVE") == 0;
    return 0;
}

/* A document is a JSON object or, as CreatePolicy takes it, the text of one. */
static int resolve_policy(const struct template_scope *scope, struct json_object *properties,
                          struct template_result *result, struct rejection *rejection) {
    AUTO_FREE char *name = NULL;
    AUTO_JSON struct json_object *document = NULL;
    struct json_object *unresolved;
    bool has_document = json_object_object_get_ex(properties, "PolicyDocument", &unresolved);
    if (property_text(scope, properties, "PolicyName", &name, rejection) < 0 ||
        (has_document && template_value_resolve(scope, unresolved, &document, rejection) < 0))
        return -1;
    if ((name != NULL) == has_document)
        return rejection_set(rejection, 400, "InvalidParameters", "A policy needs either PolicyName or PolicyDocument");
    if (name != NULL)
        return json_object_array_add(result->policy_names, json_object_new_string(name));
    if (json_object_is_type(document, json_type_string)) {
        struct json_object *parsed =
            json_parse(json_object_get_string(document), (size_t)json_object_get_string_len(document));
        json_object_put(document);
        document = parsed;
    }
    if (!json_object_is_type(document, json_type_object))
        return rejection_set(rejection, 400, "InvalidParameters", "PolicyDocument is not JSON");
    return json_object_array_add(result->policy_documents, TAKE_POINTER(document));
}

static int resolve_resource(const struct template_scope *scope, struct json_object *resource,
                            struct template_result *result, bool *has_certificate, struct rejection *rejection) {
    const char *type = json_text(resource, "Type");
    struct json_object *properties = json_member(resource, "Properties", json_type_object);
    if (type == NULL || properties == NULL)
        return rejection_set(rejection, 400, "InvalidParameters", "A resource has no Type or no Properties");
    if (strcmp(type, "AWS::IoT::Thing") == 0)
        return resolve_thing(scope, resource, properties, result, rejection);
    if (strcmp(type, "AWS::IoT::Policy") == 0)
        return resolve_policy(scope, properties, result, rejection);
    if (strcmp(type, "AWS::IoT::Certificate") != 0)
        return rejection_set(rejection, 400, "InvalidParameters", "Unknown resource type %.64s", type);
    *has_certificate = true;
    return resolve_certificate(scope, properties, result, rejection);
}

static int check_parameters(struct json_object *declared, struct json_object *given, struct rejection *rejection) {
    json_object_object_foreach(declared, name, declaration) {
        const char *type = json_text(declaration, "Type");
        struct json_object *value;
        if (type == NULL || strcmp(type, "String") != 0)
            return rejection_set(rejection, 400, "InvalidParameters", "Parameter %.128s is not of Type String", name);
        if (json_object_object_get_ex(given, name, &value) && !json_object_is_type(value, json_type_string))
            return rejection_set(rejection, 400, "InvalidParameters", "Parameter %.128s is not text", name);
    }
    return 0;
}

static int resolve_body(const struct template_scope *scope, struct json_object *body, struct template_result *result,
                        struct rejection *rejection) {
    struct json_object *resources = json_member(body, "Resources", json_type_object);
    bool has_certificate = false;
    if (resources == NULL)
        return rejection_set(rejection, 400, "InvalidParameters", "The template has no Resources");
    if (scope->declared != NULL && check_parameters(scope->declared, scope->given, rejection) < 0)
        return -1;
    result->policy_names = json_object_new_array();
    result->policy_documents = json_object_new_array();
    json_object_object_foreach(resources, name, resource) {
        (void)name;
        if (resolve_resource(scope, resource, result, &has_certificate, rejection) < 0)
            return -1;
    }
    if (!has_certificate)
        return rejection_set(rejection, 400, "InvalidParameters", "The template has no AWS::IoT::Certificate");
    return property_map(scope, body, "DeviceConfiguration", &result->device_configuration, rejection);
}

int template_resolve(struct json_object *body, struct json_object *parameters, const char *certificate_id,
                     struct template_result *ret, struct rejection *rejection) {
    struct template_result result = {0};
    struct template_scope scope = {
        .declared = json_member(body, "Parameters", json_type_object),
        .given = parameters,
        .mappings = json_member(body, "Mappings", json_type_object),
        .certificate_id = certificate_id,
    };
    if (resolve_body(&scope, body, &result, rejection) < 0) {
        template_result_clear(&result);
        return -1;
    }
    *ret = result;
    return 0;
}

/* Provisioning templates: what a template makes of the parameters of one device. Pure functions.
 * Source: AWS IoT Core Developer Guide, "Provisioning templates"; names and values as in the API reference. */
#pragma once

#include "rejection.h"

#include <json-c/json.h>

#include <stdbool.h>

/* OverrideSettings: what becomes of a resource that exists already. */
enum template_override { TEMPLATE_REPLACE, TEMPLATE_DO_NOTHING, TEMPLATE_MERGE, TEMPLATE_FAIL };

struct template_thing {
    char *name; /* NULL: the template makes no thing */
    struct json_object *attributes;
    char *type_name; /* NULL: none */
    struct json_object *groups;
    bool exclusive; /* the certificate's ThingPrincipalType is EXCLUSIVE_THING */
    enum template_override override_attributes, override_type, override_groups;
};

/* What RegisterThing has to make. Released by template_result_clear(). */
struct template_result {
    struct template_thing thing;
    bool certificate_active;
    struct json_object *policy_names;     /* list of names of existing policies */
    struct json_object *policy_documents; /* list of documents */
    struct json_object *device_configuration;
};

void template_result_clear(struct template_result *result);

/* Resolves the body of a template with the parameters that the device sent and the hook changed. Parameters that the
 * template doesn't declare are ignored; AWS::IoT::Certificate::Id is always known. Functions: Ref, Fn::Join,
 * Fn::Select, Fn::Split, Fn::Sub and Fn::FindInMap. Returns 0 or -1 with the rejection. */
int template_resolve(struct json_object *body, struct json_object *parameters, const char *certificate_id,
                     struct template_result *ret, struct rejection *rejection);

/* 1 to 128 of [a-zA-Z0-9:_-]. */
bool template_thing_name_valid(const char *name);

/* Name, type, groups and attributes as the API takes them. Returns 0, or -1 with 400 InvalidParameters. */
int template_check_thing(const struct template_thing *thing, struct rejection *rejection);

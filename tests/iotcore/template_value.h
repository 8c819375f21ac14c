/* The values of a provisioning template: references and functions, resolved to plain JSON. Part of template.h. */
#pragma once

#include "rejection.h"

#include <json-c/json.h>

struct template_scope {
    struct json_object *declared; /* the template's Parameters */
    struct json_object *given;    /* what the device and the hook say */
    struct json_object *mappings; /* the template's Mappings, or NULL */
    const char *certificate_id;   /* AWS::IoT::Certificate::Id */
};

/* Resolves a value, and all values in it, to plain JSON; *ret is owned by the caller. Returns 0 or -1. */
int template_value_resolve(const struct template_scope *scope, struct json_object *value, struct json_object **ret,
                           struct rejection *rejection);

/* The same for a value that must come out as text; *ret is from malloc(). */
int template_value_text(const struct template_scope *scope, struct json_object *value, char **ret,
                        struct rejection *rejection);

#include "control_handler.h"

#include "common/cleanup.h"
#include "control_page.h"
#include "control_principal.h"
#include "json_read.h"
#include "registry_authority.h"

#include <string.h>

#define NAME_LIMIT 128

static const struct control_paging principal_paging = {"maxResults", "nextToken", "nextToken", "principals", NULL};

static struct json_object *things_of(struct json_object *certificate) {
    return json_member(certificate, "things", json_type_object);
}

static int find_thing(const struct control_call *call, struct json_object **ret) {
    *ret = registry_thing(call->registry, call->name);
    return *ret != NULL ? 0 : control_not_found(call, "Thing", call->name);
}

/* A copy of the attributes, all of which are texts; empty if there are none. */
static int read_attributes(const struct control_call *call, struct json_object **ret) {
    struct json_object *payload, *attributes;
    AUTO_JSON struct json_object *copy = json_object_new_object();
    if (control_object(call, "attributePayload", &payload) < 0)
        return -1;
    attributes = json_member(payload, "attributes", json_type_object);
    if (attributes != NULL) {
        json_object_object_foreach(attributes, name, value) {
            if (!json_object_is_type(value, json_type_string))
                return control_invalid(call, "An attribute is no text");
            json_object_object_add(copy, name, json_object_get(value));
        }
    }
    *ret = TAKE_POINTER(copy);
    return 0;
}

static int check(const struct control_call *call, struct json_object *attributes, const char *type) {
    AUTO_JSON struct json_object *groups = json_object_new_array();
    const struct template_thing thing = {
        .name = (char *)call->name, .attributes = attributes, .type_name = (char *)type, .groups = groups};
    int result = template_check_thing(&thing, call->rejection);
    call->rejection->error_code = "InvalidRequestException";
    return result;
}

static void name_thing(const struct control_call *call, struct json_object *object) {
    AUTO_FREE char *arn = registry_arn(call->registry, "thing", call->name);
    control_set(object, "thingName", call->name);
    control_set(object, "thingArn", arn);
}

/* A thing that is there and the same is no error. */
int control_create_thing(const struct control_call *call) {
    AUTO_JSON struct json_object *attributes = NULL;
    const char *type;
    if (control_text(call, call->body, "thingTypeName", NAME_LIMIT, &type) < 0 ||
        read_attributes(call, &attributes) < 0 || check(call, attributes, type) < 0)
        return -1;
    struct json_object *thing = registry_thing(call->registry, call->name);
    const char *own_type = json_text(thing, "thingTypeName");
    bool same_type = type == NULL ? own_type == NULL : own_type != NULL && strcmp(own_type, type) == 0;
    name_thing(call, call->reply);
    if (thing != NULL &&
        (!same_type || !json_object_equal(attributes, json_member(thing, "attributes", json_type_object))))
        return rejection_set(call->rejection, 409, "ResourceAlreadyExistsException",
                             "Thing %.128s already exists in account with different attributes", call->name);
    if (thing == NULL) {
        thing = json_object_new_object();
        json_object_object_add(thing, "attributes", json_object_get(attributes));
        json_object_object_add(thing, "thingGroups", json_object_new_array());
        control_set(thing, "thingTypeName", type);
        json_object_object_add(registry_section(call->registry, "things"), call->name, thing);
    }
    return 0;
}

static void describe(struct json_object *object, struct json_object *thing) {
    struct json_object *attributes = json_member(thing, "attributes", json_type_object);
    control_set(object, "thingTypeName", json_text(thing, "thingTypeName"));
    json_object_object_add(object, "attributes", json_object_get(attributes));
    json_object_object_add(object, "version", json_object_new_int(1));
}

int control_describe_thing(const struct control_call *call) {
    struct json_object *thing;
    if (find_thing(call, &thing) < 0)
        return -1;
    name_thing(call, call->reply);
    control_set(call->reply, "defaultClientId", call->name);
    describe(call->reply, thing);
    return 0;
}

/* "AttributePayload": without merge the attributes are replaced; with it those that are empty are taken away. */
static struct json_object *merge_attributes(struct json_object *before, struct json_object *given, bool merge) {
    struct json_object *merged = json_object_new_object();
    if (merge && before != NULL) {
        json_object_object_foreach(before, name, value) {
            json_object_object_add(merged, name, json_object_get(value));
        }
    }
    json_object_object_foreach(given, name, value) {
        if (json_object_get_string_len(value) > 0)
            json_object_object_add(merged, name, json_object_get(value));
        else
            json_object_object_del(merged, name);
    }
    return merged;
}

int control_update_thing(const struct control_call *call) {
    AUTO_JSON struct json_object *given = NULL;
    struct json_object *thing, *payload;
    const char *type;
    bool remove_type;
    if (find_thing(call, &thing) < 0 || control_text(call, call->body, "thingTypeName", NAME_LIMIT, &type) < 0 ||
        control_boolean(call, "removeThingType", &remove_type) < 0 ||
        control_object(call, "attributePayload", &payload) < 0 || read_attributes(call, &given) < 0)
        return -1;
    bool merge = json_object_get_boolean(json_member(payload, "merge", json_type_boolean));
    struct json_object *before = json_member(thing, "attributes", json_type_object);
    AUTO_JSON struct json_object *attributes =
        payload != NULL ? merge_attributes(before, given, merge) : json_object_get(before);
    if (type == NULL && !remove_type)
        type = json_text(thing, "thingTypeName");
    if (check(call, attributes, type) < 0)
        return -1;
    json_object_object_add(thing, "attributes", json_object_get(attributes));
    if (remove_type)
        json_object_object_del(thing, "thingTypeName");
    else if (type != json_text(thing, "thingTypeName"))
        control_set(thing, "thingTypeName", type);
    return 0;
}

/* The ARNs of the certificates that the thing has. */
static struct json_object *principals_of(const struct control_call *call) {
    struct json_object *entries = json_object_new_array();
    json_object_object_foreach(registry_certificates(call->registry), id, certificate) {
        struct json_object *things = things_of(certificate);
        AUTO_FREE char *arn = control_principal_arn(call, id);
        if (things != NULL && json_object_object_get_ex(things, call->name, NULL) && arn != NULL)
            json_object_array_add(entries, json_object_new_string(arn));
    }
    return entries;
}

/* "DeleteThing": one that is not there is deleted already. */
int control_delete_thing(const struct control_call *call) {
    AUTO_JSON struct json_object *principals = principals_of(call);
    if (json_object_array_length(principals) > 0)
        return control_invalid(call, "Cannot delete. Thing %.128s is still attached to one or more principals",
                               call->name);
    registry_thing_delete(call->registry, call->name);
    return 0;
}

int control_list_things(const struct control_call *call) {
    static const struct control_paging paging = {"maxResults", "nextToken", "nextToken", "things", "thingName"};
    static const char *const filters[] = {"attributeName", "attributeValue", "thingTypeName",
                                          "usePrefixAttributeValue"};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (control_uri_parameter(call->uri, filters[i]) != NULL)
            return control_invalid(call, "The stand-in does not know %s", filters[i]);
    struct json_object *entries = json_object_new_array();
    json_object_object_foreach(registry_section(call->registry, "things"), name, thing) {
        struct json_object *entry = json_object_new_object();
        AUTO_FREE char *arn = registry_arn(call->registry, "thing", name);
        control_set(entry, "thingName", name);
        control_set(entry, "thingArn", arn);
        describe(entry, thing);
        json_object_array_add(entries, entry);
    }
    return control_page(&paging, call->uri, entries, call->reply, call->rejection);
}

/* "ThingPrincipalType": an exclusive attachment is the only one of its certificate. */
int control_attach_thing_principal(const struct control_call *call) {
    static const char *const types[] = {"EXCLUSIVE_THING", "NON_EXCLUSIVE_THING", NULL};
    const char *type = control_uri_parameter(call->uri, "thingPrincipalType"), *id;
    struct json_object *thing, *certificate;
    bool exclusive;
    if (control_one_of(call, "thingPrincipalType", type, types) < 0 || find_thing(call, &thing) < 0 ||
        control_principal(call, call->principal, &certificate, &id) < 0)
        return -1;
    if (type == NULL)
        type = "NON_EXCLUSIVE_THING";
    struct json_object *things = things_of(certificate);
    bool attached = json_object_object_get_ex(things, call->name, NULL);
    int others = json_object_object_length(things) - (attached ? 1 : 0);
    const char *other = registry_certificate_thing(call->registry, id, "", &exclusive);
    if (others > 0 && (other != NULL || strcmp(type, "EXCLUSIVE_THING") == 0))
        return control_invalid(call, "The certificate is attached to another thing, or would be, exclusively");
    control_set(things, call->name, type);
    return 0;
}

int control_detach_thing_principal(const struct control_call *call) {
    struct json_object *thing, *certificate;
    const char *id;
    if (find_thing(call, &thing) < 0 || control_principal(call, call->principal, &certificate, &id) < 0)
        return -1;
    if (things_of(certificate) != NULL)
        json_object_object_del(things_of(certificate), call->name);
    return 0;
}

int control_list_thing_principals(const struct control_call *call) {
    struct json_object *thing;
    if (find_thing(call, &thing) < 0)
        return -1;
    return control_page(&principal_paging, call->uri, principals_of(call), call->reply, call->rejection);
}

int control_list_principal_things(const struct control_call *call) {
    static const struct control_paging paging = {"maxResults", "nextToken", "nextToken", "things", NULL};
    struct json_object *certificate, *entries;
    const char *id;
    if (control_principal(call, call->principal, &certificate, &id) < 0)
        return -1;
    entries = json_object_new_array();
    if (things_of(certificate) != NULL) {
        json_object_object_foreach(things_of(certificate), name, attachment) {
            (void)attachment;
            json_object_array_add(entries, json_object_new_string(name));
        }
    }
    return control_page(&paging, call->uri, entries, call->reply, call->rejection);
}

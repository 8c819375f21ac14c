#include "registry.h"

#include "common/cleanup.h"
#include "json_read.h"
#include "policy.h"

#include <openssl/evp.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOKEN_LIFE 3600
/* API reference, templateBody */
#define TEMPLATE_BODY_LIMIT 10240

struct registry {
    char *path;
    char *history; /* the folder in which each version is kept, or NULL */
    int64_t kept;  /* the name of the last one, microseconds */
    struct json_object *root;
};

static const char *const sections[] = {"certificates", "things",      "policies", "templates",
                                       "tokens",       "authorities", "rules",    "functions"};

struct json_object *registry_root(const struct registry *registry) {
    return registry->root;
}

struct json_object *registry_section(const struct registry *registry, const char *name) {
    return json_member(registry->root, name, json_type_object);
}

static struct json_object *entry(const struct registry *registry, const char *section_name, const char *name) {
    return json_member(registry_section(registry, section_name), name, json_type_object);
}

static int64_t number(struct json_object *object, const char *name) {
    return json_object_get_int64(json_member(object, name, json_type_int));
}

struct registry *registry_open(const char *path) {
    AUTO_JSON struct json_object *root = json_parse_file(path);
    if (root == NULL)
        return NULL;
    errno = 0;
    if (!json_object_is_type(root, json_type_object))
        return NULL;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (json_member(root, sections[i], json_type_object) == NULL)
            json_object_object_add(root, sections[i], json_object_new_object());
    struct registry *registry = calloc(1, sizeof *registry);
    if (registry == NULL || (registry->path = strdup(path)) == NULL)
        return registry_close(registry);
    registry->root = TAKE_POINTER(root);
    return registry;
}

struct registry *registry_close(struct registry *registry) {
    if (registry == NULL)
        return NULL;
    json_object_put(registry->root);
    free(registry->path);
    free(registry->history);
    free(registry);
    return NULL;
}

void registry_keep_history(struct registry *registry, const char *folder) {
    free(registry->history);
    registry->history = strdup(folder);
}

/* Tokens are in it. */
static int write_file(const struct registry *registry, const char *path) {
    AUTO_FREE char *temporary = NULL;
    if (asprintf(&temporary, "%s.new", path) < 0)
        return -ENOMEM;
    AUTO_CLOSE int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
    if (json_object_to_fd(fd, registry->root, flags) < 0)
        return -EIO;
    return rename(temporary, path) < 0 ? -errno : 0;
}

static int keep(struct registry *registry) {
    struct timespec now;
    AUTO_FREE char *path = NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t microseconds = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    if (microseconds <= registry->kept)
        microseconds = registry->kept + 1;
    if (asprintf(&path, "%s/%" PRId64 ".json", registry->history, microseconds) < 0)
        return -ENOMEM;
    registry->kept = microseconds;
    return write_file(registry, path);
}

int registry_save(struct registry *registry) {
    int error = registry->history != NULL ? keep(registry) : 0;
    return error < 0 ? error : write_file(registry, registry->path);
}

const char *registry_account(const struct registry *registry) {
    const char *account = json_text(registry->root, "account");
    return account != NULL ? account : "";
}

time_t registry_now(const struct registry *registry) {
    return time(NULL) + (time_t)number(registry->root, "clockOffset");
}

int64_t registry_milliseconds(const struct registry *registry) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return ((int64_t)now.tv_sec + number(registry->root, "clockOffset")) * 1000 + now.tv_nsec / 1000000;
}

void registry_set_clock_offset(struct registry *registry, long seconds) {
    json_object_object_add(registry->root, "clockOffset", json_object_new_int64(seconds));
}

char *registry_arn(const struct registry *registry, const char *kind, const char *name) {
    const char *region = json_text(registry->root, "region"), *account = registry_account(registry);
    char *arn = NULL;
    if (asprintf(&arn, "arn:aws:iot:%s:%s:%s/%s", region != NULL ? region : "", account, kind, name) < 0)
        return NULL;
    return arn;
}

const char *registry_certificate_status(const struct registry *registry, const char *certificate_id) {
    return json_text(entry(registry, "certificates", certificate_id), "status");
}

int registry_certificate_set_status(struct registry *registry, const char *certificate_id, const char *status) {
    struct json_object *certificate = entry(registry, "certificates", certificate_id);
    if (certificate == NULL)
        return -ENOENT;
    json_object_object_add(certificate, "status", json_object_new_string(status));
    return 0;
}

struct json_object *registry_certificate_new(const struct registry *registry, const char *status, const char *pem) {
    struct json_object *certificate = json_object_new_object();
    json_object_object_add(certificate, "status", json_object_new_string(status));
    json_object_object_add(certificate, "createdAt", json_object_new_int64(registry_now(registry)));
    json_object_object_add(certificate, "policies", json_object_new_array());
    json_object_object_add(certificate, "things", json_object_new_object());
    json_object_object_add(certificate, "pem", json_object_new_string(pem));
    return certificate;
}

void registry_certificate_add(struct registry *registry, const char *certificate_id, const char *pem,
                              const struct registry_requester *requester) {
    struct json_object *certificate = registry_certificate_new(registry, "PENDING_ACTIVATION", pem);
    json_object_object_add(certificate, "requestedBy", json_object_new_string(requester->client_id));
    json_object_object_add(registry_section(registry, "certificates"), certificate_id, certificate);
}

int64_t registry_certificate_age(const struct registry *registry, const char *certificate_id) {
    int64_t registered = number(entry(registry, "certificates", certificate_id), "registeredAt");
    return registered != 0 ? registry_milliseconds(registry) - registered : -1;
}

bool registry_certificate_is_device(const struct registry *registry, const char *certificate_id) {
    struct json_object *certificate = entry(registry, "certificates", certificate_id);
    struct json_object *things = json_member(certificate, "things", json_type_object);
    return number(certificate, "registeredAt") != 0 || (things != NULL && json_object_object_length(things) > 0);
}

struct json_object *registry_certificate_policy(const struct registry *registry, const char *certificate_id,
                                                size_t index) {
    struct json_object *names =
        json_member(entry(registry, "certificates", certificate_id), "policies", json_type_array);
    const char *name = NULL;
    if (names != NULL && index < json_object_array_length(names))
        name = json_object_get_string(json_object_array_get_idx(names, index));
    return name != NULL ? entry(registry, "policies", name) : NULL;
}

const char *registry_certificate_thing(const struct registry *registry, const char *certificate_id,
                                       const char *thing_name, bool *ret_exclusive) {
    struct json_object *things =
        json_member(entry(registry, "certificates", certificate_id), "things", json_type_object);
    if (things == NULL)
        return NULL;
    json_object_object_foreach(things, name, attachment) {
        bool exclusive = json_object_is_type(attachment, json_type_string) &&
                         strcmp(json_object_get_string(attachment), "EXCLUSIVE_THING") == 0;
        if (!exclusive && strcmp(name, thing_name) != 0)
            continue;
        *ret_exclusive = exclusive;
        return name;
    }
    return NULL;
}

struct json_object *registry_thing(const struct registry *registry, const char *thing_name) {
    return entry(registry, "things", thing_name);
}

int registry_thing_delete(struct registry *registry, const char *thing_name) {
    if (registry_thing(registry, thing_name) == NULL)
        return -ENOENT;
    json_object_object_del(registry_section(registry, "things"), thing_name);
    json_object_object_foreach(registry_section(registry, "certificates"), id, certificate) {
        (void)id;
        struct json_object *things = json_member(certificate, "things", json_type_object);
        if (things != NULL)
            json_object_object_del(things, thing_name);
    }
    return 0;
}

static const char *template_type(struct json_object *template) {
    const char *type = json_text(template, "type");
    return type != NULL ? type : REGISTRY_TEMPLATE_FLEET;
}

struct json_object *registry_template(const struct registry *registry, const char *name, const char *type) {
    struct json_object *template = entry(registry, "templates", name);
    struct json_object *enabled = json_member(template, "enabled", json_type_boolean);
    const char *body = json_text(template, "templateBody");
    if (body == NULL || strcmp(template_type(template), type) != 0 ||
        (enabled != NULL && !json_object_get_boolean(enabled)))
        return NULL;
    return json_parse(body, strlen(body));
}

const char *registry_template_hook(const struct registry *registry, const char *name) {
    return json_text(json_member(entry(registry, "templates", name), "preProvisioningHook", json_type_object),
                     "targetArn");
}

int registry_template_set(struct registry *registry, const char *name, const char *type, const char *body,
                          bool enabled) {
    struct json_object *template = entry(registry, "templates", name);
    AUTO_JSON struct json_object *parsed = body != NULL ? json_parse(body, strlen(body)) : NULL;
    if (type == NULL)
        type = template_type(template);
    if (body == NULL && template == NULL)
        return -ENOENT;
    if (body != NULL && (!json_object_is_type(parsed, json_type_object) || strlen(body) > TEMPLATE_BODY_LIMIT))
        return -EINVAL;
    if (strcmp(type, REGISTRY_TEMPLATE_FLEET) != 0 && strcmp(type, REGISTRY_TEMPLATE_JITP) != 0)
        return -EINVAL;
    if (template != NULL && strcmp(type, template_type(template)) != 0)
        return -EINVAL;
    if (template == NULL) {
        template = json_object_new_object();
        json_object_object_add(template, "type", json_object_new_string(type));
        json_object_object_add(registry_section(registry, "templates"), name, template);
    }
    if (body != NULL)
        json_object_object_add(template, "templateBody", json_object_new_string(body));
    json_object_object_add(template, "enabled", json_object_new_boolean(enabled));
    return 0;
}

bool registry_policy_exists(const struct registry *registry, const char *name) {
    return entry(registry, "policies", name) != NULL;
}

int registry_policy_set(struct registry *registry, const char *name, struct json_object *document) {
    if (!policy_valid(document))
        return -EINVAL;
    json_object_object_add(registry_section(registry, "policies"), name, json_object_get(document));
    return 0;
}

void registry_token_add(struct registry *registry, const char *token, const char *certificate_id,
                        const struct registry_requester *requester) {
    struct json_object *object = json_object_new_object();
    json_object_object_add(object, "certificateId", json_object_new_string(certificate_id));
    json_object_object_add(object, "createdAt", json_object_new_int64(registry_now(registry)));
    json_object_object_add(object, "principal", json_object_new_string(requester->certificate_id));
    json_object_object_add(object, "connection", json_object_new_int64(requester->connection));
    json_object_object_add(registry_section(registry, "tokens"), token, object);
}

static bool expired(const struct registry *registry, struct json_object *object) {
    return number(object, "createdAt") + TOKEN_LIFE <= registry_now(registry);
}

/* One that an authority of the account has signed may be activated at any time later. */
static bool pending(const struct registry *registry, const char *certificate_id) {
    const char *status = registry_certificate_status(registry, certificate_id);
    return status != NULL && strcmp(status, "PENDING_ACTIVATION") == 0 &&
           json_text(entry(registry, "certificates", certificate_id), "caCertificateId") == NULL;
}

struct json_object *registry_token(const struct registry *registry, const char *token) {
    struct json_object *object = entry(registry, "tokens", token);
    return object != NULL && !expired(registry, object) ? object : NULL;
}

void registry_token_use(struct registry *registry, const char *token, const char *template_name,
                        struct json_object *reply) {
    struct json_object *object = entry(registry, "tokens", token), *copy = NULL;
    if (json_object_deep_copy(reply, &copy, NULL) < 0)
        return;
    json_object_object_add(object, "template", json_object_new_string(template_name));
    json_object_object_add(object, "reply", copy);
}

static bool expire_section(struct registry *registry, const char *name, bool only_pending) {
    struct json_object *objects = registry_section(registry, name);
    bool changed = false;
    json_object_object_foreach(objects, key, object) {
        if ((only_pending && !pending(registry, key)) || !expired(registry, object))
            continue;
        json_object_object_del(objects, key);
        changed = true;
    }
    return changed;
}

bool registry_expire(struct registry *registry) {
    bool tokens = expire_section(registry, "tokens", false);
    return expire_section(registry, "certificates", true) || tokens;
}

static int conflict(struct rejection *rejection, const char *name, const char *what) {
    return rejection_set(rejection, 409, "ResourceConflicts", "Thing %.128s exists already with another %s", name,
                         what);
}

static int check_conflicts(const struct template_thing *wanted, struct json_object *thing,
                           struct rejection *rejection) {
    const char *type = json_text(thing, "thingTypeName");
    bool same_type = wanted->type_name == NULL || (type != NULL && strcmp(type, wanted->type_name) == 0);
    if (wanted->override_attributes == TEMPLATE_FAIL &&
        !json_object_equal(wanted->attributes, json_member(thing, "attributes", json_type_object)))
        return conflict(rejection, wanted->name, "AttributePayload");
    if (wanted->override_type == TEMPLATE_FAIL && !same_type)
        return conflict(rejection, wanted->name, "ThingTypeName");
    if (wanted->override_groups == TEMPLATE_FAIL &&
        !json_object_equal(wanted->groups, json_member(thing, "thingGroups", json_type_array)))
        return conflict(rejection, wanted->name, "ThingGroups");
    return 0;
}

static int check_policies(const struct registry *registry, const struct template_result *result,
                          struct rejection *rejection) {
    for (size_t i = 0; i < json_object_array_length(result->policy_names); i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(result->policy_names, i));
        if (!registry_policy_exists(registry, name))
            return rejection_set(rejection, 404, "ResourceNotFound", "Policy %.128s does not exist", name);
    }
    for (size_t i = 0; i < json_object_array_length(result->policy_documents); i++)
        if (!policy_valid(json_object_array_get_idx(result->policy_documents, i)))
            return rejection_set(rejection, 400, "InvalidParameters", "The policy document is malformed");
    return 0;
}

static void merge_attributes(struct json_object *attributes, struct json_object *added) {
    json_object_object_foreach(added, name, value) {
        json_object_object_add(attributes, name, json_object_get(value));
    }
}

static void merge_groups(struct json_object *groups, struct json_object *added) {
    for (size_t i = 0; i < json_object_array_length(added); i++) {
        struct json_object *group = json_object_array_get_idx(added, i);
        bool found = false;
        for (size_t j = 0; j < json_object_array_length(groups) && !found; j++)
            found = json_object_equal(json_object_array_get_idx(groups, j), group);
        if (!found)
            json_object_array_add(groups, json_object_get(group));
    }
}

static void thing_create(struct registry *registry, const struct template_thing *wanted) {
    struct json_object *thing = json_object_new_object();
    json_object_object_add(thing, "attributes", json_object_get(wanted->attributes));
    json_object_object_add(thing, "thingGroups", json_object_get(wanted->groups));
    if (wanted->type_name != NULL)
        json_object_object_add(thing, "thingTypeName", json_object_new_string(wanted->type_name));
    json_object_object_add(registry_section(registry, "things"), wanted->name, thing);
}

static void thing_update(struct json_object *thing, const struct template_thing *wanted) {
    struct json_object *attributes = json_member(thing, "attributes", json_type_object);
    struct json_object *groups = json_member(thing, "thingGroups", json_type_array);
    if (wanted->override_attributes == TEMPLATE_MERGE && attributes != NULL)
        merge_attributes(attributes, wanted->attributes);
    else if (wanted->override_attributes == TEMPLATE_REPLACE)
        json_object_object_add(thing, "attributes", json_object_get(wanted->attributes));
    if (wanted->override_groups == TEMPLATE_MERGE && groups != NULL)
        merge_groups(groups, wanted->groups);
    else if (wanted->override_groups == TEMPLATE_REPLACE)
        json_object_object_add(thing, "thingGroups", json_object_get(wanted->groups));
    if (wanted->override_type == TEMPLATE_REPLACE && wanted->type_name != NULL)
        json_object_object_add(thing, "thingTypeName", json_object_new_string(wanted->type_name));
}

/* A policy without a name is named by a hash of its document. */
static void policy_name(struct json_object *document, char name[41]) {
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    const char *text = json_object_to_json_string_ext(document, JSON_C_TO_STRING_PLAIN);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL);
    for (unsigned i = 0; i < 20; i++)
        snprintf(name + 2 * i, 3, "%02x", digest[i]);
}

static void attach_policies(struct registry *registry, const struct template_result *result,
                            struct json_object *certificate) {
    struct json_object *names = json_object_new_array();
    merge_groups(names, result->policy_names);
    for (size_t i = 0; i < json_object_array_length(result->policy_documents); i++) {
        char name[41];
        struct json_object *document = json_object_array_get_idx(result->policy_documents, i);
        policy_name(document, name);
        json_object_object_add(registry_section(registry, "policies"), name, json_object_get(document));
        json_object_array_add(names, json_object_new_string(name));
    }
    json_object_object_add(certificate, "policies", names);
}

static void attach_thing(struct registry *registry, const struct template_thing *wanted,
                         struct json_object *certificate) {
    struct json_object *thing = registry_thing(registry, wanted->name), *things = json_object_new_object();
    if (thing == NULL)
        thing_create(registry, wanted);
    else
        thing_update(thing, wanted);
    json_object_object_add(things, wanted->name,
                           json_object_new_string(wanted->exclusive ? "EXCLUSIVE_THING" : "NON_EXCLUSIVE_THING"));
    json_object_object_add(certificate, "things", things);
}

int registry_apply(struct registry *registry, const struct template_result *result, const char *certificate_id,
                   struct rejection *rejection) {
    struct json_object *certificate = entry(registry, "certificates", certificate_id);
    struct json_object *thing = result->thing.name != NULL ? registry_thing(registry, result->thing.name) : NULL;
    if (certificate == NULL)
        return rejection_set(rejection, 404, "ResourceNotFound", "The certificate does not exist");
    if ((thing != NULL && check_conflicts(&result->thing, thing, rejection) < 0) ||
        check_policies(registry, result, rejection) < 0)
        return -1;
    if (result->thing.name != NULL)
        attach_thing(registry, &result->thing, certificate);
    attach_policies(registry, result, certificate);
    json_object_object_add(certificate, "registeredAt", json_object_new_int64(registry_milliseconds(registry)));
    return registry_certificate_set_status(registry, certificate_id,
                                           result->certificate_active ? "ACTIVE" : "INACTIVE");
}

#include "worker/checkpoint.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/document.h"

#include <string.h>

/* Attempts with one certificate at most: with the longest wait of class `denied`, an hour, about a day. */
#define PATIENCE_MAX 24
/* With the longest wait of class `network`, 15 minutes at most and half of that on average, and the proof: a day. */
#define DOUBTS 144

static const char *const stage_names[] = {
    [CHECKPOINT_NOTHING] = "nothing", [CHECKPOINT_KEY] = "key",     [CHECKPOINT_ISSUED] = "issued",
    [CHECKPOINT_SENT] = "sent",       [CHECKPOINT_SPENT] = "spent", [CHECKPOINT_REGISTERED] = "registered",
};
#define STAGE_COUNT (CHECKPOINT_REGISTERED + 1)

void checkpoint_drop_secret(struct checkpoint *checkpoint) {
    text_free_secret(checkpoint->secret);
    checkpoint->secret = NULL;
}

void checkpoint_drop_certificate(struct checkpoint *checkpoint) {
    checkpoint_drop_secret(checkpoint);
    free(checkpoint->certificate_pem);
    free(checkpoint->device_configuration);
    checkpoint->certificate_pem = checkpoint->device_configuration = NULL;
    checkpoint->thing_name[0] = '\0';
    checkpoint->has_thing = false;
    checkpoint->refusals = checkpoint->doubts = 0;
    checkpoint->stage = CHECKPOINT_KEY;
}

void checkpoint_drop_key(struct checkpoint *checkpoint) {
    text_free_secret(checkpoint->private_pem);
    checkpoint->private_pem = NULL;
}

void checkpoint_clear(struct checkpoint *checkpoint) {
    checkpoint_drop_certificate(checkpoint);
    checkpoint_drop_key(checkpoint);
    memset(checkpoint, 0, sizeof *checkpoint);
}

bool checkpoint_is_hopeless(const struct checkpoint *checkpoint, bool connects) {
    uint32_t patience = checkpoint->abandoned < 5 && !connects ? 1U << checkpoint->abandoned : PATIENCE_MAX;
    return checkpoint->refusals >= patience;
}

bool checkpoint_is_doubtful(const struct checkpoint *checkpoint) {
    return checkpoint->doubts > 0 && checkpoint->doubts % DOUBTS == 0;
}

static void add_optional(json_object *object, const char *name, const char *text) {
    if (text != NULL)
        document_add_text(object, name, text);
}

int checkpoint_encode(const struct checkpoint *checkpoint, char **ret_json, struct failure *failure) {
    AUTO_DOCUMENT json_object *object = json_object_new_object();
    const char *configuration = checkpoint->device_configuration;
    document_add_number(object, "schema", CHECKPOINT_SCHEMA);
    document_add_text(object, "stage", stage_names[checkpoint->stage]);
    document_add_text(object, "binding", checkpoint->binding);
    document_add_text(object, "keyOrigin", checkpoint->key_origin);
    add_optional(object, "privateKey", checkpoint->private_pem);
    add_optional(object, "certificate", checkpoint->certificate_pem);
    add_optional(object, "secret", checkpoint->secret);
    add_optional(object, "thingName", checkpoint->has_thing ? checkpoint->thing_name : NULL);
    document_add_number(object, "refusals", checkpoint->refusals);
    document_add_number(object, "doubts", checkpoint->doubts);
    document_add_number(object, "abandoned", checkpoint->abandoned);
    if (configuration != NULL) {
        json_object *member = document_parse(configuration, strlen(configuration));
        if (member == NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_REGISTER,
                               "deviceConfiguration is not a JSON object of at most %d KiB", DOCUMENT_MAX / 1024);
        json_object_object_add(object, "deviceConfiguration", member);
    }
    char *text = document_print(object);
    document_wipe(object, "privateKey");
    document_wipe(object, "secret");
    if (text == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "out of memory");
    *ret_json = text;
    return 0;
}

static bool read_stage(json_object *object, enum checkpoint_stage *ret) {
    char name[16];
    if (!document_get_text(object, "stage", name, sizeof name))
        return false;
    for (int stage = CHECKPOINT_KEY; stage < STAGE_COUNT; stage++)
        if (strcmp(stage_names[stage], name) == 0) {
            *ret = (enum checkpoint_stage)stage;
            return true;
        }
    return false;
}

static bool read_count(json_object *object, const char *name, uint32_t *ret) {
    int64_t number = 0;
    if (!document_get_number(object, name, &number) || number > UINT32_MAX / 2)
        return false;
    *ret = (uint32_t)number;
    return true;
}

/* What each stage must have, so that nobody has to ask again. */
static const char *judge(const struct checkpoint *checkpoint) {
    enum checkpoint_stage stage = checkpoint->stage;
    if (checkpoint->private_pem == NULL)
        return "it has no key";
    if (stage >= CHECKPOINT_ISSUED && checkpoint->certificate_pem == NULL)
        return "it has no certificate";
    if (stage == CHECKPOINT_SENT && checkpoint->secret == NULL)
        return "it has no secret";
    return NULL;
}

static const char *read_members(json_object *object, struct checkpoint *checkpoint) {
    int64_t schema = 0;
    if (!document_get_number(object, "schema", &schema) || schema != CHECKPOINT_SCHEMA)
        return "it is of another version";
    if (!read_stage(object, &checkpoint->stage))
        return "its stage is unknown";
    if (!document_get_text(object, "binding", checkpoint->binding, sizeof checkpoint->binding))
        return "its binding is malformed";
    if (!document_get_text(object, "keyOrigin", checkpoint->key_origin, sizeof checkpoint->key_origin))
        return "its keyOrigin is malformed";
    if (!read_count(object, "refusals", &checkpoint->refusals) || !read_count(object, "doubts", &checkpoint->doubts) ||
        !read_count(object, "abandoned", &checkpoint->abandoned))
        return "its counts are malformed";
    checkpoint->private_pem = document_get_long_text(object, "privateKey");
    checkpoint->certificate_pem = document_get_long_text(object, "certificate");
    checkpoint->secret = document_get_long_text(object, "secret");
    checkpoint->device_configuration = document_get_object(object, "deviceConfiguration");
    checkpoint->has_thing =
        document_get_text(object, "thingName", checkpoint->thing_name, sizeof checkpoint->thing_name);
    return judge(checkpoint);
}

const char *checkpoint_parse(const char *json, size_t size, struct checkpoint *ret) {
    AUTO_DOCUMENT json_object *object = document_parse(json, size);
    struct checkpoint checkpoint = {.stage = CHECKPOINT_NOTHING};
    if (object == NULL)
        return "it is not a JSON object";
    const char *wrong = read_members(object, &checkpoint);
    document_wipe(object, "privateKey");
    document_wipe(object, "secret");
    if (wrong != NULL) {
        checkpoint_clear(&checkpoint);
        return wrong;
    }
    *ret = checkpoint;
    return NULL;
}

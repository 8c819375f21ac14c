#include "worker/staged.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/document.h"

#include <string.h>

void staged_clear(struct staged *staged) {
    text_free_secret(staged->private_pem);
    free(staged->subject);
    free(staged->request_pem);
    free(staged->certificate_pem);
    memset(staged, 0, sizeof *staged);
}

static void add_optional(json_object *object, const char *name, const char *text) {
    if (text != NULL)
        document_add_text(object, name, text);
}

int staged_encode(const struct staged *staged, char **ret_json, struct failure *failure) {
    AUTO_DOCUMENT json_object *object = json_object_new_object();
    document_add_number(object, "schema", STAGED_SCHEMA);
    document_add_text(object, "keyOrigin", staged->key_origin);
    document_add_text(object, "privateKey", staged->private_pem);
    add_optional(object, "subject", staged->subject);
    add_optional(object, "request", staged->request_pem);
    add_optional(object, "certificate", staged->certificate_pem);
    char *text = document_print(object);
    document_wipe(object, "privateKey");
    if (text == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_COMMIT, "out of memory");
    *ret_json = text;
    return 0;
}

static const char *read_members(json_object *object, struct staged *staged) {
    int64_t schema = 0;
    if (!document_get_number(object, "schema", &schema) || schema != STAGED_SCHEMA)
        return "it is of another version";
    if (!document_get_text(object, "keyOrigin", staged->key_origin, sizeof staged->key_origin))
        return "its keyOrigin is malformed";
    staged->private_pem = document_get_long_text(object, "privateKey");
    staged->subject = document_get_long_text(object, "subject");
    staged->request_pem = document_get_long_text(object, "request");
    staged->certificate_pem = document_get_long_text(object, "certificate");
    return staged->private_pem != NULL ? NULL : "it has no key";
}

const char *staged_parse(const char *json, size_t size, struct staged *ret) {
    AUTO_DOCUMENT json_object *object = document_parse(json, size);
    struct staged staged = {.private_pem = NULL};
    if (object == NULL)
        return "it is not a JSON object";
    const char *wrong = read_members(object, &staged);
    document_wipe(object, "privateKey");
    if (wrong != NULL) {
        staged_clear(&staged);
        return wrong;
    }
    *ret = staged;
    return NULL;
}

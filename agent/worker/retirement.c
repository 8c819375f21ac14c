#include "worker/retirement.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "worker/document.h"

#include <stdio.h>
#include <string.h>

void retirement_print(const char *old_id, const char *new_id, char text[RETIREMENT_SIZE]) {
    /* Hexadecimal digits: nothing that JSON would escape. */
    snprintf(text, RETIREMENT_SIZE, "{\"old\":\"%s\",\"new\":\"%s\"}", old_id, new_id);
}

bool retirement_is_about(const char *payload, size_t size, const char *old_id, char reason[RETIREMENT_REASON_SIZE]) {
    AUTO_DOCUMENT json_object *object = document_parse(payload, size);
    char id[CERTIFICATE_ID_SIZE];
    if (object == NULL || !document_get_text(object, "old", id, sizeof id) || strcmp(id, old_id) != 0)
        return false;
    AUTO_FREE char *message = document_get_long_text(object, "message");
    snprintf(reason, RETIREMENT_REASON_SIZE, "%s", message != NULL ? message : "");
    text_make_printable(reason);
    return true;
}

int retirement_next(const char **list, char id[CERTIFICATE_ID_SIZE]) {
    *list += strspn(*list, " ");
    size_t length = strcspn(*list, " ");
    if (length == 0)
        return 0;
    if (length >= CERTIFICATE_ID_SIZE)
        return -1;
    memcpy(id, *list, length);
    id[length] = '\0';
    *list += length;
    return certificate_is_id(id) ? 1 : -1;
}

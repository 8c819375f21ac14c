/* A request for a subject that is given as text, as Subject= has it. */
#pragma once

#include "worker/key.h"

static inline int make_request(struct key *key, const char *text, char **ret_pem, struct failure *failure) {
    const struct specifier_values none = {.serial_number = NULL};
    struct subject subject;
    return subject_parse(text, &none, &subject, failure) < 0 ? -1 : key_make_request(key, &subject, ret_pem, failure);
}

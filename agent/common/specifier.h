/* Specifiers in values of the configuration: %s and the like. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>

struct specifier_values {
    const char *serial_number;      /* %s */
    const char *thing_name;         /* %t, NULL while it is unknown */
    const char *common_name;        /* %c, of the imported certificate or the request; NULL if it has none */
    const char *certificate_id;     /* %i, NULL while there is none */
    const char *old_certificate_id; /* %o, of the certificate that is renewed; NULL where none is */
};

/* Pure: NULL if every specifier in the text is one, else what is wrong. */
const char *specifier_judge(const char *text);

/* Pure: true if the text has this specifier: 'c' for %c. */
bool specifier_is_in(const char *text, char letter);

/* Replaces %s (serial number), %t (thing name), %c (common name of the certificate), %i (its id), %o (the id of the one
 * that is renewed), %m (machine id), %H
 * (host name) and %%. The caller frees *ret. Class `invalid`, step STEP_CONFIGURATION, for another letter or one that
 * has no value yet; `name` is what to blame. */
int specifier_expand(const char *text, const struct specifier_values *values, const char *name, char **ret,
                     struct failure *failure);

#include "daemon/identity.h"

#include "common/job.h"
#include "common/step.h"

#include <errno.h>
#include <string.h>

/* 9999-12-31T23:59:59Z, "no well-defined expiration date" of RFC 5280 section 4.1.2.5 */
#define TIME_MAX_S 253402300799ULL

static int wrong_fact(struct failure *failure, const char *key) {
    return failure_set(failure, FAILURE_INTERNAL, STEP_WORKER, "its result has no usable %s", key);
}

static int read_text(const struct message *message, const char *key, bool required, char *ret, size_t size,
                     struct failure *failure) {
    const char *value = message_get(message, key);
    if (value == NULL || strlen(value) >= size || (required && *value == '\0'))
        return wrong_fact(failure, key);
    memcpy(ret, value, strlen(value) + 1);
    return 0;
}

static int read_time(const struct message *message, const char *key, uint64_t *ret_usec, struct failure *failure) {
    uint64_t seconds;
    if (message_get_number(message, key, &seconds) < 0 || seconds > TIME_MAX_S)
        return wrong_fact(failure, key);
    *ret_usec = seconds * 1000000;
    return 0;
}

int identity_serial_number(const struct message *message, char ret[129], struct failure *failure) {
    if (message_get(message, JOB_KEY_SERIAL_NUMBER) == NULL)
        return 0;
    return read_text(message, JOB_KEY_SERIAL_NUMBER, false, ret, 129, failure);
}

int identity_from_failure(const struct message *message, struct identity *ret) {
    struct identity identity;
    struct failure ignored;
    memset(&identity, 0, sizeof identity);
    if ((message_get(message, JOB_KEY_METHOD) != NULL &&
         read_text(message, JOB_KEY_METHOD, false, identity.method, sizeof identity.method, &ignored) < 0) ||
        (message_get(message, JOB_KEY_CERTIFICATE_ID) != NULL &&
         read_text(message, JOB_KEY_CERTIFICATE_ID, false, identity.certificate_id, sizeof identity.certificate_id,
                   &ignored) < 0))
        return -EBADMSG;
    *ret = identity;
    return 0;
}

static int read_imported(const struct message *message, struct identity *identity, struct failure *failure) {
    const char *value = message_get(message, JOB_KEY_IMPORTED);
    if (value == NULL || (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0))
        return wrong_fact(failure, JOB_KEY_IMPORTED);
    identity->imported = strcmp(value, "yes") == 0;
    return 0;
}

/* Cannot be renewed and no reason is told, or the other way round: a text for people must not be a riddle. */
static int read_renewal(const struct message *message, struct identity *identity, struct failure *failure) {
    if (read_time(message, JOB_KEY_ISSUED_AT, &identity->issued_at_usec, failure) < 0 ||
        read_text(message, JOB_KEY_RENEW_METHOD, false, identity->renew_method, sizeof identity->renew_method,
                  failure) < 0 ||
        read_text(message, JOB_KEY_HINDRANCE, false, identity->hindrance, sizeof identity->hindrance, failure) < 0)
        return -1;
    return identity->renew_method[0] == '\0' && identity->hindrance[0] == '\0' ? wrong_fact(failure, JOB_KEY_HINDRANCE)
                                                                               : 0;
}

int identity_from_result(const struct message *message, struct identity *ret, struct failure *failure) {
    struct identity identity;
    memset(&identity, 0, sizeof identity);
    const struct {
        const char *key;
        char *text;
        size_t size;
        bool required;
    } texts[] = {
        {JOB_KEY_METHOD, identity.method, sizeof identity.method, true},
        {JOB_KEY_THING_NAME, identity.thing_name, sizeof identity.thing_name, false},
        {JOB_KEY_CERTIFICATE_ID, identity.certificate_id, sizeof identity.certificate_id, false},
        {JOB_KEY_KEY_BACKEND, identity.key_backend, sizeof identity.key_backend, true},
        {JOB_KEY_KEY_ALGORITHM, identity.key_algorithm, sizeof identity.key_algorithm, true},
        {JOB_KEY_KEY_ORIGIN, identity.key_origin, sizeof identity.key_origin, true},
        {JOB_KEY_ENDPOINT, identity.endpoint, sizeof identity.endpoint, true},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (read_text(message, texts[i].key, texts[i].required, texts[i].text, texts[i].size, failure) < 0)
            return -1;
    if (identity_serial_number(message, identity.serial_number, failure) < 0)
        return -1;
    if (read_time(message, JOB_KEY_NOT_BEFORE, &identity.not_before_usec, failure) < 0 ||
        read_time(message, JOB_KEY_NOT_AFTER, &identity.not_after_usec, failure) < 0 ||
        read_renewal(message, &identity, failure) < 0 || read_imported(message, &identity, failure) < 0)
        return -1;
    *ret = identity;
    return 0;
}

/* Faults to inject into the provisioning API, one JSON object each:
 *   operation     create, create-from-csr or register-thing
 *   action        drop       done, but no reply
 *                 delay      done, the reply comes after "milliseconds"
 *                 duplicate  done, the reply comes twice
 *                 close      done, then the connection ends without a reply
 *                 replace    done, the reply's payload is the text "payload"
 *                 amend      done, members of the reply are those of the JSON object in the text "payload"
 *                 reject     not done: rejected with "statusCode" and "errorCode"
 *   times         how many requests it meets, 1 if absent */
#pragma once

#include "rejection.h"
#include "topic.h"

#include <json-c/json.h>

enum fault_action {
    FAULT_NONE,
    FAULT_DROP,
    FAULT_DELAY,
    FAULT_DUPLICATE,
    FAULT_CLOSE,
    FAULT_REPLACE,
    FAULT_AMEND,
    FAULT_REJECT,
};

struct fault {
    enum fault_action action;
    unsigned milliseconds;
    int status_code;
    char error_code[64];
    char *payload; /* for FAULT_REPLACE and FAULT_AMEND; released by fault_clear() */
};

/* Begin with all zero. */
struct fault_list {
    struct json_object *faults;
};

/* Adds a fault; -EINVAL for one that is not as above. */
int fault_add(struct fault_list *list, struct json_object *fault);

/* Takes the first fault for the operation; FAULT_NONE if there is none. */
struct fault fault_take(struct fault_list *list, enum topic_operation operation);
void fault_clear(struct fault *fault);
void fault_list_clear(struct fault_list *list);

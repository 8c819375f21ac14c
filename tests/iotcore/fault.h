/* Faults to inject, one JSON object each. Pure functions.
 *   operation  create, create-from-csr, register-thing: a request of the provisioning API; connect; subscribe; publish
 *   action     what becomes of it:
 *              refuse     not done: 0x87 in CONNACK, SUBACK or PUBACK (with MQTT 3.1.1 a closed connection)
 *              hangup     not done: the connection ends, no acknowledgement
 *              and of a request of the provisioning API also:
 *              silence    not done, taken by the broker, no reply
 *              reject     not done, rejected with "statusCode" and "errorCode"
 *              drop       done, no reply
 *              delay      done, the reply comes after "milliseconds"
 *              duplicate  done, the reply comes twice
 *              close      done, no reply; acknowledged, then DISCONNECT 0x98
 *              cut        done, no reply; the connection ends, no acknowledgement
 *              replace    done, the reply's payload is the text "payload"
 *              amend      done, members of the reply are those of the JSON object in the text "payload"
 *   times      how many it meets: 1 if absent, 0 until the faults are cleared
 *   who        claim or device: only connections with such a certificate; a device's is one that was registered for a
 *              thing
 *   topic      only topics and filters that match this pattern of the shell's (fnmatch(3)); not for connect
 * Of several faults for the same thing the first counts. */
#pragma once

#include "topic.h"

#include <json-c/json.h>

#include <stdbool.h>

enum fault_operation {
    FAULT_CREATE_KEYS,
    FAULT_CREATE_FROM_CSR,
    FAULT_REGISTER_THING,
    FAULT_CONNECT,
    FAULT_SUBSCRIBE,
    FAULT_PUBLISH,
};

enum fault_action {
    FAULT_NONE,
    FAULT_REFUSE,
    FAULT_HANGUP,
    FAULT_SILENCE,
    FAULT_REJECT,
    FAULT_DROP,
    FAULT_DELAY,
    FAULT_DUPLICATE,
    FAULT_CLOSE,
    FAULT_CUT,
    FAULT_REPLACE,
    FAULT_AMEND,
};

/* Before the broker takes a packet, or when a request is carried out. */
enum fault_stage { FAULT_AT_DOOR, FAULT_AT_WORK };

struct fault {
    enum fault_action action;
    const char *operation_name, *action_name; /* of constant memory */
    unsigned milliseconds;
    int status_code;
    char error_code[64];
    char *payload; /* for FAULT_REPLACE and FAULT_AMEND; released by fault_clear() */
};

/* What a fault might meet. */
struct fault_target {
    enum fault_stage stage;
    bool operations[FAULT_PUBLISH + 1]; /* each that it is: a request of the provisioning API is published, too */
    bool device;
    const char *topic; /* NULL for a CONNECT */
};

/* Begin with all zero. */
struct fault_list {
    struct json_object *faults;
};

/* Adds a fault; -EINVAL for one that is not as above. */
int fault_add(struct fault_list *list, struct json_object *fault);

/* Takes the first fault that meets the target, if this is its stage; else FAULT_NONE. */
struct fault fault_take(struct fault_list *list, const struct fault_target *target);
void fault_clear(struct fault *fault);
void fault_list_clear(struct fault_list *list);

/* The operation of a request of the provisioning API. */
enum fault_operation fault_operation_of(enum topic_operation operation);

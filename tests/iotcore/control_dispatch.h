/* From an HTTP request to the operation that answers it. */
#pragma once

#include "control_call.h"
#include "control_route.h"
#include "control_server.h"

#include <stdbool.h>

/* Answers the request: the caller has given the call a registry, an endpoint, an empty reply and a rejection, and has
 * to release its body afterwards; what it names lives in *uri. Returns 0, or -1 with the rejection, and *ret is the
 * operation unless there is none. */
int control_dispatch(const struct control_request *request, struct control_uri *uri, struct control_call *call,
                     enum control_operation *ret);

/* Whether the operation changes the registry: GetRegistrationCode does, as it makes the code. */
bool control_changes(enum control_operation operation);

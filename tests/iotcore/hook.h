/* The pre-provisioning hook ("Pre-provisioning hooks" of the Developer Guide): the Lambda function that the template
 * names, and for tests that want an answer and no function a table of rules. The file is a list of {"serialPrefix",
 * "result": "allow", "deny" or "timeout", "parameterOverrides"}; the first rule whose prefix begins the parameter
 * SerialNumber counts; without one the device is allowed. */
#pragma once

#include "rejection.h"

#include <json-c/json.h>

/* A hook has this long to answer. */
#define HOOK_TIMEOUT_MILLISECONDS 5000

/* Asks the rules in the file; changes the parameters as they say. Returns 0, or -1 with the rejection; then *ret_delay
 * is how long the hook kept everybody waiting. A file that can't be read as such a table denies. */
int hook_ask(const char *path, struct json_object *parameters, unsigned *ret_delay, struct rejection *rejection);

/* Does as the function has answered: {"allowProvisioning": true, "parameterOverrides": {}}. NULL is none. Returns 0, or
 * -1 with the rejection. */
int hook_obey(struct json_object *answer, struct json_object *parameters, struct rejection *rejection);

/* Lambda functions: a process for each call, which runs the Python of a file, as iotcore-function does it. The registry
 * knows them by their names:
 *
 *   functions.NAME    file (a path), policy (the path of what its role may do; absent: everything), environment (texts)
 *
 * The process has as standard input {event, file, policy, environment, url (of the control plane), region, account,
 * clockOffset}, and answers with {result} or {error}. What it prints goes to the file functions.log of the state
 * directory. Each call is told in the event "function". */
#pragma once

#include "standin.h"

#include <json-c/json.h>

#include <stdbool.h>
#include <stdint.h>

/* AWS Lambda ends a function after its timeout; README.md of etc/aws sets this one. */
#define FUNCTION_MILLISECONDS 30000

/* What the function said is result; NULL: it failed, and error says how. context is the caller's, who releases it here:
 * it is called exactly once for each call, with standin NULL for one that will never end. */
typedef void (*function_done)(struct standin *standin, void *context, struct json_object *result, const char *error);

/* Calls the function of that ARN with the event. The answer comes from function_tick(), never from here. */
void function_call(struct standin *standin, const char *arn, struct json_object *event, int64_t milliseconds,
                   function_done done, void *context);

/* True if a call is under way: the control plane then has more to do. */
bool function_busy(const struct standin *standin);

void function_tick(struct standin *standin);

/* Ends all. */
void function_clear(struct standin *standin);

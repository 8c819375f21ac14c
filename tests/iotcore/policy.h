/* AWS IoT Core policies: may this principal do this with that resource? Pure functions.
 * Source: AWS IoT Core Developer Guide, "AWS IoT Core policies" (actions, action resources, policy variables). */
#pragma once

#include <json-c/json.h>

#include <stdbool.h>

enum policy_decision {
    POLICY_NO_STATEMENT, /* nothing allows it: denied */
    POLICY_ALLOWED,
    POLICY_DENIED, /* a statement denies it, which no other statement can undo */
};

/* Gives the value of a policy variable, "iot:ClientId" for ${iot:ClientId}, as text from malloc(), or NULL if it has
 * none for this connection. */
typedef char *(*policy_variable_function)(void *userdata, const char *name);

struct policy_variables {
    policy_variable_function get;
    void *userdata;
};

/* Judges one document: action as "iot:Publish", resource as a whole ARN. A document that is not a policy allows
 * nothing. In resources * stands for any run of characters and ? for one; MQTT's + and # are ordinary characters. A
 * variable without a value, or with one that is longer than 1024 bytes or holds one of * $ + ? #, is left as it is, and
 * such a pattern matches nothing. Conditions: StringEquals, StringNotEquals, StringLike and Bool; an Allow with
 * another one does not apply, a Deny does. */
enum policy_decision policy_evaluate(struct json_object *document, const char *action, const char *resource,
                                     const struct policy_variables *variables);

/* Joins the answers of several documents: denied wins, then allowed. */
enum policy_decision policy_join(enum policy_decision one, enum policy_decision other);

/* True if the object is a policy document as CreatePolicy accepts one: Version 2012-10-17, statements with an Effect,
 * Actions and Resources, at most 2048 characters without white space. */
bool policy_valid(struct json_object *document);

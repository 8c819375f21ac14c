/* One call of the control plane on its way: what was asked, and what is answered. What the call's members hold lives as
 * long as the call. */
#pragma once

#include "control_uri.h"
#include "rejection.h"

#include <json-c/json.h>

#include <stdbool.h>
#include <stddef.h>

struct registry;

/* Who hands on a message of the data plane; false if it can't. */
struct control_publisher {
    bool (*publish)(void *userdata, const char *topic, const void *payload, size_t size, int qos);
    void *userdata;
};

struct control_call {
    struct registry *registry;
    const char *endpoint; /* the name of the data endpoint */
    const struct control_uri *uri;
    const char *name;         /* what the path names: a certificate id, a thing, a policy; or NULL */
    const char *principal;    /* header x-amzn-principal, or NULL */
    struct json_object *body; /* an object, empty if there was none or it is no JSON */
    const void *bytes;        /* the body as it came */
    size_t size;
    const struct control_publisher *publisher; /* NULL: nobody can publish */
    struct json_object *reply;
    struct rejection *rejection;
};

/* Reject the call, and give back -1 so that a function can end with it: 400 InvalidRequestException, 404
 * ResourceNotFoundException ("Policy enrolld-device not found"), 406 CertificateStateException, 500. */
int control_invalid(const struct control_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
int control_not_found(const struct control_call *call, const char *what, const char *name);
int control_state(const struct control_call *call, const char *format, ...) __attribute__((format(printf, 2, 3)));
int control_out_of_memory(const struct control_call *call);

/* A text of the object, one of at most limit bytes; NULL if it is not there. Returns 0, or -1 with the rejection for
 * anything else. */
int control_text(const struct control_call *call, struct json_object *object, const char *name, size_t limit,
                 const char **ret);

/* The same for an object and for a boolean, which is false if it is not there. */
int control_object(const struct control_call *call, const char *name, struct json_object **ret);
int control_boolean(const struct control_call *call, const char *name, bool *ret);

/* The query's parameter as true or false; false if it is not there. */
int control_flag(const struct control_call *call, const char *name, bool *ret);

/* Whether the value is one of the words, the last of which is NULL; a value of NULL is. */
int control_one_of(const struct control_call *call, const char *name, const char *value, const char *const *words);

/* 0 if the path names a certificate id of 64 hexadecimal digits. */
int control_certificate_id(const struct control_call *call);

void control_set(struct json_object *object, const char *name, const char *text);

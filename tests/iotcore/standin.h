/* All that one stand-in for AWS IoT Core keeps: the state directory, its options and what is under way. */
#pragma once

#include "connection.h"
#include "event.h"
#include "fault.h"
#include "option.h"
#include "provisioning.h"
#include "registry.h"

#include <stdint.h>

struct control;
struct function_work;
struct jit_work;
struct reply;

struct standin {
    void *plugin; /* what the broker calls this plugin by */
    struct standin_options options;
    struct provisioning provisioning; /* its registry is the stand-in's */
    struct connection_table connections;
    struct event_log *events;
    struct fault_list faults;
    struct reply *replies;
    struct jit_work *jit_works;
    char *edits_path;
    char *front_path;        /* the folder in which the front notes who comes, NULL without a front */
    char *host;              /* the endpoint's name */
    struct control *control; /* NULL: there is no control plane */
    struct function_work *function_works;
    char *function_program; /* iotcore-function, NULL: there are no functions */
    char *functions_log;
    int64_t next_expiry; /* milliseconds of the monotonic clock */
};

/* Milliseconds of the monotonic clock. */
int64_t standin_milliseconds(void);

/* Writes the registry; a failure is logged. */
void standin_save(struct standin *standin);

/* An event about a connection: client id and certificate id are in it. */
struct json_object *standin_event(const char *name, const struct identity *identity);

/* Takes the fault that meets this, if there is one, and tells it in the event "fault". */
struct fault standin_fault(struct standin *standin, const struct identity *identity, struct fault_target target);

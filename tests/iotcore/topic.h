/* MQTT topics as AWS IoT Core sees them: reserved topics, requests of the provisioning API, filters. Pure functions.
 * Source: AWS IoT Core Developer Guide, "Reserved topics", "Device provisioning MQTT API" and "MQTT". */
#pragma once

#include <stdbool.h>

/* Longest template name (API reference, TemplateName) with its NUL. */
#define TOPIC_TEMPLATE_NAME_SIZE 37

enum topic_operation { TOPIC_CREATE_KEYS, TOPIC_CREATE_FROM_CSR, TOPIC_REGISTER_THING };
enum topic_format { TOPIC_JSON, TOPIC_CBOR };

/* A request of the provisioning API as its topic tells it. template_name is empty but for TOPIC_REGISTER_THING. */
struct topic_request {
    enum topic_operation operation;
    enum topic_format format;
    char template_name[TOPIC_TEMPLATE_NAME_SIZE];
};

enum topic_class {
    TOPIC_ORDINARY, /* anything that does not begin with '$' */
    TOPIC_REQUEST,  /* a request of the provisioning API */
    TOPIC_SERVICE,  /* another reserved topic that devices may publish to: $aws/rules/, $aws/things/ */
    TOPIC_INVALID,  /* any other reserved topic: AWS IoT may end the connection */
};

/* What a device publishes to; *ret is written for TOPIC_REQUEST only. */
enum topic_class topic_classify(const char *topic, struct topic_request *ret);

/* False for a filter below '$' that no message can ever match, such as $aws/certificates/create/accepted, where the
 * level json or cbor is missing: AWS IoT ends the connection then. */
bool topic_filter_valid(const char *filter);

/* True if the filter matches the topic. Unlike the MQTT specification, a/# does not match a ("MQTT", differences). */
bool topic_matches(const char *filter, const char *topic);

/* At most 256 bytes and 7 slashes (AWS General Reference, AWS IoT Core quotas); Basic Ingest's prefix is not counted.
 */
bool topic_within_limits(const char *topic);

/* 1 to 36 of [0-9A-Za-z_-] (API reference, TemplateName). */
bool topic_template_name_valid(const char *name);

/* The word used for the operation in topics, events and knobs: "create-from-csr". */
const char *topic_operation_name(enum topic_operation operation);

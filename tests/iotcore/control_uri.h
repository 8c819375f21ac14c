/* The target of an HTTP request: the decoded parts of its path and its query. Pure functions. */
#pragma once

#include <stdbool.h>

#define CONTROL_URI_SIZE 8192
#define CONTROL_URI_SEGMENTS 4
#define CONTROL_URI_PARAMETERS 16

struct control_uri {
    const char *segments[CONTROL_URI_SEGMENTS]; /* of the path: "things", "GW-0001", "principals" */
    unsigned segment_count;
    struct {
        const char *name;
        const char *value; /* empty where there is none */
    } parameters[CONTROL_URI_PARAMETERS];
    unsigned parameter_count;
    char text[CONTROL_URI_SIZE]; /* what the others point into */
};

/* Reads the target as it stands in the request line, "/things/GW-0001/principals?maxResults=5". A "/" that is written
 * as %2F belongs to its part (RFC 3986, section 2.2). False for anything that is malformed: not UTF-8 after decoding,
 * with a NUL, too long, of too many parts, with an empty part, or with a parameter twice or without a name. */
bool control_uri_parse(struct control_uri *uri, const char *target);

/* The parameter's value, or NULL if it is not there. */
const char *control_uri_parameter(const struct control_uri *uri, const char *name);

#include "topic.h"

#include <stdio.h>
#include <string.h>

#define CERTIFICATES "$aws/certificates/"
#define TEMPLATES "$aws/provisioning-templates/"
#define RULES "$aws/rules/"

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

const char *topic_operation_name(enum topic_operation operation) {
    switch (operation) {
    case TOPIC_CREATE_KEYS:
        return "create";
    case TOPIC_CREATE_FROM_CSR:
        return "create-from-csr";
    case TOPIC_REGISTER_THING:
        return "register-thing";
    }
    return "";
}

bool topic_template_name_valid(const char *name) {
    size_t length = strlen(name);
    static const char allowed[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_-";
    return length > 0 && length < TOPIC_TEMPLATE_NAME_SIZE && strspn(name, allowed) == length;
}

static bool parse_format(const char *text, enum topic_format *ret) {
    if (strcmp(text, "json") == 0)
        *ret = TOPIC_JSON;
    else if (strcmp(text, "cbor") == 0)
        *ret = TOPIC_CBOR;
    else
        return false;
    return true;
}

static bool parse_certificate_request(const char *rest, struct topic_request *ret) {
    ret->template_name[0] = '\0';
    if (starts_with(rest, "create/")) {
        ret->operation = TOPIC_CREATE_KEYS;
        return parse_format(rest + strlen("create/"), &ret->format);
    }
    if (starts_with(rest, "create-from-csr/")) {
        ret->operation = TOPIC_CREATE_FROM_CSR;
        return parse_format(rest + strlen("create-from-csr/"), &ret->format);
    }
    return false;
}

static bool parse_template_request(const char *rest, struct topic_request *ret) {
    size_t length = strcspn(rest, "/");
    if (length >= sizeof ret->template_name || !starts_with(rest + length, "/provision/"))
        return false;
    memcpy(ret->template_name, rest, length);
    ret->template_name[length] = '\0';
    ret->operation = TOPIC_REGISTER_THING;
    return topic_template_name_valid(ret->template_name) &&
           parse_format(rest + length + strlen("/provision/"), &ret->format);
}

enum topic_class topic_classify(const char *topic, struct topic_request *ret) {
    struct topic_request request;
    bool parsed = false;
    if (topic[0] != '$')
        return TOPIC_ORDINARY;
    if (starts_with(topic, RULES) || starts_with(topic, "$aws/things/"))
        return TOPIC_SERVICE;
    if (starts_with(topic, CERTIFICATES))
        parsed = parse_certificate_request(topic + strlen(CERTIFICATES), &request);
    else if (starts_with(topic, TEMPLATES))
        parsed = parse_template_request(topic + strlen(TEMPLATES), &request);
    if (!parsed)
        return TOPIC_INVALID;
    *ret = request;
    return TOPIC_REQUEST;
}

/* Moves both texts behind one level; false if the level does not match. */
static bool match_level(const char **filter, const char **topic) {
    size_t filter_length = strcspn(*filter, "/"), topic_length = strcspn(*topic, "/");
    bool any = filter_length == 1 && **filter == '+';
    if (!any && (filter_length != topic_length || strncmp(*filter, *topic, topic_length) != 0))
        return false;
    *filter += filter_length;
    *topic += topic_length;
    return true;
}

bool topic_matches(const char *filter, const char *topic) {
    if (topic[0] == '$' && filter[0] != '$')
        return false;
    while (strcmp(filter, "#") != 0) {
        if (!match_level(&filter, &topic))
            return false;
        if (*filter == '\0' || *topic == '\0')
            return *filter == *topic;
        filter++;
        topic++;
    }
    return true;
}

static bool matches_any_reply(const char *filter, const char *request) {
    static const char *const endings[] = {"json/accepted", "json/rejected", "cbor/accepted", "cbor/rejected"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char topic[128];
        snprintf(topic, sizeof topic, "%s/%s", request, endings[i]);
        if (topic_matches(filter, topic))
            return true;
    }
    return false;
}

bool topic_filter_valid(const char *filter) {
    if (filter[0] != '$' || starts_with(filter, "$aws/things/") || starts_with(filter, "$aws/events/"))
        return true;
    if (starts_with(filter, CERTIFICATES))
        return matches_any_reply(filter, CERTIFICATES "create") ||
               matches_any_reply(filter, CERTIFICATES "create-from-csr");
    if (!starts_with(filter, TEMPLATES))
        return false;
    const char *name = filter + strlen(TEMPLATES);
    char request[sizeof TEMPLATES "/provision" + TOPIC_TEMPLATE_NAME_SIZE];
    size_t length = strcspn(name, "/");
    bool wildcard = length == 1 && (*name == '+' || *name == '#');
    if (length >= TOPIC_TEMPLATE_NAME_SIZE)
        return false;
    snprintf(request, sizeof request, TEMPLATES "%.*s/provision", (int)(wildcard ? 1 : length), wildcard ? "x" : name);
    return matches_any_reply(filter, request);
}

bool topic_within_limits(const char *topic) {
    unsigned slashes = 0;
    if (starts_with(topic, RULES)) {
        const char *end_of_rule = strchr(topic + strlen(RULES), '/');
        topic = end_of_rule != NULL ? end_of_rule + 1 : topic;
    }
    for (const char *character = topic; *character != '\0'; character++)
        slashes += *character == '/';
    return strlen(topic) <= 256 && slashes <= 7;
}

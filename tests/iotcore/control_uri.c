#include "control_uri.h"

#include "common/text.h"

#include <stddef.h>
#include <string.h>

static int digit(char character) {
    if (character >= '0' && character <= '9')
        return character - '0';
    if (character >= 'a' && character <= 'f')
        return character - 'a' + 10;
    if (character >= 'A' && character <= 'F')
        return character - 'A' + 10;
    return -1;
}

/* In place, as what is decoded is never longer. */
static bool decode(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = digit(from[1]), low = high >= 0 ? digit(from[2]) : -1;
        if (low < 0 || (high == 0 && low == 0))
            return false;
        *to++ = (char)(high << 4 | low);
        from += 2;
    }
    *to = '\0';
    return text_is_utf8(text, (size_t)(to - text));
}

/* Cuts the text at the character; what comes behind, or NULL. */
static char *cut(char *text, char at) {
    char *end = strchr(text, at);
    if (end == NULL)
        return NULL;
    *end = '\0';
    return end + 1;
}

static bool parse_path(struct control_uri *uri, char *path) {
    while (path != NULL) {
        char *rest = cut(path, '/');
        if (uri->segment_count == CONTROL_URI_SEGMENTS || *path == '\0' || !decode(path))
            return false;
        uri->segments[uri->segment_count++] = path;
        path = rest;
    }
    return true;
}

static bool parse_query(struct control_uri *uri, char *query) {
    while (query != NULL) {
        char *rest = cut(query, '&'), *value = cut(query, '=');
        if (uri->parameter_count == CONTROL_URI_PARAMETERS || *query == '\0' || !decode(query) ||
            (value != NULL && !decode(value)) || control_uri_parameter(uri, query) != NULL)
            return false;
        uri->parameters[uri->parameter_count].name = query;
        uri->parameters[uri->parameter_count++].value = value != NULL ? value : "";
        query = rest;
    }
    return true;
}

bool control_uri_parse(struct control_uri *uri, const char *target) {
    size_t length = strlen(target);
    uri->segment_count = uri->parameter_count = 0;
    if (length >= sizeof uri->text || target[0] != '/' || strchr(target, '#') != NULL)
        return false;
    memcpy(uri->text, target, length + 1);
    char *query = cut(uri->text, '?');
    if (query != NULL && *query == '\0')
        query = NULL;
    return parse_path(uri, uri->text + 1) && parse_query(uri, query);
}

const char *control_uri_parameter(const struct control_uri *uri, const char *name) {
    for (unsigned i = 0; i < uri->parameter_count; i++)
        if (strcmp(uri->parameters[i].name, name) == 0)
            return uri->parameters[i].value;
    return NULL;
}

#include "control_page.h"

#include "common/cleanup.h"
#include "common/text.h"
#include "json_read.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* API reference, pageSize and marker */
#define SIZE_DEFAULT 25
#define SIZE_LIMIT 250
#define MARKER_LIMIT 1024

struct position {
    double date;
    const char *key;
    struct json_object *entry;
};

struct page {
    size_t size;
    bool ascending;
    bool begins_after;
    struct position after;
    char key[MARKER_LIMIT / 2 + 1]; /* of `after` */
};

static struct position position_of(struct json_object *entry, const char *key) {
    struct json_object *date = NULL;
    const char *text = key != NULL ? json_text(entry, key) : json_object_get_string(entry);
    if (key != NULL)
        json_object_object_get_ex(entry, "creationDate", &date);
    return (struct position){date != NULL ? json_object_get_double(date) : 0, text != NULL ? text : "", entry};
}

static int compare(const void *one_pointer, const void *other_pointer) {
    const struct position *one = one_pointer, *other = other_pointer;
    if (one->date < other->date)
        return -1;
    if (one->date > other->date)
        return 1;
    return strcmp(one->key, other->key);
}

static int compare_descending(const void *one, const void *other) {
    return compare(other, one);
}

static int invalid(struct rejection *rejection, const char *parameter) {
    return rejection_set(rejection, 400, "InvalidRequestException", "The parameter %s is not valid", parameter);
}

/* A marker is the position of the last entry before it, in hexadecimal digits: the API takes letters and digits. */
static int read_marker(struct page *page, const char *marker) {
    size_t length = strlen(marker);
    char text[MARKER_LIMIT / 2 + 1] = "", digits[3] = "";
    if (length == 0 || length % 2 != 0 || length > MARKER_LIMIT || strspn(marker, "0123456789abcdef") != length)
        return -1;
    for (size_t i = 0; i < length; i += 2) {
        memcpy(digits, marker + i, 2);
        text[i / 2] = (char)strtoul(digits, NULL, 16);
    }
    char *end = text;
    page->after.date = strtod(text, &end);
    if (end == text || *end != ' ')
        return -1;
    snprintf(page->key, sizeof page->key, "%s", end + 1);
    page->after.key = page->key;
    page->begins_after = true;
    return 0;
}

static int read_page(struct page *page, const struct control_paging *paging, const struct control_uri *uri,
                     struct rejection *rejection) {
    const char *size = control_uri_parameter(uri, paging->size), *marker = control_uri_parameter(uri, paging->marker);
    const char *ascending = control_uri_parameter(uri, "isAscendingOrder");
    uint64_t number = SIZE_DEFAULT;
    if (size != NULL && (text_to_u64(size, &number) < 0 || number == 0 || number > SIZE_LIMIT))
        return invalid(rejection, paging->size);
    page->size = (size_t)number;
    if (ascending != NULL && strcmp(ascending, "true") != 0 && strcmp(ascending, "false") != 0)
        return invalid(rejection, "isAscendingOrder");
    page->ascending = ascending != NULL && strcmp(ascending, "true") == 0;
    if (marker != NULL && read_marker(page, marker) < 0)
        return invalid(rejection, paging->marker);
    return 0;
}

static void add_marker(struct json_object *reply, const char *name, const struct position *last) {
    char text[MARKER_LIMIT / 2], marker[MARKER_LIMIT + 1];
    int length = snprintf(text, sizeof text, "%.17g %s", last->date, last->key);
    if (length < 0 || (size_t)length >= sizeof text)
        return;
    text_to_hex((const uint8_t *)text, (size_t)length, marker);
    json_object_object_add(reply, name, json_object_new_string(marker));
}

static void fill(const struct page *page, const struct control_paging *paging, const struct position *positions,
                 size_t count, struct json_object *reply) {
    struct json_object *list = json_object_new_array();
    int (*order)(const void *, const void *) = page->ascending ? compare : compare_descending;
    size_t first = 0;
    while (page->begins_after && first < count && order(&positions[first], &page->after) <= 0)
        first++;
    size_t end = count - first > page->size ? first + page->size : count;
    for (size_t i = first; i < end; i++)
        json_object_array_add(list, json_object_get(positions[i].entry));
    json_object_object_add(reply, paging->list, list);
    if (end < count)
        add_marker(reply, paging->next, &positions[end - 1]);
}

int control_page(const struct control_paging *paging, const struct control_uri *uri, struct json_object *entries,
                 struct json_object *reply, struct rejection *rejection) {
    AUTO_JSON struct json_object *owned = entries;
    struct page page = {0};
    size_t count = json_object_array_length(owned);
    if (read_page(&page, paging, uri, rejection) < 0)
        return -1;
    AUTO_FREE struct position *positions = calloc(count + 1, sizeof *positions);
    if (positions == NULL)
        return rejection_set(rejection, 500, "InternalFailureException", "Out of memory");
    for (size_t i = 0; i < count; i++)
        positions[i] = position_of(json_object_array_get_idx(owned, i), paging->key);
    /* Without dates there is no newest one. */
    if (count > 0 && positions[0].date == 0)
        page.ascending = true;
    qsort(positions, count, sizeof *positions, page.ascending ? compare : compare_descending);
    fill(&page, paging, positions, count, reply);
    return 0;
}

/* Lists in pages, as the operations of AWS IoT's control plane give them. Pure functions. */
#pragma once

#include "control_uri.h"
#include "rejection.h"

#include <json-c/json.h>

/* How an operation names its paging. */
struct control_paging {
    const char *size;   /* the parameter: pageSize or maxResults */
    const char *marker; /* the parameter: marker or nextToken */
    const char *next;   /* the member of the reply: nextMarker or nextToken */
    const char *list;   /* the member of the reply that holds the entries */
    const char *key;    /* the member of an entry that no other has; NULL: entries are texts */
};

/* Puts one page of the entries, in the order of their creationDate (where they have one) and then of their key, into
 * the reply, and a marker if there are more: by default 25, at most 250; the newest first, unless isAscendingOrder is
 * true. Entries without a date come in the order of their keys. A marker stays good when what it names is gone. Takes
 * the array. Returns 0 or -1 with the rejection. */
int control_page(const struct control_paging *paging, const struct control_uri *uri, struct json_object *entries,
                 struct json_object *reply, struct rejection *rejection);

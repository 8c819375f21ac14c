/* The connections that the broker has: who each one is and what it has subscribed to. */
#pragma once

#include "identity.h"

#include <stdbool.h>
#include <stdint.h>

/* Subscriptions per connection (AWS General Reference, AWS IoT Core quotas). */
#define CONNECTION_FILTERS 50

struct connection {
    const void *client;       /* the broker's object, NULL for a session without a connection */
    int64_t number;           /* which no other connection has or had, in an earlier run of the broker either */
    struct identity identity; /* owns client_id, source_address and certificate */
    int mqtt_version;         /* 3 (MQTT 3.1), 4 (3.1.1) or 5 */
    bool clean;
    int64_t refused_since; /* monotonic milliseconds since which its certificate is not ACTIVE, 0: it is */
    unsigned filter_count;
    struct connection_filter {
        char *text;
        uint8_t qos;
    } filters[CONNECTION_FILTERS];
    struct connection *next;
};

/* Begin with all zero. */
struct connection_table {
    struct connection *first;
    struct {
        char client_id[129];
        int64_t milliseconds;
    } recent[64];
    unsigned recent_next;
    int64_t last_number;
};

/* Notes a CONNECT of the client id at that time; false if the previous allowed one was less than a second
 * ago. */
bool connection_rate(struct connection_table *table, const char *client_id, int64_t milliseconds);

/* Adds a connection; with clean false it takes over the subscriptions of the client id's session. Copies the identity's
 * texts, takes a reference to its certificate. NULL if out of memory. */
struct connection *connection_open(struct connection_table *table, const void *client, const struct identity *identity,
                                   int mqtt_version, bool clean);

/* The connection has ended; its session stays if it is not clean. */
void connection_close(struct connection_table *table, struct connection *connection);
void connection_close_all(struct connection_table *table);

struct connection *connection_find(const struct connection_table *table, const void *client);
/* The living connection with that client id. */
struct connection *connection_find_id(const struct connection_table *table, const char *client_id);

/* False if there are too many. */
bool connection_subscribe(struct connection *connection, const char *filter, uint8_t qos);
void connection_unsubscribe(struct connection *connection, const char *filter);

/* The highest QoS of the subscriptions that match the topic, -1 if none does. */
int connection_subscribed(const struct connection *connection, const char *topic);

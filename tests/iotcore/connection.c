#include "connection.h"

#include "topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

bool connection_rate(struct connection_table *table, const char *client_id, int64_t milliseconds) {
    const unsigned count = sizeof table->recent / sizeof *table->recent;
    for (unsigned i = 0; i < count; i++) {
        if (strcmp(table->recent[i].client_id, client_id) != 0)
            continue;
        bool allowed = milliseconds - table->recent[i].milliseconds >= 1000;
        if (allowed)
            table->recent[i].milliseconds = milliseconds;
        return allowed;
    }
    unsigned index = table->recent_next++ % count;
    snprintf(table->recent[index].client_id, sizeof table->recent[index].client_id, "%s", client_id);
    table->recent[index].milliseconds = milliseconds;
    return true;
}

static void forget_filters(struct connection *connection) {
    for (unsigned i = 0; i < connection->filter_count; i++)
        free(connection->filters[i].text);
    connection->filter_count = 0;
}

static void free_connection(struct connection *connection) {
    forget_filters(connection);
    free((char *)connection->identity.client_id);
    free((char *)connection->identity.source_address);
    X509_free(connection->identity.certificate);
    free(connection);
}

static void remove_connection(struct connection_table *table, struct connection *connection) {
    for (struct connection **link = &table->first; *link != NULL; link = &(*link)->next)
        if (*link == connection) {
            *link = connection->next;
            free_connection(connection);
            return;
        }
}

/* A living connection of the same client id is about to be ended by the broker, which reports that later. */
static void take_session(struct connection_table *table, struct connection *connection) {
    struct connection *other, *next;
    for (other = connection->next; other != NULL; other = next) {
        next = other->next;
        if (strcmp(other->identity.client_id, connection->identity.client_id) != 0)
            continue;
        if (!connection->clean && connection->filter_count == 0) {
            memcpy(connection->filters, other->filters, sizeof other->filters);
            connection->filter_count = other->filter_count;
            other->filter_count = 0;
        }
        other->clean = true;
        if (other->client == NULL)
            remove_connection(table, other);
    }
}

static bool copy_identity(struct identity *copy, const struct identity *identity) {
    copy->client_id = strdup(identity->client_id);
    copy->source_address = strdup(identity->source_address != NULL ? identity->source_address : "");
    memcpy(copy->certificate_id, identity->certificate_id, sizeof copy->certificate_id);
    if (copy->client_id == NULL || copy->source_address == NULL || X509_up_ref(identity->certificate) != 1)
        return false;
    copy->certificate = identity->certificate;
    return true;
}

/* The time keeps apart the numbers of several runs of the broker. */
static int64_t new_number(struct connection_table *table) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t microseconds = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    table->last_number = microseconds > table->last_number ? microseconds : table->last_number + 1;
    return table->last_number;
}

struct connection *connection_open(struct connection_table *table, const void *client, const struct identity *identity,
                                   int mqtt_version, bool clean) {
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        return NULL;
    if (!copy_identity(&connection->identity, identity)) {
        free_connection(connection);
        return NULL;
    }
    connection->client = client;
    connection->number = new_number(table);
    connection->mqtt_version = mqtt_version;
    connection->clean = clean;
    connection->next = table->first;
    table->first = connection;
    take_session(table, connection);
    return connection;
}

void connection_close(struct connection_table *table, struct connection *connection) {
    connection->client = NULL;
    if (connection->clean)
        remove_connection(table, connection);
}

void connection_close_all(struct connection_table *table) {
    while (table->first != NULL)
        remove_connection(table, table->first);
}

struct connection *connection_find(const struct connection_table *table, const void *client) {
    for (struct connection *connection = table->first; connection != NULL; connection = connection->next)
        if (connection->client == client)
            return connection;
    return NULL;
}

struct connection *connection_find_id(const struct connection_table *table, const char *client_id) {
    for (struct connection *connection = table->first; connection != NULL; connection = connection->next)
        if (connection->client != NULL && strcmp(connection->identity.client_id, client_id) == 0)
            return connection;
    return NULL;
}

static struct connection_filter *filter_find(struct connection *connection, const char *text) {
    for (unsigned i = 0; i < connection->filter_count; i++)
        if (strcmp(connection->filters[i].text, text) == 0)
            return &connection->filters[i];
    return NULL;
}

bool connection_subscribe(struct connection *connection, const char *filter, uint8_t qos) {
    struct connection_filter *entry = filter_find(connection, filter);
    if (entry == NULL) {
        char *text = connection->filter_count < CONNECTION_FILTERS ? strdup(filter) : NULL;
        if (text == NULL)
            return false;
        entry = &connection->filters[connection->filter_count++];
        entry->text = text;
    }
    entry->qos = qos;
    return true;
}

void connection_unsubscribe(struct connection *connection, const char *filter) {
    struct connection_filter *entry = filter_find(connection, filter);
    if (entry == NULL)
        return;
    free(entry->text);
    *entry = connection->filters[--connection->filter_count];
}

int connection_subscribed(const struct connection *connection, const char *topic) {
    int qos = -1;
    for (unsigned i = 0; i < connection->filter_count; i++)
        if (topic_matches(connection->filters[i].text, topic) && connection->filters[i].qos > qos)
            qos = connection->filters[i].qos;
    return qos;
}

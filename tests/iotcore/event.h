/* The file in which everything that happens is told, one JSON object per line, for tests and people to wait for. */
#pragma once

#include <json-c/json.h>

struct event_log;

/* Opens the file for appending. NULL with errno. */
struct event_log *event_log_open(const char *path);
struct event_log *event_log_close(struct event_log *log);

/* {"time": milliseconds since the epoch, "event": NAME} */
struct json_object *event_new(const char *name);

/* Adds a text; NULL adds nothing. Text that is not UTF-8 is added in hexadecimal digits as NAMEHex. */
void event_text(struct json_object *event, const char *name, const char *text);
void event_bytes(struct json_object *event, const char *name, const void *bytes, size_t size);

/* Appends the line with a single write() and releases the event. */
void event_write(struct event_log *log, struct json_object *event);

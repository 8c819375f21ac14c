#include "event.h"

#include "common/cleanup.h"
#include "json_read.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct event_log {
    int fd;
};

struct event_log *event_log_open(const char *path) {
    struct event_log *log = malloc(sizeof *log);
    if (log == NULL)
        return NULL;
    log->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return log->fd >= 0 ? log : event_log_close(log);
}

struct event_log *event_log_close(struct event_log *log) {
    if (log != NULL && log->fd >= 0)
        close(log->fd);
    free(log);
    return NULL;
}

struct json_object *event_new(const char *name) {
    struct timespec now;
    struct json_object *event = json_object_new_object();
    clock_gettime(CLOCK_REALTIME, &now);
    json_object_object_add(event, "time", json_object_new_int64((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000));
    json_object_object_add(event, "event", json_object_new_string(name));
    return event;
}

/* The parser knows what UTF-8 is: a string literal of the bytes is valid JSON, or the bytes are no text. */
static struct json_object *bytes_as_text(const char *bytes, size_t size) {
    AUTO_JSON struct json_object *plain = json_object_new_string_len(bytes, (int)size);
    const char *literal = json_object_to_json_string_ext(plain, JSON_C_TO_STRING_PLAIN);
    return literal != NULL ? json_parse(literal, strlen(literal)) : NULL;
}

static void add_hexadecimal(struct json_object *event, const char *name, const unsigned char *bytes, size_t size) {
    AUTO_FREE char *label = NULL, *digits = malloc(2 * size + 1);
    if (digits == NULL || asprintf(&label, "%sHex", name) < 0)
        return;
    digits[0] = '\0';
    for (size_t i = 0; i < size; i++)
        snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
    json_object_object_add(event, label, json_object_new_string(digits));
}

void event_bytes(struct json_object *event, const char *name, const void *bytes, size_t size) {
    struct json_object *text = bytes_as_text(bytes, size);
    if (text != NULL)
        json_object_object_add(event, name, text);
    else
        add_hexadecimal(event, name, bytes, size);
}

void event_text(struct json_object *event, const char *name, const char *text) {
    if (text != NULL)
        event_bytes(event, name, text, strlen(text));
}

void event_write(struct event_log *log, struct json_object *event) {
    AUTO_FREE char *line = NULL;
    int flags = JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE;
    int size = asprintf(&line, "%s\n", json_object_to_json_string_ext(event, flags));
    /* A test that waits for the line says so; there is nobody else to tell. */
    if (size > 0 && write(log->fd, line, (size_t)size) != size)
        perror("iotcore: events");
    json_object_put(event);
}

#include "ctl/in-force.h"

#include "ctl/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 1 if there was another one, 0 at the end, or a negative errno. */
static int read_next(sd_bus_message *reply, struct in_force *settings) {
    const char *section, *key, *value, *file;
    uint32_t line;
    int r = sd_bus_message_read(reply, "(ssssu)", &section, &key, &value, &file, &line);
    if (r <= 0)
        return r;
    struct in_force_entry *more = realloc(settings->entries, (settings->count + 1) * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    settings->entries = more;
    struct in_force_entry *entry = &more[settings->count++];
    *entry = (struct in_force_entry){strdup(section), strdup(key), strdup(value)};
    return entry->section != NULL && entry->key != NULL && entry->value != NULL ? 1 : -ENOMEM;
}

int in_force_read(sd_bus *bus, struct in_force *ret, sd_bus_error *error) {
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, &reply, error, "GetConfiguration", "");
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ssssu)");
    while (r > 0)
        r = read_next(reply, ret);
    return r;
}

void in_force_clear(struct in_force *settings) {
    for (size_t i = 0; i < settings->count; i++) {
        free(settings->entries[i].section);
        free(settings->entries[i].key);
        free(settings->entries[i].value);
    }
    free(settings->entries);
    *settings = (struct in_force){0};
}

const char *in_force_value(const struct in_force *settings, const char *section, const char *key) {
    for (size_t i = settings->count; i-- > 0;)
        if (strcmp(settings->entries[i].section, section) == 0 && strcmp(settings->entries[i].key, key) == 0)
            return settings->entries[i].value;
    return "";
}

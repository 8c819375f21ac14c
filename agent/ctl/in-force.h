/* The settings that are in force, as the daemon tells them. */
#pragma once

#include <stddef.h>

#include <systemd/sd-bus.h>

struct in_force_entry {
    char *section, *key, *value;
};

struct in_force {
    struct in_force_entry *entries; /* as GetConfiguration has them */
    size_t count;
};

/* Asks the daemon. Returns 0 or a negative errno, with details in *error; *ret is to be cleared in any case. */
int in_force_read(sd_bus *bus, struct in_force *ret, sd_bus_error *error);

void in_force_clear(struct in_force *settings);
#define AUTO_IN_FORCE __attribute__((cleanup(in_force_clear)))

/* The value, "" if there is none. Borrowed. */
const char *in_force_value(const struct in_force *settings, const char *section, const char *key);

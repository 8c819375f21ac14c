/* D-Bus: the name org.enrolld1, the object /org/enrolld1, the interface org.enrolld1.Agent. */
#pragma once

#include "daemon/status.h"

#include <systemd/sd-event.h>

#include <stdint.h>
#include <stdio.h>

struct agent;
struct bus;

/* Connects to the system bus and puts up the object; the name comes with bus_take_name(). Once the bus is gone, or the
 * name is lost, the event loop ends with 1. Returns 0 or a negative errno. */
int bus_open(sd_event *event, struct agent *agent, struct bus **ret);
struct bus *bus_close(struct bus *bus);

/* -EEXIST if another daemon has it. */
int bus_take_name(struct bus *bus);

/* Emits PropertiesChanged for what differs from the last call; calls on NULL do nothing. */
void bus_publish(struct bus *bus, const struct status *status);
void bus_job_removed(struct bus *bus, uint32_t id, const char *verb, const char *result, const char *detail);
void bus_identity_changed(struct bus *bus, uint32_t generation);

/* Prints the object as introspection XML, without any bus. */
int bus_introspect(FILE *stream);

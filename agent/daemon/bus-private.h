/* What bus.c (properties, signals, the connection), bus-methods.c and bus-caller.c share. */
#pragma once

#include "daemon/agent.h"
#include "daemon/bus.h"

#include <systemd/sd-bus.h>

#define BUS_ERROR "org.enrolld1.Error."

struct bus {
    sd_bus *bus;
    struct agent *agent;
    struct status published; /* what the properties say */
};

/* Sets AccessDenied and returns a negative number if the caller may only read. */
int bus_authorize(sd_bus_message *message, sd_bus_error *error);
/* The same, but whoever may use the identity may call it, too. */
int bus_authorize_user(sd_bus_message *message, sd_bus_error *error);

/* The methods of the interface; bus-methods.c has the errors of each. data: the struct bus. */
int bus_enroll(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_renew(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_create_request(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_get_request(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_get_certificate(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_import(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_import_certificate(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_list_plugins(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_check(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_cancel(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_diagnose(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_get_diagnosis(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_forget(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_reload(sd_bus_message *message, void *data, sd_bus_error *error);
int bus_get_configuration(sd_bus_message *message, void *data, sd_bus_error *error);

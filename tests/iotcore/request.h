/* A request of the provisioning API from its arrival to its reply, faults and events included. */
#pragma once

#include "broker.h"
#include "standin.h"

/* Gives back what the broker's callback has to. */
int request_handle(struct standin *standin, const struct connection *connection, const struct topic_request *request,
                   const struct mosquitto_evt_message *message);

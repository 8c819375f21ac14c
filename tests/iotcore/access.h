/* Who may connect, publish, subscribe and receive: each function gives back what the broker's callback has to. */
#pragma once

#include "broker.h"
#include "standin.h"

/* A CONNECT: the certificate must be registered, ACTIVE and not expired, and its policies must allow iot:Connect. One
 * of a registered authority may be registered by it. */
int access_connect(struct standin *standin, struct mosquitto *client, const char *user_name);

/* A PUBLISH, a filter of a SUBSCRIBE or UNSUBSCRIBE, or a delivery. */
int access_check(struct standin *standin, const struct mosquitto_evt_acl_check *check);

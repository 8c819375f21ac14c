/* Replies of the provisioning API on their way to the device that asked. */
#pragma once

#include "standin.h"

/* Sends the payload after the delay to the device, and to no other: only if it is still the same connection (client id
 * and certificate), has subscribed to the topic and may receive it. Says so in the event "reply". */
void reply_send(struct standin *standin, const struct identity *identity, const char *topic, const char *payload,
                unsigned delay_milliseconds);

/* The connection ends with the next turn of the broker's loop; a reply can't do that inside a callback about it. */
void reply_close(struct standin *standin, const struct identity *identity);

/* Sends what is due. */
void reply_tick(struct standin *standin);
void reply_clear(struct standin *standin);

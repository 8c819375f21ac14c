/* The proof that a certificate may publish, on a connection that it was accepted for. */
#pragma once

#include "worker/mqtt.h"

/* Publishes {"certificateId": ..., "thingName": ...} with QoS 1, and checks what the PUBACK says. thing_name: "" for
 * none. A certificate that connects but may not publish is class `denied`, and the message says what to look at; a
 * connection that is closed in place of the PUBACK is `network` (mqtt_publish()). */
int prove_publish(struct mqtt *mqtt, const char *topic, const char *certificate_id, const char *thing_name,
                  struct failure *failure);

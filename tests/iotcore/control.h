/* AWS IoT's control plane, as far as an operator needs it who registers authorities and certificates: the REST API that
 * `aws iot ... --endpoint-url=http://127.0.0.1:PORT` speaks, and Publish of `aws iot-data`. Each call is told in the
 * event "control". */
#pragma once

#include "standin.h"

#include <stdbool.h>
#include <stdint.h>

struct control;

/* Listens on that port, 0 for any free one, and writes its number into the file control-port of the state directory.
 * NULL with errno. */
struct control *control_start(struct standin *standin, const char *state, uint16_t port);

/* The port that it listens on, 0 without a control plane. */
uint16_t control_port(const struct control *control);

/* Answers the call that waits, if there is one; with busy also those that come soon after it. */
void control_tick(struct control *control, bool busy);

struct control *control_stop(struct control *control);

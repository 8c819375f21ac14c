/* The wall clock, by which certificates are judged. */
#pragma once

#include "common/channel.h"

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_TEXT_SIZE 24

/* False while nobody has set it yet. The daemon says so with the job, since the sandbox of a worker lets nobody near
 * the clock (ProtectClock= in systemd.exec(5)); by hand the kernel is asked. */
bool clock_is_synchronised(const struct message *job);

/* Seconds since the epoch as "2026-01-31T12:00:00Z". */
void clock_print(int64_t seconds, char text[CLOCK_TEXT_SIZE]);

/* The wall clock, by which certificates are judged. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_TEXT_SIZE 24

/* False while nobody has set it yet, as far as the kernel knows (adjtimex(2)). */
bool clock_is_synchronised(void);

/* Seconds since the epoch as "2026-01-31T12:00:00Z". */
void clock_print(int64_t seconds, char text[CLOCK_TEXT_SIZE]);

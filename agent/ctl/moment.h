/* Moments and spans of time for people. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MOMENT_TEXT_MAX 48

/* Microseconds since the epoch. */
uint64_t moment_now(void);

/* Writes "2026-11-22 14:03:22 CET" (local time); "an unknown time" if the calendar has no such year. Returns text. */
const char *moment_format(uint64_t moment, char *text, size_t size);

/* Writes the distance from now rounded down to what matters: "in 42 s", "5 min ago", "in 23 years". Returns text. */
const char *moment_distance(uint64_t moment, uint64_t now, char *text, size_t size);

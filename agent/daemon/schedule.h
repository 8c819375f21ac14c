/* When the next attempt comes: pure arithmetic, so that a fleet that returns from a power cut spreads itself out. */
#pragma once

#include "common/settings.h"

/* Full jitter: uniform in [0, min(cap, base * 2^(attempt - 1))] by `random`, which is any number with all its 64 bits
 * random; but at least min(base, 1 s), at least what the server asked for, and never above the larger of cap and that.
 * attempt counts from 1: how many attempts have failed in a row. */
uint64_t schedule_delay_ms(const struct retry_range *range, uint32_t attempt, uint32_t retry_after_s, uint64_t random);

/* A time that was written to disk, in microseconds of CLOCK_REALTIME. The clock may be behind since, by years on a
 * board that keeps no time, and such a board must not wait longer for it: never further away than schedule_delay_ms()
 * could give after so many attempts, with what the server has asked for. */
uint64_t schedule_clamp(const struct retry_range *range, uint32_t attempt, uint32_t retry_after_s, uint64_t next_usec,
                        uint64_t now_usec);

/* True for the classes that do not heal by themselves; they are retried all the same. */
bool schedule_needs_operator(enum failure_class class);

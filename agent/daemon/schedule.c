#include "daemon/schedule.h"

#define FLOOR_MS 1000

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* min(cap, base * 2^(attempt - 1)) without overflow */
static uint64_t grow(const struct retry_range *range, uint32_t attempt) {
    uint64_t limit = smaller(range->base_ms, range->cap_ms);
    for (uint32_t i = 1; i < attempt && limit < range->cap_ms; i++)
        limit = limit > range->cap_ms / 2 ? range->cap_ms : limit * 2;
    return limit;
}

/* The remainder is not exactly uniform, but limits are below 2^35, so that no one will ever see it. */
uint64_t schedule_delay_ms(const struct retry_range *range, uint32_t attempt, uint32_t retry_after_s, uint64_t random) {
    uint64_t limit = grow(range, attempt);
    uint64_t lowest = larger(smaller(range->base_ms, FLOOR_MS), (uint64_t)retry_after_s * 1000);
    uint64_t highest = larger(range->cap_ms, (uint64_t)retry_after_s * 1000);
    return smaller(larger(random % (limit + 1), lowest), highest);
}

uint64_t schedule_clamp(const struct retry_range *range, uint32_t attempt, uint32_t retry_after_s, uint64_t next_usec,
                        uint64_t now_usec) {
    return smaller(next_usec, now_usec + larger(grow(range, attempt), (uint64_t)retry_after_s * 1000) * 1000);
}

bool schedule_needs_operator(enum failure_class class) {
    switch (class) {
    case FAILURE_DENIED:
    case FAILURE_INVALID:
        return true;
    case FAILURE_NETWORK:
    case FAILURE_CLOUD_BUSY:
    case FAILURE_NOT_YET:
    case FAILURE_CLOCK:
    case FAILURE_TPM:
    case FAILURE_INTERNAL:
        return false;
    }
    return false;
}

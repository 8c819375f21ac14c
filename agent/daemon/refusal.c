#include "daemon/refusal.h"

#include "daemon/record.h"

#include <errno.h>
#include <stdio.h>

void refusal_format(const struct refusal *refusal, char text[REFUSAL_TEXT_MAX]) {
    snprintf(text, REFUSAL_TEXT_MAX, "generation=%u\nsince=%llu\nlasted=%llu\n", refusal->generation,
             (unsigned long long)refusal->since_usec, (unsigned long long)refusal->lasted_usec);
}

int refusal_parse(const char *text, struct refusal *ret) {
    uint64_t generation, since_usec, lasted_usec;
    if (record_number(text, "generation", UINT32_MAX, &generation) < 0 || generation == 0 ||
        record_number(text, "since", UINT64_MAX, &since_usec) < 0 ||
        record_number(text, "lasted", UINT64_MAX, &lasted_usec) < 0)
        return -EBADMSG;
    *ret = (struct refusal){(uint32_t)generation, since_usec, lasted_usec};
    return 0;
}

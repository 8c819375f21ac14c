#include "pace.h"

#define LATER_MS 4000

uint32_t pace_pause_ms(bool by_lambda, uint32_t waited_s, unsigned refusals) {
    static const uint32_t first_ms[] = {1500, 2000, 4000, 8000, 15000, 30000};
    const unsigned by_template = 4, every = sizeof first_ms / sizeof *first_ms;
    if (waited_s > 0)
        return refusals == 1 ? LATER_MS : 0;
    return refusals >= 1 && refusals <= (by_lambda ? every : by_template) ? first_ms[refusals - 1] : 0;
}

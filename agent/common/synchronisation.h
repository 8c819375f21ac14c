/* Whether somebody has set the wall clock. */
#pragma once

#include <stdbool.h>

/* False while nobody has set it yet, as far as the kernel knows, or if this process may not ask (adjtimex(2)). */
bool synchronisation_is_there(void);

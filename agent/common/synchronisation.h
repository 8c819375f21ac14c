/* Whether somebody has set the wall clock. */
#pragma once

#include <stdbool.h>

/* By the file `synchronized` in the directory, if one is given. NULL: by what this system has to tell it, systemd's
 * file (systemd-timesyncd.service(8)) or the kernel, which a daemon like chronyd or ntpd tells (adjtimex(2)). False
 * while nobody has set it yet, or if this process may not ask. */
bool synchronisation_is_there(const char *directory);

/* What a worker gives up before the first byte from the network, whoever started it. The units take away far more;
 * this is what holds without them too. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>

/* At the very start: no core dumps, not readable by other processes of the user, no new privileges, private files. */
int lockdown_begin(struct failure *failure);

/* Before the first byte that the cloud has made: no other program can be started, no other process looked into, no
 * kernel module, mount, key ring, BPF or performance event reached; without `network`
 * no internet socket made either. */
int lockdown_finish(bool network, struct failure *failure);

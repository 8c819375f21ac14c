/* `enrollctl request`. */
#pragma once

#include "ctl/bus.h"

/* Has the device key made, unless it is there already, and prints a certificate signing request for it in PEM, nothing
 * else, to stdout. subject: "" for the configured one. */
enum exit_code request_run(sd_bus *bus, const char *subject);

/* When a device that waits for its registration connects again within one attempt. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds from refusal number `refusals` (1, 2, ...) of this attempt to the next CONNECT; 0: the attempt ends, and
 * the [Retry] table says when there is another one. waited_s: 0 in the first attempt.
 *
 * The first attempt is for the device on whose registration the cloud is working right now, a template for seconds, a
 * Lambda (`by_lambda`) for some more. Each later CONNECT of a certificate that is not active is one more registration
 * event, and with JITR one more call of the Lambda (AWS IoT Developer Guide, "Just-in-time registration"): two of them
 * must do, the one that sets a mended cloud to work, and the one that sees the result. */
uint32_t pace_pause_ms(bool by_lambda, uint32_t waited_s, unsigned refusals);

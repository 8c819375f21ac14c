/* When is an identity refused? Who answers so on the way to the cloud can be anybody, and what follows (RefusedSince,
 * OnRefused=enroll) may cost a certificate: only what the cloud itself has said in the TLS session counts. Pure. */
#pragma once

#include "common/failure.h"

#include <stdbool.h>

/* True if the failure of a CONNECT (mqtt_connect()) is the cloud's refusal of the identity, beyond doubt: a CONNACK or
 * a DISCONNECT that says so, or an alert about the client's certificate inside the session, to a client id that was
 * accepted before. Never: what ends a connection without a word or outside of TLS (FIN, RST, close_notify, silence, an
 * alert of the handshake), a busy cloud or a quota, and the refusal of a client id that the policy may never have
 * allowed. */
bool refusal_is_beyond_doubt(const struct failure *failure, bool was_accepted);

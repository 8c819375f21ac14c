#include "worker/relay.h"

#include <errno.h>
#include <string.h>

int relay_fail(const struct relay *relay, const char *peer, const char *awaited, const char *step,
               struct failure *failure) {
    const struct tls *tls = relay_tls(relay);
    switch (relay_ended(relay)) {
    case RELAY_ALERT:
        return failure_set(
            failure, tls_was_refused(tls) ? FAILURE_DENIED : FAILURE_NETWORK, step, "%s %s: TLS alert %s", peer,
            tls_was_refused(tls) ? "refused the client certificate" : "ended the connection", tls_alert_text(tls));
    case RELAY_CUT:
        return failure_set(failure, FAILURE_NETWORK, step, "%s: the connection broke before the %s: %s", peer, awaited,
                           relay_error(relay) == -EPIPE ? "closed without a word" : strerror(-relay_error(relay)));
    case RELAY_FLOODED:
        return failure_set(failure, FAILURE_NETWORK, step, "%s sent more than %d bytes", peer, RELAY_RECEIVED_MAX);
    case RELAY_REFUSED:
        return failure_set(failure, FAILURE_INTERNAL, step, "another process connected to the private socket");
    case RELAY_CLOSED:
    case RELAY_RUNNING:
        break;
    }
    return failure_set(failure, FAILURE_NETWORK, step, "%s closed the connection before the %s", peer, awaited);
}

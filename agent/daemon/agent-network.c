/* Attempts that there is a new reason for: a network that has changed, or a clock that was set. */
#include "daemon/agent-private.h"

#include "daemon/log.h"

#include <string.h>

/* Between two attempts that are brought forward. */
#define BROUGHT_FORWARD_QUIET_USEC 30000000ULL

bool agent_lacks_network(enum failure_class class, uint32_t retry_after_s) {
    return class == FAILURE_NETWORK && retry_after_s == 0;
}

static bool lack_network(const struct attempts *attempts) {
    return attempts->retry.attempts > 0 && agent_lacks_network(attempts->retry.class, attempts->retry.asked_s);
}

bool agent_renewal_lacks_network(const struct agent *agent) {
    return provisioned_renewal_waits(agent) && lack_network(&agent->renewals);
}

void agent_bring_forward(struct agent *agent, bool attempt, uint64_t wait_usec, const char *why) {
    struct status *status = &agent->status;
    uint64_t boottime = agent_boottime_usec(), now = agent_now_usec();
    bool provisioned = status->state == STATE_PROVISIONED;
    bool is_coming = agent->quiet_until_usec > boottime + BROUGHT_FORWARD_QUIET_USEC;
    if (agent->quiet_until_usec > boottime + wait_usec)
        wait_usec = agent->quiet_until_usec - boottime;
    attempt = attempt && now + wait_usec < status->next_attempt_usec;
    if (!attempt && (is_coming || !provisioned || !provisioned_waits_for_network(agent, boottime + wait_usec)))
        return;
    agent->quiet_until_usec = boottime + wait_usec + BROUGHT_FORWARD_QUIET_USEC;
    log_message(LOG_INFO, "%s: the next attempt comes in %.1f s", why, (double)wait_usec / 1e6);
    if (attempt) {
        status->next_attempt_usec = now + wait_usec;
        agent->next_boottime_usec = boottime + wait_usec;
        agent_move_record(agent, status->next_attempt_usec);
    }
    agent_arm_timer(agent, provisioned ? 0 : wait_usec);
    bus_publish(agent->bus, status);
}

/* What began after the change has seen the network as it is. */
uint64_t agent_brought_forward(const struct agent *agent, uint64_t due_usec, uint64_t begun_usec) {
    uint64_t forward_usec = agent->quiet_until_usec - BROUGHT_FORWARD_QUIET_USEC;
    return begun_usec < forward_usec && forward_usec < due_usec ? forward_usec : due_usec;
}

/* What a changed network may have mended is tried soon: not at once, for the rest of it comes after the first address,
 * and a fleet whose provider is back must spread; and seldom, as some networks change all the time. What the cloud has
 * answered is no matter of the network. */
static void on_network_changed(void *data) {
    struct agent *agent = data;
    const struct settings *settings = agent->configuration != NULL ? &agent->settings : NULL;
    bool waits = agent->status.state == STATE_PROVISIONED
                     ? agent_renewal_lacks_network(agent)
                     : !agent_has_identity(agent) && lack_network(&agent->attempts);
    agent_bring_forward(agent, waits, attempts_soon_ms(settings) * 1000, "the network has changed");
}

void agent_watch_network(struct agent *agent) {
    const struct agent_environment *environment = &agent->environment;
    int r = environment->route;
    if (r >= 0)
        r = network_new(environment->event, environment->route, on_network_changed, agent, &agent->network);
    if (r < 0)
        log_message(LOG_WARNING, "changes of the network are not seen: %s", strerror(-r));
}

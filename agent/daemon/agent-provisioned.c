/* What is done while an identity is in use: its successor in time, and a look at it when there is a reason. One job at
 * a time, as always; the state stays `provisioned`, or is `renewing`. */
#include "daemon/agent-private.h"

#include "common/step.h"
#include "daemon/log.h"
#include "daemon/runtime.h"

#include <stdio.h>
#include <string.h>

/* Where nothing tells when it is over: between looks at a clock or an identity that may have changed. */
#define LOOK_AGAIN_USEC 60000000ULL
#define ACCURACY_USEC 1000000ULL /* of a timer for weeks from now */
#define SHOWN_USEC 1000000ULL    /* a date is not told anew for less */

/* --- into use, and out of it --- */

/* A commit whose last fsync failed has changed the identity all the same, and is told by the check that comes next. */
static void announce_identity(struct agent *agent) {
    if (agent->status.generation == agent->known_generation)
        return;
    agent->known_generation = agent->status.generation;
    bus_identity_changed(agent->bus, agent->known_generation);
}

/* What failed before this start, if that is not made good yet. */
static void show_renewal_before(struct agent *agent) {
    const struct retry *retry = &agent->renewals.retry;
    struct failure failure;
    if (retry->attempts == 0)
        return;
    failure_record(&failure, retry->class, STEP_WORKER, "attempt %u to renew, before this start of enrolld, failed",
                   retry->attempts);
    agent_set_error(agent, &failure);
}

static void show_identity(struct agent *agent, const struct identity *identity) {
    struct status *status = &agent->status;
    status->identity = *identity;
    memcpy(status->method, identity->method, sizeof status->method);
    status->generation = store_current(agent->environment.store);
    status->credential_directory = agent->environment.credential_directory;
}

/* Whether it changed with its number, or only a file of it. */
void agent_tell_files_changed(struct agent *agent) {
    runtime_write_generation(agent->environment.runtime, agent->status.generation);
    bus_identity_changed(agent->bus, agent->status.generation);
}

/* One that was in use already, and still is. */
static void keep_identity(struct agent *agent, const struct identity *identity) {
    agent->attempts.local = 0;
    status_make_good(&agent->status, agent->look_told_usec);
    show_identity(agent, identity);
    if (prove_goes_on(agent))
        return;
    agent_end_operation(agent, "done", "");
    agent_arm_timer(agent, 0);
}

void agent_succeed(struct agent *agent, const struct identity *identity) {
    struct status *status = &agent->status;
    uint32_t generation = store_current(agent->environment.store);
    if (status->state == STATE_PROVISIONED && status->generation == generation) {
        keep_identity(agent, identity);
        return;
    }
    bool is_new = generation != agent->known_generation;
    if (is_new) /* those on record were to renew another one */
        attempts_forget(&agent->renewals);
    attempts_forget(&agent->attempts);
    store_drop_all_kept(agent->environment.store);
    methods_done(&agent->methods, identity->method);
    store_note_certificate(agent->environment.store, identity->not_before_usec);
    memset(&status->error, 0, sizeof status->error);
    show_renewal_before(agent);
    show_identity(agent, identity);
    if (is_new)
        renew_keep_distance(agent);
    prove_reset(agent);
    retire_reset(agent);
    status->attempt = agent->renewals.retry.attempts;
    log_event(LOG_EVENT_PROVISIONED, NULL, LOG_NOTICE, "provisioned: thing \"%s\", certificate %s, generation %u",
              identity->thing_name, identity->certificate_id, generation);
    runtime_set_provisioned(agent->environment.runtime, generation);
    if (!agent->settings.keep_claim) /* at each start, too: power may have failed before it was discarded */
        runtime_set_discard_claim(agent->environment.runtime);
    agent_set_state(agent, STATE_PROVISIONED);
    announce_identity(agent);
    agent_end_operation(agent, "done", "");
    agent_arm_timer(agent, 0);
}

void agent_hide_identity(struct agent *agent) {
    struct status *status = &agent->status;
    memset(&status->identity, 0, sizeof status->identity);
    if (agent->configuration != NULL)
        status_set_text(status->identity.endpoint, sizeof status->identity.endpoint, agent->settings.endpoint);
    status->generation = 0;
    status->credential_directory = "";
    status->refused_since_usec = 0;
    prove_drop(agent);
    status->renew_after_usec = 0;
    status_set_text(status->renew_rule, sizeof status->renew_rule, "");
    status_set_text(status->renew_hindrance, sizeof status->renew_hindrance, "");
    agent->date_timer = sd_event_source_disable_unref(agent->date_timer);
    agent->warned_days = 0;
}

void agent_lose_identity(struct agent *agent, const struct failure *failure, const char *certificate_id) {
    char detail[DETAIL_MAX];
    agent_describe(failure, detail);
    agent->lost_generation = store_current(agent->environment.store);
    snprintf(agent->lost_certificate_id, sizeof agent->lost_certificate_id, "%s", certificate_id);
    agent_hide_identity(agent);
    log_event(LOG_EVENT_LOST, failure, LOG_ERR, "identity %u is lost: %s", agent->lost_generation, detail);
    agent_set_error(agent, failure);
}

/* --- when --- */

/* The name that no other device has. */
static const char *device_of(const struct identity *identity) {
    return identity->serial_number[0] != '\0' ? identity->serial_number : identity->certificate_id;
}

static bool date_has_come(const struct agent *agent) {
    uint64_t after = agent->status.renew_after_usec;
    return after != 0 && agent_now_usec() >= after;
}

/* A certificate that was imported while another one is in use is to take its place; and what was begun is brought to an
 * end, whoever has asked for it. */
static bool is_due(const struct agent *agent) {
    if (agent->status.identity.hindrance[0] != '\0')
        return false;
    return agent->status.identity.imported || agent->renewals.retry.attempts > 0 || date_has_come(agent);
}

bool provisioned_renewal_waits(const struct agent *agent) {
    return agent->renewals.retry.attempts > 0 && agent->status.identity.hindrance[0] == '\0';
}

static void make_plan(struct agent *agent) {
    struct status *status = &agent->status;
    const struct identity *identity = &status->identity;
    const struct renewal_dates dates = {identity->not_before_usec, identity->not_after_usec, identity->issued_at_usec,
                                        agent_clock_is_synchronised(agent) ? agent_now_usec() : 0};
    struct renewal_plan plan = renewal_make_plan(&agent->settings, &dates, device_of(identity));
    if (plan.rule == RENEWAL_NEVER)
        status_set_text(status->renew_hindrance, sizeof status->renew_hindrance,
                        "the certificate has no end that is near, and MaxAge= in [Renewal] is not set");
    else
        status_set_text(status->renew_hindrance, sizeof status->renew_hindrance, identity->hindrance);
    if (identity->hindrance[0] != '\0')
        plan = (struct renewal_plan){RENEWAL_NEVER, 0};
    status->renew_after_usec = plan.after_usec;
    status_set_text(status->renew_rule, sizeof status->renew_rule, renewal_rule_name(plan.rule));
    if (provisioned_renewal_waits(agent))
        status->next_attempt_usec = agent->renewals.retry.next_usec;
}

/* Its last second is still one of it (RFC 5280, section 4.1.2.5), and checks count in seconds. */
static uint64_t end_usec(const struct agent *agent) {
    return agent->status.identity.not_after_usec + 1000000;
}

static bool seems_expired(const struct agent *agent) {
    return agent_now_usec() >= end_usec(agent);
}

/* --- duties: when each is due (CLOCK_BOOTTIME, UINT64_MAX: not foreseen), and what it does --- */

static uint64_t look_due_usec(struct agent *agent) {
    return agent->look || seems_expired(agent) ? agent->look_after_usec : UINT64_MAX;
}

/* What has changed outside, or inside of the certificate's dates, a check tells; a clock that nobody has set tells no
 * end, and may be believed a minute later. */
static void look(struct agent *agent) {
    agent->look = false;
    agent->look_after_usec = agent_boottime_usec() + LOOK_AGAIN_USEC;
    agent->operation = agent_next_id(agent);
    agent->verb = VERB_CHECK;
    attempt_check(agent);
}

void provisioned_look(struct agent *agent, uint64_t delay_usec) {
    agent->look = true;
    agent->look_after_usec = agent_boottime_usec() + delay_usec;
    if (agent->status.state == STATE_PROVISIONED && agent->operation == 0)
        agent_arm_timer(agent, 0);
}

/* When the clock is to be believed: 0, not from now on: that is later at each look, be it by 1 us. */
static uint64_t clock_due_usec(struct agent *agent) {
    uint64_t wait = agent_clock_wait_usec(agent);
    if (wait == 0)
        return 0;
    return agent_boottime_usec() + (wait < LOOK_AGAIN_USEC ? wait : LOOK_AGAIN_USEC);
}

static uint64_t renew_due_usec(struct agent *agent) {
    if (!is_due(agent) || seems_expired(agent))
        return UINT64_MAX;
    uint64_t due = agent->next_boottime_usec > agent_boottime_usec() ? 0 : clock_due_usec(agent);
    return due != 0 ? due : agent->next_boottime_usec;
}

static unsigned days_left(const struct agent *agent) {
    return renewal_warning_days(agent->status.identity.not_after_usec, agent_now_usec());
}

static uint64_t warn_due_usec(struct agent *agent) {
    unsigned days = days_left(agent);
    bool told = agent->warned_days != 0 && agent->warned_days <= days;
    if (days == 0 || agent->status.renew_after_usec != 0 || told)
        return UINT64_MAX;
    return clock_due_usec(agent);
}

static void warn_of_end(struct agent *agent) {
    const struct status *status = &agent->status;
    unsigned days = agent->warned_days = days_left(agent);
    log_event(LOG_EVENT_EXPIRES, NULL, LOG_WARNING,
              "certificate %s expires in less than %u day%s, and nothing will renew it: %s",
              status->identity.certificate_id, days, days == 1 ? "" : "s", status->renew_hindrance);
    agent_arm_timer(agent, 0);
}

static const struct {
    uint64_t (*due_usec)(struct agent *agent);
    void (*run)(struct agent *agent);
} duties[] = {
    {look_due_usec, look}, /* first: nothing is done with an identity that is not known */
    {warn_due_usec, warn_of_end},  {prove_due_usec, prove_begin},
    {renew_due_usec, renew_begin}, {retire_due_usec, retire_run},
};

static bool is_foreseen(uint64_t due_usec, uint64_t until_usec) {
    return due_usec > until_usec && due_usec != UINT64_MAX;
}

bool provisioned_waits_for_network(struct agent *agent, uint64_t until_usec) {
    const struct proving *proving = &agent->proving;
    const struct retiring *retiring = &agent->retiring;
    return (proving->no_network && is_foreseen(prove_due_usec(agent), until_usec)) ||
           (retiring->no_network && is_foreseen(retire_due_usec(agent), until_usec));
}

/* --- the wall clock --- */

static uint64_t earlier_but_later_than(uint64_t now, uint64_t a, uint64_t b) {
    return a <= now || (b > now && b < a) ? b : a;
}

static int on_date(sd_event_source *source, uint64_t usec, void *data) {
    (void)source, (void)usec;
    provisioned_turn(data);
    return 0;
}

/* CLOCK_REALTIME: it comes at its hour, also after the system has slept, or the clock was set past it. */
static void arm_date(struct agent *agent) {
    const struct status *status = &agent->status;
    uint64_t now = agent_now_usec();
    uint64_t next = earlier_but_later_than(now, status->renew_after_usec, end_usec(agent));
    next = earlier_but_later_than(now, next, renewal_next_warning_usec(status->identity.not_after_usec, now));
    agent->date_timer = sd_event_source_disable_unref(agent->date_timer);
    if (next <= now)
        return;
    int r = sd_event_add_time(agent->environment.event, &agent->date_timer, CLOCK_REALTIME, next, ACCURACY_USEC,
                              on_date, agent);
    if (r < 0)
        log_message(LOG_ERR, "cannot set a timer: %s", strerror(-r));
}

bool provisioned_knows_identity(const struct agent *agent) {
    return store_current(agent->environment.store) == agent->status.generation;
}

enum agent_answer provisioned_may_be_asked(struct agent *agent, struct failure *failure) {
    if (agent->stopping)
        return ANSWER_BUSY;
    if (!agent_has_identity(agent))
        return ANSWER_NO_IDENTITY;
    if (agent->configuration == NULL && agent_load_configuration(agent, failure) < 0)
        return ANSWER_INVALID_CONFIGURATION;
    return ANSWER_YES;
}

/* What has failed beside renewals, and comes again (CLOCK_BOOTTIME). */
static uint64_t again_usec(struct agent *agent) {
    const struct proving *proving = &agent->proving;
    uint64_t next = agent->look ? agent->look_after_usec : UINT64_MAX;
    uint64_t told = agent->status.error.time_usec; /* 0: nothing has failed */
    if (proving->refusal.generation != 0 || (told != 0 && proving->told_usec == told))
        next = earlier(next, prove_due_usec(agent));
    return agent->retiring.failures > 0 ? earlier(next, retire_due_usec(agent)) : next;
}

/* Where no renewal waits. */
static void show_next(struct agent *agent) {
    struct status *status = &agent->status;
    uint64_t again = again_usec(agent);
    uint64_t date = again != UINT64_MAX ? agent_now_usec() + again - agent_boottime_usec() : 0;
    if (provisioned_renewal_waits(agent) || date - status->next_attempt_usec + SHOWN_USEC < 2 * SHOWN_USEC)
        return;
    status->next_attempt_usec = date;
    bus_publish(agent->bus, status);
}

void provisioned_turn(struct agent *agent) {
    uint64_t next = UINT64_MAX, now = agent_boottime_usec();
    if (agent->status.state != STATE_PROVISIONED || agent->stopping || agent->job != NULL || agent->operation != 0)
        return;
    make_plan(agent);
    bus_publish(agent->bus, &agent->status);
    arm_date(agent);
    network_listen(agent->network, agent_renewal_lacks_network(agent) || provisioned_waits_for_network(agent, 0));
    if (task_waits(agent)) {
        network_pause(agent->network); /* what changes meanwhile counts for what has failed meanwhile */
        task_run(agent);
        return;
    }
    size_t count = provisioned_knows_identity(agent) ? sizeof duties / sizeof *duties : 1;
    for (size_t i = 0; i < count; i++) {
        uint64_t due = duties[i].due_usec(agent);
        if (due <= now) {
            network_pause(agent->network);
            duties[i].run(agent);
            return;
        }
        next = earlier(next, due);
    }
    agent->timer = sd_event_source_disable_unref(agent->timer);
    if (next != UINT64_MAX)
        agent_arm_timer(agent, next - now);
    show_next(agent);
}

/* The state machine from inside: what agent.c (states, what is next), agent-attempt.c (checks and enrolments),
 * agent-provisioned.c (what is due while an identity is in use), agent-renew.c (its successor), agent-prove.c (whether
 * the cloud accepts it), agent-retire.c (what it has replaced), agent-task.c (requests and imports), agent-forget.c,
 * agent-network.c (what brings attempts forward) and agent-clock.c (the wait for the clock) share. Only agent.c writes
 * the state. */
#pragma once

#include "daemon/agent.h"

#include "daemon/attempts.h"
#include "daemon/clock.h"
#include "daemon/job.h"
#include "daemon/methods.h"
#include "daemon/network.h"
#include "daemon/renewal.h"

/* AWS IoT Core accepts one CONNECT per second and client id (quotas, "Connect requests per second per client ID"). */
#define QUIET_USEC 1000000ULL
#define NO_FILES                                                                                                       \
    { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 }
_Static_assert(sizeof((int[])NO_FILES) / sizeof(int) == FILE_ROLE_COUNT, "one for each role");
#define DETAIL_MAX (FAILURE_STEP_MAX + FAILURE_MESSAGE_MAX + 32)

/* What somebody asks for beside the attempts: it comes between two of them. */
struct task {
    uint32_t id; /* 0: none */
    enum job_verb verb;
    bool running;
    int files[FILE_ROLE_COUNT]; /* import: what came with it, until it runs */
    char *subject;              /* request: in place of the configured one, or NULL */
};

/* Whether the cloud accepts the identity in use. Times of CLOCK_BOOTTIME. */
struct proving {
    uint32_t id;            /* of the Check() that waits, 0: none does */
    bool running;           /* the operation is one */
    bool wanted;            /* there is a reason for one, and nobody waits for it */
    bool no_network;        /* which the last one has failed by */
    uint64_t begun_usec;    /* the last one, 0: none has */
    uint64_t again_usec;    /* while it is refused: the next one */
    uint64_t told_usec;     /* the time of LastError that tells of the last one */
    uint64_t refused_usec;  /* the last one was refused then, 0: it was not */
    uint64_t interval_usec; /* ProveInterval= that the next one was reckoned by */
    uint64_t routine_usec;  /* the next one by it */
    uint32_t refusals;      /* in a row since the start */
    struct refusal refusal; /* as on disk */
};

/* That the cloud is told of the certificates that were replaced. */
struct retiring {
    bool running;
    bool made_way;       /* to a Check(), and has not ended by itself since */
    bool no_network;     /* which the last one has failed by */
    uint32_t failures;   /* in a row since the start */
    uint64_t begun_usec; /* CLOCK_BOOTTIME: the last one */
    uint64_t next_usec;  /* the same */
    uint64_t told_usec;  /* the time of LastError that tells of the last one */
};

/* What somebody wants to know, beside all that. */
struct diagnosing {
    uint32_t id; /* 0: nobody does */
    struct job *job;
    bool with_credentials; /* the present worker looks at the methods with credentials */
    sd_event_source *begin;
    char *rows, *new_rows; /* of the last one, and of this one */
    size_t size, new_size;
};

struct agent {
    struct agent_environment environment;
    struct bus *bus;
    struct status status;
    struct configuration *configuration; /* in force; NULL while there is no valid one */
    struct settings settings;            /* of that */
    struct attempts attempts;            /* to enroll */
    struct attempts renewals;
    struct methods methods;
    uint32_t lost_generation;  /* a check said that it can never work again */
    uint32_t known_generation; /* that others know of: in use at the start, or told by IdentityChanged */
    uint32_t last_id;
    uint32_t operation; /* number of the job as D-Bus sees it: one or more workers in turn; 0: none */
    enum job_verb verb; /* of the operation */
    struct job *job;    /* the present worker, of the operation or the task */
    struct task task;
    struct proving proving;
    struct retiring retiring;
    char *request_pem; /* of the last request, NULL for none */
    struct diagnosing diagnosing;
    struct job *listing;
    agent_listed *listed;
    void *listed_data;
    sd_event_source *timer;
    sd_event_source *stop_timer;
    struct network *network;      /* NULL: its changes are not seen */
    uint64_t next_boottime_usec;  /* of the next attempt, in backoff and failed; provisioned: to renew */
    sd_event_source *date_timer;  /* provisioned: the next date of the certificate that matters */
    bool look;                    /* provisioned: the identity is to be checked again */
    uint64_t look_after_usec;     /* CLOCK_BOOTTIME: but not before */
    uint64_t look_told_usec;      /* the time of LastError that tells of the last one */
    unsigned warned_days;         /* of the end of the certificate, 0: not yet */
    char lost_certificate_id[65]; /* of lost_generation, "" if that is not known */
    uint64_t quiet_until_usec;    /* CLOCK_BOOTTIME: until then nothing brings another attempt forward */
    struct clock_watch *clock_watch;
    uint64_t started_usec;        /* CLOCK_BOOTTIME */
    enum clock_trust clock_trust; /* waiting for the clock: as it was told */
    bool clock_was_set;           /* since then, or during the attempt */
    uint64_t enroll_ended_usec;   /* CLOCK_BOOTTIME, 0: none has since the start */
    bool resumed;                 /* this method has gone on with another worker */
    bool resuming;                /* the next worker of this attempt is to be started when the timer ends */
    bool stopping;
};

/* Of two times, UINT64_MAX for never. */
static inline uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* --- agent.c --- */

uint64_t agent_boottime_usec(void);
uint64_t agent_now_usec(void); /* CLOCK_REALTIME */
bool agent_has_identity(const struct agent *agent);

void agent_set_state(struct agent *agent, enum agent_state state);
void agent_set_step(struct agent *agent, const char *step);
void agent_set_error(struct agent *agent, const struct failure *failure);

/* CLOCK_BOOTTIME: a wait goes on while the system sleeps, and does not follow a clock that is set. */
void agent_arm_timer(struct agent *agent, uint64_t delay_usec);

uint32_t agent_next_id(struct agent *agent);
void agent_describe(const struct failure *failure, char detail[DETAIL_MAX]);
void agent_end_operation(struct agent *agent, const char *result, const char *detail);
void agent_begin(struct agent *agent, enum job_verb verb);
/* Starts the worker of the operation that has begun: at once, but enrolments keep a distance even when asked for. */
void agent_start_soon(struct agent *agent);

/* Nobody is shown an identity any more. */
void agent_hide_identity(struct agent *agent);
/* It can never work again here; the id of its certificate, or "". */
void agent_lose_identity(struct agent *agent, const struct failure *failure, const char *certificate_id);
/* A file of the identity in use was replaced. */
void agent_tell_files_changed(struct agent *agent);

/* The time of the next attempt, where it is on record. */
void agent_move_record(struct agent *agent, uint64_t next_usec);

/* An attempt has ended badly, and is logged here and only here. `row`: of the retry table, and what it says about the
 * state; but for a wrong TPM the class of the failure. */
void agent_attempt_failed(struct agent *agent, const struct failure *failure, enum failure_class row, bool canceled);
void agent_succeed(struct agent *agent, const struct identity *identity);

int agent_load_configuration(struct agent *agent, struct failure *failure);

/* Derives from the disk what comes next: a look at the identity at once, an enrolment when its time has come. */
void agent_resume(struct agent *agent);

bool agent_has_staged(const struct agent *agent);

/* --- agent-diagnose.c --- */

/* True if the job of that number was such a one, and has ended now. */
bool diagnosing_cancel(struct agent *agent, uint32_t id);
void diagnosing_clear(struct agent *agent);

/* --- agent-attempt.c --- */

/* Whether the section of a method names a credential: these are given to enrolld-claim@.service alone, so that one that
 * cannot be opened (systemd then starts no unit that has it) stops no method that does without. */
bool attempt_needs_credentials(const struct agent *agent, const char *method);

void attempt_check(struct agent *agent);
void attempt_enroll(struct agent *agent);
/* Goes on with another worker, or the next method. */
void attempt_continue(struct agent *agent);
/* A worker has ended that was to bring a new identity, by an enrolment or a renewal. */
void attempt_take_identity(const struct job_outcome *outcome, void *data);

/* Starts the one worker that there is at a time. Takes the files, also on failure. */
int agent_start_worker(struct agent *agent, struct job_request *request, int files[FILE_ROLE_COUNT],
                       void (*ended)(const struct job_outcome *outcome, void *data), struct failure *failure);

/* Its outcome is here. True if it counts: not while the daemon is going away. */
bool agent_take_worker(struct agent *agent);

/* --- agent-network.c --- */

/* From the start on: sees it when the network changes. */
void agent_watch_network(struct agent *agent);
/* Has the next attempt (to enrol, or to renew) come after this wait, if that is earlier, and what else waits for the
 * network; seldom, as what is behind it may happen all the time. */
void agent_bring_forward(struct agent *agent, bool attempt, uint64_t wait_usec, const char *why);
/* When that is due which was to come at `due` and has begun last at `begun`, if it was brought forward since. */
uint64_t agent_brought_forward(const struct agent *agent, uint64_t due_usec, uint64_t begun_usec);
/* What has failed, and is tried again: a new network may help. Not where a server has said when to come again. */
bool agent_lacks_network(enum failure_class class, uint32_t retry_after_s);
/* The renewals that wait for it. */
bool agent_renewal_lacks_network(const struct agent *agent);

/* --- agent-provisioned.c --- */

/* Begins what is due, if there is nothing that runs, else comes back when something will be. For timers: it starts
 * workers. */
void provisioned_turn(struct agent *agent);
/* False after a commit that was seen to fail and is in force all the same, until a look at it tells what it is. */
bool provisioned_knows_identity(const struct agent *agent);
/* What Renew() and Check() need first: YES; BUSY, NO_IDENTITY, or INVALID_CONFIGURATION with its failure. */
enum agent_answer provisioned_may_be_asked(struct agent *agent, struct failure *failure);
/* One has failed, and is tried again. */
bool provisioned_renewal_waits(const struct agent *agent);
/* Whether a proof or a retirement has failed for want of a network, and the next one is foreseen, but later than that.
 */
bool provisioned_waits_for_network(struct agent *agent, uint64_t until_usec);
/* Has the identity in use checked again after that wait. */
void provisioned_look(struct agent *agent, uint64_t delay_usec);

/* --- agent-renew.c --- */

void renew_begin(struct agent *agent);
void renew_run(struct agent *agent);
int renew_start_worker(struct agent *agent, struct failure *failure);
/* After a new identity: not another one at once, whatever its dates say. */
void renew_keep_distance(struct agent *agent);
void renew_checkpoint_name(const struct agent *agent, char name[STORE_KEPT_NAME_MAX]);
/* For agent_attempt_failed(). */
void renew_failed(struct agent *agent, const struct failure *failure, enum failure_class row, bool canceled);

/* --- agent-prove.c --- */

/* Another identity is in use, or this program has started. */
void prove_reset(struct agent *agent);
/* Who waits for a proof is told that there is no identity any more. */
void prove_drop(struct agent *agent);
/* There is a reason for a proof, as soon as one may be. */
void prove_soon(struct agent *agent);
uint64_t prove_due_usec(struct agent *agent);
void prove_begin(struct agent *agent);
/* The identity in use was checked; true if it is proven now, as the same operation. */
bool prove_goes_on(struct agent *agent);
/* True if that Check() has waited, and does not any more. */
bool prove_cancel(struct agent *agent, uint32_t id);
/* True if the cloud has refused the identity for so long that it was given up (OnRefused=enroll). */
bool prove_gave_up(const struct agent *agent);

/* --- agent-retire.c --- */

/* Another identity is in use, or this program has started. */
void retire_reset(struct agent *agent);
uint64_t retire_due_usec(struct agent *agent);
void retire_run(struct agent *agent);
/* Something else is to begin, and does not wait. */
void retire_make_way(struct agent *agent);
/* The same for a Check(), which whoever may ask may ask for without end: once, then it waits for this. */
void retire_make_way_once(struct agent *agent);
/* The worker says that the cloud knows of one. */
void retire_told(const char *certificate_id, void *data);

/* --- agent-clock.c --- */

/* How long something that trusts the clock still has to wait for it, perhaps CLOCK_WITHOUT_END; 0: it need not. */
uint64_t agent_clock_wait_usec(const struct agent *agent);

/* True if an enrolment that is due must wait for the clock: the state is waiting-clock then, and the timer is armed. */
bool agent_clock_holds(struct agent *agent);
/* True if the clock is wrong for certain, and not even who asks for it can have an enrolment. */
bool agent_clock_refuses(const struct agent *agent, struct failure *failure);
/* What workers are told. */
bool agent_clock_is_synchronised(const struct agent *agent);
/* The clock was set: an identity that had expired by that of before need not have by that of now. True if it is looked
 * at. */
bool agent_clock_look_at_lost(struct agent *agent);
/* From the start on: sees it when the clock is set. */
void agent_clock_watch(struct agent *agent);

/* --- agent-task.c --- */

/* True if one waits for its turn. */
bool task_waits(const struct agent *agent);
void task_run(struct agent *agent);
/* Ends one that waits. */
void task_cancel(struct agent *agent);
/* Ends one, if there is any, whose worker is no more. */
void task_drop(struct agent *agent, const struct failure *failure);
/* Answers who waits for the list of methods, before the agent goes. */
void task_end_listing(struct agent *agent);

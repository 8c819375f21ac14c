/* A daemon as in agent-world.h, with an identity in use whose dates the test chooses, and clocks that the test moves.
 * Linked with RENEWAL_WORLD_WRAP. */
#pragma once

#include "agent-world.h"

#define DAY 86400LL

/* The wall clock of the code under test is so far ahead of this machine's, which no test may set (ld(1), --wrap). */
extern int64_t ahead_s;
/* As on a slow machine: between two readings of its clock time has passed. */
extern long reading_takes_ns;

/* What chance brings, in the code under test; from begin() on a wait of up to 20 days takes nearly as long. */
#define RANDOM_NUMBER (20 * DAY * 1000 - 1)
extern uint64_t random_number;

/* MESSAGE_ID= of what is logged. */
#define ID_EXPIRES "216fad5a0fa945a781056f834cce7ea2"
#define ID_RENEWAL_FAILED "d5779f6a26ca412eb50a56422de299dd"
#define ID_REFUSED "fbec7a67b83947de8ac84905ff55a432"
#define ID_NOT_RETIRED "6e13cc6506394f10ab4b893555772099"

/* How many entries with that MESSAGE_ID the journal has got since begin(), and the fields of the last one, a line each;
 * "" if there is none. */
unsigned journal_count(const char *message_id);
const char *journal_last(const char *message_id);
void journal_forget(void);

/* What a check tells, from now on; dates in days from now. */
void set_fact(const char *key, const char *value);
void set_date(const char *key, int64_t days);
/* Of the certificate, which was put into use when it was made. */
void set_dates(int64_t begin_days, int64_t end_days);
void set_workers(const char *list);

/* The wall clock is set: the agent is told, as the kernel does. */
void set_clock(int64_t days);
/* Time passes, or the system sleeps so long: for CLOCK_REALTIME and CLOCK_BOOTTIME. Nobody is told. */
void pass(int64_t seconds);

/* What the kernel tells of the network from the next start on: RTM_NEWADDR ... */
void connect_kernel(void);
void tell(unsigned short type);

/* An identity that is valid for the coming year is in use. */
void begin(const char *configuration);
/* Without a word before; the record of runs begins anew. */
void restart(const char *workers);
void end(void);

/* All that is to be done at this moment, and what runs comes to its end (but "hold"). */
void settle(void);
void run_for_a_moment(void);
/* How often a worker has run with that verb. */
unsigned count_runs(const char *verb);
void forget_runs(void);

bool is_second(const struct status *status);
bool has_failed(const struct status *status);
bool has_failed_twice(const struct status *status);
bool is_renewing(const struct status *status);
bool is_holding(const struct status *status);
bool is_quiet(const struct status *status);

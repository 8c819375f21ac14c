/* Where a worker's words go: over the channel to the daemon, or to a person's terminal. */
#pragma once

#include "common/channel.h"
#include "common/failure.h"

#include <stdbool.h>
#include <stdio.h>

/* -1: no channel, a person reads. */
void report_open(int channel);

/* Where a person reads steps and notes, instead of standard output. */
void report_print_on(FILE *stream);

bool report_has_channel(void);

void report_step(const char *step);

/* The same step goes on: it failed for now and is asked again. A refusal is told as class `not-yet`: it may pass. */
void report_refusal(const struct failure *failure);

/* Something of that step that is worth a line in the log. */
void report_note(const char *step, const char *text);

/* The cloud knows that this certificate is replaced. */
void report_retired(const char *certificate_id);

/* Hands a checkpoint over (FILE_CHECKPOINT, or FILE_STAGED for what is staged) and waits until it is durable. Where a
 * person reads only what is staged is kept, as report_keep_staged() says. Class `internal`: it could not be stored. */
int report_checkpoint(enum file_role role, const char *text, size_t size, struct failure *failure);

/* Where a person reads: the file that keeps what is staged. Borrowed. */
void report_keep_staged(const char *path);

/* The result of an enroll that another worker is to go on with. Returns 0 or a negative errno. */
int report_resume(void);

/* The result of a job that is done; clears the message. For a person: its fields, one a line. Returns 0 or a negative
 * errno. */
int report_done(struct message *result);

/* What a job that failed has found out about the identity in use, beside its failure (common/job.h). */
struct report_verdict {
    const char *lost; /* check: the value of LOST=, NULL for none */
    bool refused;     /* prove: REFUSED=yes */
    /* check: which identity this was, as far as its files still say it; else "" */
    char certificate_id[65];
    char method[64];
};

/* The result of a job that failed. verdict: NULL for none. */
void report_failure(const struct failure *failure, const struct report_verdict *verdict);

/* Says that the job has been stuck in `step` for too long, from a signal handler: everything was prepared by
 * report_prepare_stuck(). */
void report_prepare_stuck(const struct failure *failure);
void report_stuck(void);

/* A worker for the tests of the daemon, that behaves or misbehaves on demand. The test program is its own worker: it
 * starts itself again with FAKE_WORKER= in the environment, a list like "enroll=done check=lost"; the name of a method
 * in place of "enroll" is for an enrolment by that. */
#pragma once

#include "harness.h"

#define FAKE_WORKER_VARIABLE "FAKE_WORKER"

/* The class of "failed" and "lost", "network" without it. */
#define FAKE_CLASS_VARIABLE "FAKE_CLASS"

/* A file that gets one line with the verb for each run; of "retire" with the ids behind it. */
#define FAKE_RECORD_VARIABLE "FAKE_RECORD"

/* With the key of a fact behind it: what a check tells of METHOD, NOT_BEFORE, NOT_AFTER, ISSUED_AT, RENEW_METHOD,
 * HINDRANCE, IMPORTED. RETRY_AFTER is what each failure asks for. */
#define FAKE_FACT_PREFIX "FAKE_FACT_"

/* What it tells of the certificate of a generation. */
const char *fake_certificate_id(unsigned generation);

/* Does one job on CHANNEL_WORKER_FD; returns the exit code. */
int fake_worker_run(void);

/* The main() of such a test: runs the tests, or as their worker one job. As the daemon it has SIGCHLD blocked (job.h),
 * and makes files for nobody else. */
int fake_worker_unit_run(const char *name, const struct unit_test tests[], int argc, char **argv);

/* The jobs of the worker. Each takes a job message (files and fields, see common/job.h), and fills the message of its
 * result. */
#pragma once

#include "common/channel.h"
#include "common/failure.h"

#include <stdbool.h>

struct report_verdict;

/* Is this identity usable, and could it be renewed? No network. The job has all five files, and what is staged if there
 * is something. On failure verdict->lost is JOB_LOST_YES or JOB_LOST_ELSEWHERE if the identity can never work again
 * here; NULL: it is kept and checked again. */
int job_check(struct message *job, struct message *result, struct report_verdict *verdict, struct failure *failure);

/* Does the cloud accept this identity? Connects as the agent, never as the application, and publishes to ProveTopic=.
 * The job has all five files. On failure verdict->refused: the cloud itself has refused it, beyond doubt (refusal.h).
 */
int job_prove(struct message *job, struct report_verdict *verdict, struct failure *failure);

/* Tells the cloud, by RetireTopic=, that this identity has replaced the certificates OLD=. The job has all five files.
 * Done when it was told of each of them, with RetireAcknowledged= when each was acknowledged. */
int job_retire(struct message *job, struct failure *failure);

/* Gets a new identity by the configured method. The job has the configuration and GENERATION=. *resume: this process
 * has held a private key in the clear, and another one is to go on from the checkpoint; there is no result then. */
int job_enroll(struct message *job, struct message *result, bool *resume, struct failure *failure);

/* Gets a successor to the identity in use, which stays untouched, by RenewMethod= or the method that has issued it. The
 * job has all five files and GENERATION=. *resume as of job_enroll(). */
int job_renew(struct message *job, struct message *result, bool *resume, struct failure *failure);

/* Judges the configuration, the plugin's section included, without touching key or network. */
int job_check_configuration(struct message *job, struct message *result, struct failure *failure);

/* Tells which methods are installed: the file of a JOB_PLUGINS, or, for a person, their texts. */
int job_plugins(struct message *result, struct failure *failure);

/* Makes or reuses the key that is staged, and gives back a request for its certificate: the file FILE_REQUEST of the
 * result. No network. The job has the configuration, what is staged, and SUBJECT= if it is not the configured one. What
 * is staged is durable before the result; after a failure nothing has changed. */
int job_request(struct message *job, struct message *result, struct failure *failure);

/* Stages a certificate, made elsewhere, for the staged key or for one that comes along: CERTIFICATE_ID= in the result.
 * No network. The job has the configuration, what is staged, the chain, and a private key if it comes along. What is
 * staged is durable before the result; after a failure nothing has changed. */
int job_import(struct message *job, struct message *result, struct failure *failure);

/* Looks at all that an enrolment needs: the file FILE_DIAGNOSIS of the result, or, for a person, its rows. Connects to
 * nobody as anybody. Not more than the configuration is needed; GENERATION= is 0 where no identity is in use. */
int job_diagnose(struct message *job, struct message *result, struct failure *failure);

/* Reads the file of a role from a job; it must be text. The caller frees *ret_text and wipes it if it is secret. */
int job_read_file(const struct message *job, enum file_role role, char **ret_text, size_t *ret_size,
                  struct failure *failure);

struct configuration;
struct settings;

/* The configuration that came with the job, and the settings in it. */
int job_read_configuration(const struct message *job, struct configuration **ret_configuration,
                           struct settings *ret_settings, struct failure *failure);

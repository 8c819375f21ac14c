/* What the cloud knows: certificates, things, policies, provisioning templates and ownership tokens, in one JSON file
 * that is written anew, by rename, after each change:
 *
 *   region, account      for ARNs
 *   certificates.ID      pem, status, createdAt, policies (names), things (NAME: EXCLUSIVE_THING or
 * NON_EXCLUSIVE_THING) things.NAME          attributes, thingTypeName, thingGroups policies.NAME        a policy
 * document templates.NAME       templateBody (text, as CreateProvisioningTemplate takes it), enabled tokens.TOKEN
 * certificateId, createdAt clockOffset          seconds to add to the clock where AWS's rules depend on time
 *
 * What a function gives back as const stays valid until the next change. */
#pragma once

#include "template.h"

#include <json-c/json.h>

#include <stdbool.h>
#include <time.h>

struct registry;

/* Reads the registry file. NULL with errno, 0 for a file that is not JSON. */
struct registry *registry_open(const char *path);
struct registry *registry_close(struct registry *registry);

/* Writes the file. Returns 0 or a negative errno. */
int registry_save(struct registry *registry);

/* Now, moved by clockOffset. */
time_t registry_now(const struct registry *registry);

/* "arn:aws:iot:REGION:ACCOUNT:KIND/NAME", from malloc(). */
char *registry_arn(const struct registry *registry, const char *kind, const char *name);

/* ACTIVE, INACTIVE, REVOKED or PENDING_ACTIVATION; NULL for a certificate that is not registered. */
const char *registry_certificate_status(const struct registry *registry, const char *certificate_id);
/* Returns 0 or -ENOENT. */
int registry_certificate_set_status(struct registry *registry, const char *certificate_id, const char *status);
void registry_certificate_add(struct registry *registry, const char *certificate_id, const char *pem,
                              const char *status);

/* The document of the certificate's policy number index, NULL behind the last. */
struct json_object *registry_certificate_policy(const struct registry *registry, const char *certificate_id,
                                                size_t index);

/* Thing and way of attachment of the certificate; NULL if it has no thing or no thing of that name. */
const char *registry_certificate_thing(const struct registry *registry, const char *certificate_id,
                                       const char *thing_name, bool *ret_exclusive);

/* The thing's object or NULL. */
struct json_object *registry_thing(const struct registry *registry, const char *thing_name);
/* Returns 0 or -ENOENT; its certificates stay. */
int registry_thing_delete(struct registry *registry, const char *thing_name);

/* The template's body, parsed and owned by the caller, or NULL if there is none of that name or it is disabled. */
struct json_object *registry_template(const struct registry *registry, const char *name);

bool registry_policy_exists(const struct registry *registry, const char *name);

/* An ownership token lives for an hour ("Device provisioning MQTT API"). registry_token_certificate() gives NULL for
 * one that is unknown, used or expired, or whose certificate is no longer PENDING_ACTIVATION. */
void registry_token_add(struct registry *registry, const char *token, const char *certificate_id);
const char *registry_token_certificate(const struct registry *registry, const char *token);
void registry_token_delete(struct registry *registry, const char *token);

/* Makes what the template says for the certificate: thing, policies, attachments, status. Changes nothing when it
 * returns -1. */
int registry_apply(struct registry *registry, const struct template_result *result, const char *certificate_id,
                   struct rejection *rejection);

/* Forgets tokens and pending certificates older than an hour. True if something changed. */
bool registry_expire(struct registry *registry);

void registry_set_clock_offset(struct registry *registry, long seconds);

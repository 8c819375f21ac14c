/* What the cloud knows: certificates, things, policies, provisioning templates and ownership tokens, in one JSON file
 * that is written anew, by rename, after each change:
 *
 *   region, account   for ARNs
 *   certificates.ID   pem, status, createdAt (seconds), policies (names),
 *                     things (NAME: EXCLUSIVE_THING or NON_EXCLUSIVE_THING),
 *                     requestedBy (the client id that asked for it, of one from the provisioning API),
 *                     certificateMode (DEFAULT or SNI_ONLY; absent: DEFAULT), caCertificateId (the registered authority
 *                     that has signed it), registeredAt (milliseconds, when a template was applied to it)
 *   things.NAME       attributes, thingTypeName, thingGroups
 *   policies.NAME     a policy document
 *   templates.NAME    templateBody (text, as CreateProvisioningTemplate takes it), enabled,
 *                     type (FLEET_PROVISIONING or JITP), preProvisioningHook (targetArn)
 *   tokens.TOKEN      certificateId, createdAt, principal and connection (that asked for it);
 *                     of one that has been used: template and reply (the payload of its success)
 *   authorities.ID    see registry_authority.h
 *   rules.NAME        see rule.h
 *   functions.NAME    see function.h
 *   clockOffset       seconds to add to the clock where AWS's rules depend on time
 *
 * What a function gives back as const stays valid until the next change. */
#pragma once

#include "template.h"

#include <json-c/json.h>

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct registry;

/* The connection that asks for something. */
struct registry_requester {
    const char *certificate_id;
    const char *client_id;
    int64_t connection; /* a number that no other connection has or had */
};

/* Reads the registry file. NULL with errno, 0 for a file that is not JSON. */
struct registry *registry_open(const char *path);
struct registry *registry_close(struct registry *registry);

/* From now on each version that is written is also kept in that folder, as MICROSECONDS.json: the time, by
 * CLOCK_REALTIME, from which on the cloud knew that and no more. */
void registry_keep_history(struct registry *registry, const char *folder);

/* Writes the file. Returns 0 or a negative errno. */
int registry_save(struct registry *registry);

/* All of it, and one of its parts such as "certificates": for the other files of the registry. */
struct json_object *registry_root(const struct registry *registry);
struct json_object *registry_section(const struct registry *registry, const char *name);

/* The 12 digits of the account. */
const char *registry_account(const struct registry *registry);

/* Now, moved by clockOffset. */
time_t registry_now(const struct registry *registry);
int64_t registry_milliseconds(const struct registry *registry);

/* "arn:aws:iot:REGION:ACCOUNT:KIND/NAME", from malloc(). */
char *registry_arn(const struct registry *registry, const char *kind, const char *name);

/* ACTIVE, INACTIVE, REVOKED or PENDING_ACTIVATION; NULL for a certificate that is not registered. */
const char *registry_certificate_status(const struct registry *registry, const char *certificate_id);
/* Returns 0 or -ENOENT. */
int registry_certificate_set_status(struct registry *registry, const char *certificate_id, const char *status);
/* As PENDING_ACTIVATION. */
void registry_certificate_add(struct registry *registry, const char *certificate_id, const char *pem,
                              const struct registry_requester *requester);

/* A certificate's object with that status, made now, that is not in the registry yet. The caller owns it. */
struct json_object *registry_certificate_new(const struct registry *registry, const char *status, const char *pem);

/* Milliseconds since RegisterThing has registered it, -1 for a certificate that was made otherwise. */
int64_t registry_certificate_age(const struct registry *registry, const char *certificate_id);

/* True for the certificate of a device, false for a claim: whether it was registered or has a thing. */
bool registry_certificate_is_device(const struct registry *registry, const char *certificate_id);

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

#define REGISTRY_TEMPLATE_FLEET "FLEET_PROVISIONING"
#define REGISTRY_TEMPLATE_JITP "JITP"

/* The template's body, parsed and owned by the caller, or NULL if there is none of that name and type or it is
 * disabled. */
struct json_object *registry_template(const struct registry *registry, const char *name, const char *type);

/* The ARN of the template's pre-provisioning hook, or NULL. */
const char *registry_template_hook(const struct registry *registry, const char *name);

/* Replaces or makes the template (its body as text, NULL to keep it; type NULL: the one it has, or that of fleet
 * provisioning). Returns 0, -ENOENT for one that is neither there nor given a body, or -EINVAL for a body that is not
 * JSON or longer than 10240 characters, and for another type than it has. */
int registry_template_set(struct registry *registry, const char *name, const char *type, const char *body,
                          bool enabled);

bool registry_policy_exists(const struct registry *registry, const char *name);
/* Replaces or makes the policy. Returns 0, or -EINVAL for a malformed document. */
int registry_policy_set(struct registry *registry, const char *name, struct json_object *document);

/* An ownership token lives for an hour ("Device provisioning MQTT API"); registry_token() gives NULL for one that is
 * unknown or expired, else its object. Using it keeps what the success said, in case that it is to be repeated. */
void registry_token_add(struct registry *registry, const char *token, const char *certificate_id,
                        const struct registry_requester *requester);
struct json_object *registry_token(const struct registry *registry, const char *token);
void registry_token_use(struct registry *registry, const char *token, const char *template_name,
                        struct json_object *reply);

/* Makes what the template says for the certificate: thing, policies, attachments, status. Changes nothing when it
 * returns -1. */
int registry_apply(struct registry *registry, const struct template_result *result, const char *certificate_id,
                   struct rejection *rejection);

/* Forgets tokens, and pending certificates that the provisioning API has issued, older than an hour. True if something
 * changed. */
bool registry_expire(struct registry *registry);

void registry_set_clock_offset(struct registry *registry, long seconds);

/* The provisioning API: CreateKeysAndCertificate, CreateCertificateFromCsr and RegisterThing, from the payload of the
 * request to that of the reply. Source: AWS IoT Core Developer Guide, "Device provisioning MQTT API". */
#pragma once

#include "issuer.h"
#include "option.h"
#include "registry.h"
#include "topic.h"

#include <json-c/json.h>

#include <stdbool.h>

struct provisioning {
    struct registry *registry;
    struct issuer issuer;
    const char *hook_path; /* the rules of the pre-provisioning hook, read at each RegisterThing; may be absent */
    const char *keys_path; /* a directory for the keys that CreateKeysAndCertificate gave away, as ID.key */
    const struct standin_options *options;
};

struct provisioning_reply {
    bool accepted;
    struct json_object *payload;
    struct rejection rejection;          /* if not accepted */
    char certificate_id[ISSUER_ID_SIZE]; /* what the request was about, as far as it is known */
    char *thing_name;                    /* registered by this request, or NULL */
    unsigned delay_milliseconds;         /* the hook did not answer in time */
    bool repeated;                       /* a success that an earlier request with the token has had */
};

void provisioning_reply_clear(struct provisioning_reply *reply);

/* Does what the request asks for; the registry is changed but not saved. Always gives a reply. hook_answer: what the
 * template's hook has said; NULL: nothing, which is a no for a template that has one. */
void provisioning_handle(struct provisioning *provisioning, const struct registry_requester *requester,
                         const struct topic_request *request, const void *payload, size_t size,
                         struct json_object *hook_answer, struct provisioning_reply *ret);

/* The event that the template's pre-provisioning hook has to be called with before that, owned by the caller, and the
 * ARN of the hook from malloc(). NULL if there is nobody to ask: another request, a template without a hook, or what is
 * to be rejected anyway. */
struct json_object *provisioning_hook_event(struct provisioning *provisioning,
                                            const struct registry_requester *requester,
                                            const struct topic_request *request, const void *payload, size_t size,
                                            char **ret_arn);

/* The payload of a rejected reply. */
struct json_object *provisioning_rejected(const struct rejection *rejection);

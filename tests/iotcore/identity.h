/* Who is connected, and what its certificate's policies let it do. */
#pragma once

#include "issuer.h"
#include "policy.h"
#include "registry.h"

#include <stdbool.h>
#include <time.h>

struct identity {
    const char *client_id;
    const char *source_address;
    char certificate_id[ISSUER_ID_SIZE];
    X509 *certificate;
};

/* All policies of the certificate together: action "iot:Publish" on the resource topic/NAME, for example. Variables:
 * iot:ClientId, iot:CertificateId, aws:SourceIp, iot:Certificate.Subject.X and .Issuer.X,
 * iot:Certificate.SerialNumber, iot:Connection.Thing.ThingName, .ThingTypeName, .IsAttached and .Attributes[NAME].
 * Those of the thing have a value if the certificate is attached to the thing and the client id is the thing's name or
 * the attachment is exclusive ("Thing policy variables"). */
enum policy_decision identity_decide(const struct identity *identity, const struct registry *registry,
                                     const char *action, const char *kind, const char *name);

/* Whether its certificate is within its validity. */
bool identity_within_validity(const struct identity *identity, time_t now);

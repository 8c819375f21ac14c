/* The identity in use, as a worker gets it: the four files of it that come with a job, and the key in them. */
#pragma once

#include "common/channel.h"
#include "common/settings.h"
#include "worker/certificate.h"
#include "worker/identity.h"
#include "worker/key.h"

#include <stdbool.h>

struct current {
    char *certificate_pem, *private_pem, *root_ca_pem, *identity_json;
    size_t certificate_size, private_size, root_ca_size, identity_size;
    struct certificate certificate;
    struct identity identity;
    struct key *key; /* NULL until it is loaded */
};

/* Flushes the key, wipes what is secret, frees all of it. */
void current_clear(struct current *current);

/* Reads the files of the job. Class `internal`. */
int current_read(const struct message *job, struct current *current, struct failure *failure);

/* What the files say, without the TPM; class `invalid`: if that is broken, no later time will mend it. What could be
 * read stays in *current also then. */
int current_judge(struct current *current, struct failure *failure);

/* Loads the key, and judges that it is the certificate's. *ret_lost: it can never work again here. Classes `tpm` and
 * `invalid`. */
int current_load_key(struct current *current, const struct settings *settings, bool *ret_lost, struct failure *failure);

/* Waits until the agent's own client id may be used again after the proof of an identity that was made just now: AWS
 * IoT Core takes one CONNECT per second and client id (quotas, "Connect requests per second per client ID"), and
 * another worker has made that one. Within one worker host_connect() sees to it. */
void current_keep_distance(const struct current *current);

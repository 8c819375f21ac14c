/* MQTT client ids of the agent itself. Ids are account-wide, and a second connection with the same one throws the first
 * out (MQTT 5.0 section 3.1.4): the agent's own is never the one that an application uses, which is most often the
 * thing's name. */
#pragma once

#include "common/settings.h"
#include "worker/identity.h"

/* bytes (AWS IoT Core quotas, "Client ID size") */
#define CLIENT_ID_MAX 128
/* What the agent's own id has behind the name. */
#define CLIENT_ID_SUFFIX "-enrolld"

/* The agent's own client id for an identity that is in use, or for its successor: ClientId=, else the thing's name and
 * "-enrolld"; where that name was never told, what the identity has connected as until now tells it. common_name,
 * certificate_id: of the certificate that it connects with. The caller frees *ret. Class `invalid` for one of more than
 * CLIENT_ID_MAX bytes. */
int client_id_own(const struct settings *settings, const struct identity *identity, const char *common_name,
                  const char *certificate_id, char **ret, struct failure *failure);

/* The name that the default id begins with: the thing's, or what tells it where it was never told. */
void client_id_name(const struct identity *identity, char *name, size_t size);

/* True if it is not the application's: neither the thing's name nor the serial number. */
bool client_id_is_own(const struct identity *identity, const char *client_id);

/* The common name of the certificate in use, for %c, or NULL: that of a certificate whose key the cloud has made is the
 * same for a whole fleet, and the serial number stands in its place. */
const char *client_id_common_name(const struct identity *identity, const struct certificate *certificate);

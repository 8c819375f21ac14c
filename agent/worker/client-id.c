#include "worker/client-id.h"

#include "common/cleanup.h"
#include "common/specifier.h"
#include "common/step.h"

#include <stdio.h>
#include <string.h>

void client_id_name(const struct identity *identity, char *name, size_t size) {
    size_t length = strlen(identity->client_id), suffix = strlen(CLIENT_ID_SUFFIX);
    bool is_own = length > suffix && strcmp(identity->client_id + length - suffix, CLIENT_ID_SUFFIX) == 0;
    if (identity->thing_name[0] != '\0')
        snprintf(name, size, "%s", identity->thing_name);
    else
        snprintf(name, size, "%.*s", (int)(is_own ? length - suffix : length), identity->client_id);
}

int client_id_own(const struct settings *settings, const struct identity *identity, const char *common_name,
                  const char *certificate_id, char **ret, struct failure *failure) {
    const struct specifier_values values = {
        .serial_number = identity->serial_number,
        .thing_name = identity->thing_name[0] != '\0' ? identity->thing_name : NULL,
        .common_name = common_name,
        .certificate_id = certificate_id,
    };
    AUTO_FREE char *id = NULL;
    char name[sizeof identity->client_id];
    client_id_name(identity, name, sizeof name);
    if (settings->client_id[0] != '\0') {
        if (specifier_expand(settings->client_id, &values, "ClientId", &id, failure) < 0)
            return -1;
    } else if (asprintf(&id, "%s" CLIENT_ID_SUFFIX, name) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    if (strlen(id) > CLIENT_ID_MAX)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the MQTT client id %.140s has more than %d bytes: set ClientId= in [Agent]", id,
                           CLIENT_ID_MAX);
    *ret = TAKE_POINTER(id);
    return 0;
}

bool client_id_is_own(const struct identity *identity, const char *client_id) {
    return strcmp(client_id, identity->thing_name) != 0 && strcmp(client_id, identity->serial_number) != 0;
}

const char *client_id_common_name(const struct identity *identity, const struct certificate *certificate) {
    if (strcmp(identity->key_origin, "cloud") == 0)
        return identity->serial_number;
    return certificate->common_name[0] != '\0' ? certificate->common_name : NULL;
}

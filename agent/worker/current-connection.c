#include "worker/current-connection.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "worker/client-id.h"
#include "worker/clock.h"
#include "worker/deadline.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/report.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

/* The id that was accepted when the identity was proven, unless the application may use that one. */
static int choose_client_id(struct current_connection *connection, struct failure *failure) {
    const struct identity *identity = &connection->current.identity;
    const char *common_name = connection->current.certificate.common_name;
    bool is_own = client_id_is_own(identity, identity->client_id) && strcmp(identity->client_id, common_name) != 0;
    if (is_own && identity->client_id[0] != '\0') {
        connection->client_id = strdup(identity->client_id);
        if (connection->client_id == NULL)
            return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    } else if (client_id_own(&connection->settings, identity, connection->common_name,
                             connection->current.certificate.id, &connection->client_id, failure) < 0)
        return -1;
    connection->was_accepted = strcmp(connection->client_id, identity->client_id) == 0;
    return 0;
}

/* The identity was accepted by the endpoint that it was made for, and there it is judged: whatever another one, which
 * is configured meanwhile, thinks of it. */
static void fill(struct current_connection *connection, const struct message *job, struct failure *failure) {
    struct current *current = &connection->current;
    connection->settings.endpoint = current->identity.endpoint;
    client_id_name(&current->identity, connection->name, sizeof connection->name);
    connection->common_name = client_id_common_name(&current->identity, &current->certificate);
    connection->host.settings = &connection->settings;
    connection->host.failure = failure;
    connection->host.clock_is_doubtful = !clock_is_synchronised(job);
    connection->host.root_ca_pem = current->root_ca_pem;
    connection->host.root_ca_size = current->root_ca_size;
}

int current_connection_prepare(struct current_connection *connection, const struct message *job,
                               struct failure *failure) {
    bool is_lost = false;
    if (job_read_configuration(job, &connection->configuration, &connection->settings, failure) < 0 ||
        lockdown_finish(true, failure) < 0)
        return -1;
    report_step(STEP_VERIFY);
    if (current_read(job, &connection->current, failure) < 0 || current_judge(&connection->current, failure) < 0 ||
        current_load_key(&connection->current, &connection->settings, &is_lost, failure) < 0)
        return -1;
    fill(connection, job, failure);
    return choose_client_id(connection, failure);
}

void current_connection_wait(void) {
    poll(NULL, 0, HOST_CONNECT_DISTANCE_MS);
}

int current_connection_open(struct current_connection *connection, const char *step) {
    struct current *current = &connection->current;
    report_step(step);
    return host_connect(&connection->host, connection->client_id, current->certificate_pem, current->key, step,
                        connection->host.failure);
}

struct specifier_values current_connection_values(const struct current_connection *connection,
                                                  const char *old_certificate_id) {
    return (struct specifier_values){
        .serial_number = connection->current.identity.serial_number,
        .thing_name = connection->name,
        .common_name = connection->common_name,
        .certificate_id = connection->current.certificate.id,
        .old_certificate_id = old_certificate_id,
    };
}

void current_connection_close(struct current_connection *connection) {
    host_disconnect(&connection->host);
    free(connection->client_id);
    deadline_start(KEY_TIMEOUT_S, FAILURE_TPM, STEP_VERIFY, "flushing the device key");
    current_clear(&connection->current);
    deadline_stop();
    configuration_free(connection->configuration);
}

/* A connection to the cloud with the identity in use, as the agent: beside the application, which it never throws out.
 * Shared by the jobs that judge (job-prove.c) and retire (job-retire.c). */
#pragma once

#include "worker/current.h"
#include "worker/enrollment.h"

struct current_connection {
    struct configuration *configuration;
    struct settings settings; /* of that, with the endpoint of the identity */
    struct current current;
    struct enrollment host;  /* the connection, by host_connect() */
    char *client_id;         /* the agent's own */
    bool was_accepted;       /* that id was accepted when the identity was proven */
    char name[256];          /* for %t: the thing's name, or what stands in its place */
    const char *common_name; /* for %c, or NULL */
};

/* Takes the job, gives up what a worker gives up before it reads what others have made, looks at the identity as
 * `check` does (documents, key), and prepares the connection. The struct is zeroed by the caller, who closes it also
 * after a failure. */
int current_connection_prepare(struct current_connection *connection, const struct message *job,
                               struct failure *failure);

/* Waits while another worker's CONNECT may have been less than a second ago, if so asked. */
void current_connection_wait(void);

/* CONNECT, CONNACK awaited. */
int current_connection_open(struct current_connection *connection, const char *step);

/* What specifiers stand for in a topic. old_certificate_id: NULL for none. */
struct specifier_values current_connection_values(const struct current_connection *connection,
                                                  const char *old_certificate_id);

void current_connection_close(struct current_connection *connection);

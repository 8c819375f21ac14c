/* A daemon without D-Bus in a directory of its own, whose workers are this program (fake-worker.h). */
#pragma once

#include "daemon/agent.h"

#include <stdbool.h>

#define PATIENCE_S 20

struct world {
    bool by_sockets; /* workers are looked for behind sockets that are not there */
    char top[64];
    int top_fd;
    char state_path[80], configuration_path[80], record_path[80], current[96];
    char clock_path[80]; /* clock_read(); synchronised from set_up() on */
    enum volatility volatile_state;
    sd_event *event;
    struct store *store;
    int runtime;
    int route; /* what the next agent takes for the kernel's socket, -1 for none */
    int clock; /* the same for clock_open() */
    struct agent *agent;
};

extern struct world world;

/* Attempts come quickly; the next attempt comes when the test is long over. */
extern const char good_configuration[], slow_configuration[];

/* Makes the directory; configuration NULL: none yet. */
void set_up(const char *configuration);
void tear_down(void);

/* Starts the agent; workers: FAKE_WORKER_VARIABLE. */
void start(const char *workers);
/* As a crash does: nothing is told to anybody. */
void stop(void);

void write_file(const char *name, const char *text);
const char *read_file(const char *name);
bool is_there(const char *name);

/* Runs the loop until `condition`, for a while at most. */
bool wait_for(bool (*condition)(const struct status *status));
bool is_provisioned(const struct status *status);
bool is_waiting(const struct status *status);
void expect_state(bool (*condition)(const struct status *status), enum agent_state state);
void expect_error(const char *class, const char *text);

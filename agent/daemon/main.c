/* enrolld: command line, signals, and the event loop around the agent. */

#include "config.h"
#include "daemon/agent.h"
#include "daemon/bus.h"
#include "daemon/check.h"
#include "daemon/clock.h"
#include "daemon/log.h"
#include "daemon/network.h"
#include "daemon/runtime.h"
#include "daemon/store.h"

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 4096

static const char usage[] =
    "Usage: enrolld [OPTION]...\n"
    "Gives this device its identity in AWS IoT Core and keeps it valid.\n\n"
    "  --config=FILE    read FILE and FILE.d/*.conf in place of the usual places\n"
    "  --check-config   print the effective configuration, say what is wrong with it\n"
    "  --introspect     print the D-Bus interface as XML\n"
    "  --version        print the version\n"
    "  --help           print this\n\n"
    "Environment: STATE_DIRECTORY, RUNTIME_DIRECTORY, DBUS_SYSTEM_BUS_ADDRESS;\n"
    "ENROLLD_WORKER (the program), ENROLLD_PLUGIN_DIR (the folder of the methods),\n"
    "ENROLLD_CLOCK_DIRECTORY (what tells that the clock is set)\n"
    "Exit codes: 0 told to end, or the configuration is right; 1 failed, or it is wrong; 2 wrong usage\n";

struct options {
    const char *configuration;
    bool check, introspect;
};

/* Returns -1 to go on, or an exit code: 2 for a wrong command line. */
static int parse_options(int argc, char **argv, struct options *ret) {
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"check-config", no_argument, NULL, 'k'},
        {"introspect", no_argument, NULL, 'i'},   {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };
    for (int option = getopt_long(argc, argv, "", options, NULL); option >= 0;
         option = getopt_long(argc, argv, "", options, NULL))
        switch (option) {
        case 'c':
            ret->configuration = optarg;
            break;
        case 'k':
            ret->check = true;
            break;
        case 'i':
            ret->introspect = true;
            break;
        case 'v':
            puts(PACKAGE_STRING);
            return EXIT_SUCCESS;
        case 'h':
            fputs(usage, stdout);
            return EXIT_SUCCESS;
        default:
            return 2;
        }
    if (optind == argc)
        return -1;
    fprintf(stderr, "enrolld: unexpected argument: %s\n", argv[optind]);
    return 2;
}

/* systemd separates several directories by colons (systemd.exec(5)); the first is ours. */
static int directory_from(const char *variable, const char *otherwise, char *ret, size_t size) {
    const char *value = getenv(variable);
    if (value == NULL || *value == '\0')
        value = otherwise;
    size_t length = strcspn(value, ":");
    if (length + sizeof "/current" > size)
        return -ENAMETOOLONG;
    memcpy(ret, value, length);
    ret[length] = '\0';
    return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *data) {
    struct agent *agent = data;
    struct failure failure;
    (void)source;
    if (info->ssi_signo != SIGHUP)
        agent_stop(agent);
    else if (agent_reload(agent, &failure) != ANSWER_YES)
        log_event(LOG_EVENT_CONFIGURATION_REFUSED, &failure, LOG_ERR, "the configuration stays as it was: %s",
                  failure.message);
    return 0;
}

/* SIGCHLD is blocked for sd_event_add_child(3). */
static int watch_signals(sd_event *event, struct agent *agent) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    sigset_t mask;
    int r = 0;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaddset(&mask, signals[i]);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    for (size_t i = 0; i < sizeof signals / sizeof *signals && r >= 0; i++)
        r = sd_event_add_signal(event, NULL, signals[i], on_signal, agent);
    return r;
}

/* The object is complete before the name appears: a client that the name wakes finds everything in place. */
static int serve(sd_event *event, struct agent *agent) {
    struct bus *bus = NULL;
    int r = watch_signals(event, agent);
    if (r >= 0)
        r = sd_event_set_watchdog(event, 1);
    if (r < 0) {
        log_message(LOG_ERR, "cannot set up the event loop: %s", strerror(-r));
        return EXIT_FAILURE;
    }
    r = bus_open(event, agent, &bus);
    if (r == 0)
        r = bus_take_name(bus);
    if (r < 0) {
        log_message(LOG_ERR, "cannot appear on D-Bus: %s",
                    r == -EEXIST ? "another process has the name org.enrolld1" : strerror(-r));
        bus_close(bus);
        return EXIT_FAILURE;
    }
    sd_notify(0, "READY=1");
    agent_set_bus(agent, bus);
    agent_start(agent);
    r = sd_event_loop(event);
    agent_set_bus(agent, NULL);
    bus_close(bus);
    return r < 0 ? EXIT_FAILURE : r;
}

static int run_agent(const char *configuration, sd_event *event, struct store *store, int runtime, const char *state) {
    char current[PATH_SIZE + sizeof "/current"];
    const struct agent_environment environment = {
        .event = event,
        .store = store,
        .runtime = runtime,
        .route = network_open(),
        .clock = clock_open(),
        .clock_directory = getenv("ENROLLD_CLOCK_DIRECTORY"),
        .volatile_state = store_volatility(store),
        .launch = {.program = getenv("ENROLLD_WORKER"), .sockets = LAUNCH_SOCKETS},
        .configuration_path = configuration,
        .credential_directory = current,
    };
    snprintf(current, sizeof current, "%s/current", state);
    struct agent *agent = agent_new(&environment);
    int r = agent != NULL ? serve(event, agent) : EXIT_FAILURE;
    agent_free(agent);
    return r;
}

static int run(const char *configuration) {
    char state[PATH_SIZE], runtime[PATH_SIZE];
    struct store *store = NULL;
    sd_event *event = NULL;
    struct failure failure;
    if (directory_from("STATE_DIRECTORY", "/var/lib/enrolld", state, sizeof state) < 0 ||
        directory_from("RUNTIME_DIRECTORY", "/run/enrolld", runtime, sizeof runtime) < 0) {
        log_message(LOG_ERR, "STATE_DIRECTORY or RUNTIME_DIRECTORY is too long");
        return EXIT_FAILURE;
    }
    if (store_open(state, &store, &failure) < 0) {
        log_message(LOG_ERR, "%s", failure.message);
        return EXIT_FAILURE;
    }
    int directory = runtime_open(runtime), r = sd_event_default(&event);
    if (directory < 0)
        log_message(LOG_WARNING, "cannot open %s: %s: units cannot follow the identity", runtime, strerror(-directory));
    r = r < 0 ? EXIT_FAILURE : run_agent(configuration, event, store, directory, state);
    sd_event_unref(event);
    if (directory >= 0)
        close(directory);
    store_close(store);
    return r;
}

/* Keys and tokens pass through on their way to the disk. */
static void forbid_core_dumps(void) {
    const struct rlimit none = {0, 0};
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        log_message(LOG_WARNING, "cannot forbid core dumps: %s", strerror(errno));
}

int main(int argc, char **argv) {
    struct options options = {0};
    int r = parse_options(argc, argv, &options);
    if (r >= 0)
        return r;
    if (options.introspect)
        return bus_introspect(stdout) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    if (options.check)
        return check_configuration(options.configuration, getenv("ENROLLD_WORKER"));
    umask(0077);
    signal(SIGPIPE, SIG_IGN);
    log_open();
    forbid_core_dumps();
    return run(options.configuration);
}

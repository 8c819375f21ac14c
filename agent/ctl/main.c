
#include "common/text.h"
#include "ctl/bus.h"
#include "ctl/follow.h"
#include "ctl/status.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MAX_S (365 * 86400)

struct options {
    bool json;
    bool has_timeout;
    uint64_t timeout; /* microseconds */
};

static const char help[] =
    "enrollctl [OPTION...] VERB\n"
    "\n"
    "Shows and controls enrolld, the agent that gives this device its identity in AWS IoT Core.\n"
    "\n"
    "Verbs:\n"
    "  status [--json]     show the state, the identity and the last error\n"
    "  wait [--timeout=S]  wait until the device is provisioned\n"
    "  enroll              enroll now, show the steps and the result\n"
    "  monitor             show each change as it comes, until interrupted\n"
    "\n"
    "Options:\n"
    "      --json          one JSON object, for programs\n"
    "      --timeout=S     give up after so many seconds\n"
    "  -h, --help\n"
    "      --version\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not provisioned, 4 timed out, 5 enrolld is not running\n"
    "or does not answer.\n";

static enum exit_code complain_about_usage(const char *problem, const char *word) {
    fprintf(stderr, "enrollctl: %s%s. `enrollctl --help` lists verbs and options.\n", problem, word);
    return EXIT_CODE_USAGE;
}

static enum exit_code run_status(sd_bus *bus, const struct options *options) {
    return status_run(bus, options->json);
}

static enum exit_code run_wait(sd_bus *bus, const struct options *options) {
    return follow_wait(bus, options->has_timeout ? options->timeout : FOLLOW_NO_TIMEOUT);
}

static enum exit_code run_enroll(sd_bus *bus, const struct options *options) {
    (void)options;
    return follow_enroll(bus);
}

static enum exit_code run_monitor(sd_bus *bus, const struct options *options) {
    (void)options;
    return follow_monitor(bus);
}

static const struct verb {
    const char *name;
    enum exit_code (*run)(sd_bus *bus, const struct options *options);
    bool takes_json, takes_timeout;
} verbs[] = {
    {"status", run_status, true, false},
    {"wait", run_wait, false, true},
    {"enroll", run_enroll, false, false},
    {"monitor", run_monitor, false, false},
};

/* What printed the help or the version has nothing more to do: *ret_end. */
static enum exit_code parse_options(int argc, char **argv, struct options *ret, bool *ret_end) {
    enum { OPTION_JSON = 256, OPTION_TIMEOUT, OPTION_VERSION };
    static const struct option long_options[] = {{"json", no_argument, NULL, OPTION_JSON},
                                                 {"timeout", required_argument, NULL, OPTION_TIMEOUT},
                                                 {"help", no_argument, NULL, 'h'},
                                                 {"version", no_argument, NULL, OPTION_VERSION},
                                                 {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, ":h", long_options, NULL)) >= 0;)
        switch (option) {
        case OPTION_JSON:
            ret->json = true;
            break;
        case OPTION_TIMEOUT:
            if (text_to_u64(optarg, &ret->timeout) < 0 || ret->timeout > TIMEOUT_MAX_S)
                return complain_about_usage("--timeout= takes whole seconds, not ", optarg);
            ret->timeout *= 1000000;
            ret->has_timeout = true;
            break;
        case 'h':
        case OPTION_VERSION:
            fputs(option == 'h' ? help : "enrollctl " PACKAGE_VERSION "\n", stdout);
            *ret_end = true;
            return EXIT_CODE_DONE;
        case ':':
            return complain_about_usage("a value is missing after ", argv[optind - 1]);
        default:
            return complain_about_usage("unknown option ", argv[optind - 1]);
        }
    return EXIT_CODE_DONE;
}

static const struct verb *find_verb(const char *name) {
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

static enum exit_code run(int argc, char **argv) {
    AUTO_BUS sd_bus *bus = NULL;
    struct options options = {0};
    bool end = false;
    enum exit_code code = parse_options(argc, argv, &options, &end);
    if (code != EXIT_CODE_DONE || end)
        return code;
    if (optind >= argc)
        return complain_about_usage("a verb is missing", "");
    if (optind + 1 < argc)
        return complain_about_usage("too many words: ", argv[optind + 1]);
    const struct verb *verb = find_verb(argv[optind]);
    if (verb == NULL)
        return complain_about_usage("unknown verb ", argv[optind]);
    if (options.json && !verb->takes_json)
        return complain_about_usage("--json is not for ", verb->name);
    if (options.has_timeout && !verb->takes_timeout)
        return complain_about_usage("--timeout= is not for ", verb->name);
    code = bus_open(&bus);
    return code != EXIT_CODE_DONE ? code : verb->run(bus, &options);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0); /* each line counts at once, also in a pipe */
    enum exit_code code = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("enrollctl: cannot write the output");
        return EXIT_CODE_FAILED;
    }
    return code;
}

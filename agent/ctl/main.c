
#include "common/text.h"
#include "ctl/bus.h"
#include "ctl/configuration.h"
#include "ctl/control.h"
#include "ctl/discard-claim.h"
#include "ctl/doctor.h"
#include "ctl/export.h"
#include "ctl/follow.h"
#include "ctl/forget.h"
#include "ctl/import.h"
#include "ctl/plugins.h"
#include "ctl/request.h"
#include "ctl/status.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MAX_S (365 * 86400)

/* Bits of what was given. */
enum {
    GIVEN_JSON = 1,
    GIVEN_TIMEOUT = 2,
    GIVEN_SUBJECT = 4,
    GIVEN_KEY = 8,
    GIVEN_WIPE = 16,
    GIVEN_YES = 32,
    GIVEN_CONFIG = 64
};

struct options {
    unsigned given;
    uint64_t timeout; /* microseconds */
    const char *subject, *key, *configuration;
    const char *word; /* behind the verb, NULL for none */
};

static const char help[] =
    "enrollctl [OPTION...] VERB [WORD]\n"
    "\n"
    "Shows and controls enrolld, the agent that gives this device its identity in AWS IoT Core.\n"
    "\n"
    "Verbs:\n"
    "  status [--json]     show the state, the identity and the last error\n"
    "  wait [--timeout=S]  wait until the device is provisioned\n"
    "  enroll              enroll now, show the steps and the result\n"
    "  renew               get a successor to the identity in use now, show the steps and the result\n"
    "  check               look whether key and certificate work here, and whether the cloud accepts them\n"
    "  monitor             show each change as it comes, until interrupted\n"
    "  request [--subject=SUBJECT]\n"
    "                      make the device key, unless it is there, and print a certificate signing\n"
    "                      request for it\n"
    "  import [--key=FILE|-] [--wipe] FILE|-\n"
    "                      hand over the certificate with its chain, and the private key if it was not\n"
    "                      made here; print the certificateId. PEM, from a file or (-) standard input,\n"
    "                      which ends by Ctrl-D, too, or 2 seconds after its last block\n"
    "  export [--json]     print the certificate with its chain; for programs a line of bulk registration,\n"
    "                      before there is one with the request\n"
    "  cancel [JOB]        cancel a job by its number, or the one that runs\n"
    "  doctor [--json]     look at clock, TPM, serial number, network, claims, store and units: what is\n"
    "                      wrong, and what to do\n"
    "  discard-claim [--config=FILE] [--yes]\n"
    "                      destroy the files of this device that it enrolls by, once it has an identity\n"
    "  forget [--yes]      remove key and certificate of this device, and have it enroll anew\n"
    "  plugins [METHOD]    list the provisioning methods, or show the options of one\n"
    "  config              show the configuration in force, and where each value comes from\n"
    "  reload              read the configuration again\n"
    "\n"
    "Options:\n"
    "      --json             one JSON object, for programs: enrollctl(1) has its members\n"
    "      --timeout=S        give up after so many seconds\n"
    "      --subject=SUBJECT  of the request instead of the configured one: CN=%s,O=Example\n"
    "      --key=FILE|-       the private key, if it is not beside the certificate\n"
    "      --wipe             after the import overwrite and remove the file that the private key was in\n"
    "      --config=FILE      root's configuration, FILE and FILE.d/*.conf, in place of the usual places\n"
    "      --yes              do not ask first; discard the claim though KeepClaim=no is not set\n"
    "  -h, --help\n"
    "      --version\n"
    "\n"
    "Environment: DBUS_SYSTEM_BUS_ADDRESS, NO_COLOR\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not provisioned, 4 timed out, 5 enrolld is not running\n"
    "or does not answer.\n";

static enum exit_code complain_about_usage(const char *problem, const char *word) {
    fprintf(stderr, "enrollctl: %s%s. `enrollctl --help` lists verbs and options.\n", problem, word);
    return EXIT_CODE_USAGE;
}

static enum exit_code run_status(sd_bus *bus, const struct options *options) {
    return status_run(bus, options->given & GIVEN_JSON);
}

static enum exit_code run_wait(sd_bus *bus, const struct options *options) {
    return follow_wait(bus, options->given & GIVEN_TIMEOUT ? options->timeout : FOLLOW_NO_TIMEOUT);
}

static enum exit_code run_enroll(sd_bus *bus, const struct options *options) {
    (void)options;
    return follow_enroll(bus);
}

static enum exit_code run_renew(sd_bus *bus, const struct options *options) {
    (void)options;
    return follow_renew(bus);
}

static enum exit_code run_check(sd_bus *bus, const struct options *options) {
    (void)options;
    return follow_check(bus);
}

static enum exit_code run_discard_claim(sd_bus *bus, const struct options *options) {
    return discard_claim_run(bus, options->configuration, options->given & GIVEN_YES);
}

static enum exit_code run_monitor(sd_bus *bus, const struct options *options) {
    (void)options;
    return follow_monitor(bus);
}

static enum exit_code run_request(sd_bus *bus, const struct options *options) {
    return request_run(bus, options->subject != NULL ? options->subject : "");
}

static enum exit_code run_import(sd_bus *bus, const struct options *options) {
    return import_run(bus, options->word, options->key, options->given & GIVEN_WIPE);
}

static enum exit_code run_cancel(sd_bus *bus, const struct options *options) {
    uint64_t job = 0;
    if (options->word != NULL && (text_to_u64(options->word, &job) < 0 || job == 0 || job > UINT32_MAX))
        return complain_about_usage("no number of a job: ", options->word);
    return control_cancel(bus, (uint32_t)job);
}

static enum exit_code run_export(sd_bus *bus, const struct options *options) {
    return export_run(bus, options->given & GIVEN_JSON);
}

static enum exit_code run_doctor(sd_bus *bus, const struct options *options) {
    return doctor_run(bus, options->given & GIVEN_JSON);
}

static enum exit_code run_forget(sd_bus *bus, const struct options *options) {
    return forget_run(bus, options->given & GIVEN_YES);
}

static enum exit_code run_reload(sd_bus *bus, const struct options *options) {
    (void)options;
    return control_reload(bus);
}

static enum exit_code run_config(sd_bus *bus, const struct options *options) {
    (void)options;
    return configuration_run(bus);
}

static enum exit_code run_plugins(sd_bus *bus, const struct options *options) {
    return plugins_run(bus, options->word);
}

static const struct verb {
    const char *name;
    enum exit_code (*run)(sd_bus *bus, const struct options *options);
    unsigned takes; /* GIVEN_... */
    enum { NO_WORD, MAY_HAVE_WORD, NEEDS_WORD } word;
} verbs[] = {
    {"status", run_status, GIVEN_JSON, NO_WORD},
    {"wait", run_wait, GIVEN_TIMEOUT, NO_WORD},
    {"enroll", run_enroll, 0, NO_WORD},
    {"renew", run_renew, 0, NO_WORD},
    {"check", run_check, 0, NO_WORD},
    {"monitor", run_monitor, 0, NO_WORD},
    {"request", run_request, GIVEN_SUBJECT, NO_WORD},
    {"import", run_import, GIVEN_KEY | GIVEN_WIPE, NEEDS_WORD},
    {"cancel", run_cancel, 0, MAY_HAVE_WORD},
    {"export", run_export, GIVEN_JSON, NO_WORD},
    {"doctor", run_doctor, GIVEN_JSON, NO_WORD},
    {"discard-claim", run_discard_claim, GIVEN_CONFIG | GIVEN_YES, NO_WORD},
    {"forget", run_forget, GIVEN_YES, NO_WORD},
    {"plugins", run_plugins, 0, MAY_HAVE_WORD},
    {"config", run_config, 0, NO_WORD},
    {"reload", run_reload, 0, NO_WORD},
};

static enum exit_code parse_timeout(const char *text, struct options *ret) {
    if (text_to_u64(text, &ret->timeout) < 0 || ret->timeout > TIMEOUT_MAX_S)
        return complain_about_usage("--timeout= takes whole seconds, not ", text);
    ret->timeout *= 1000000;
    return EXIT_CODE_DONE;
}

enum { OPTION_VERSION = 256, OPTION_GIVEN }; /* OPTION_GIVEN + a bit of GIVEN_... */

static enum exit_code take_option(unsigned bit, const char *value, struct options *ret) {
    ret->given |= bit;
    if (bit == GIVEN_SUBJECT)
        ret->subject = value;
    if (bit == GIVEN_KEY)
        ret->key = value;
    if (bit == GIVEN_CONFIG)
        ret->configuration = value;
    return bit == GIVEN_TIMEOUT ? parse_timeout(value, ret) : EXIT_CODE_DONE;
}

static const struct option long_options[] = {{"json", no_argument, NULL, OPTION_GIVEN + GIVEN_JSON},
                                             {"timeout", required_argument, NULL, OPTION_GIVEN + GIVEN_TIMEOUT},
                                             {"subject", required_argument, NULL, OPTION_GIVEN + GIVEN_SUBJECT},
                                             {"key", required_argument, NULL, OPTION_GIVEN + GIVEN_KEY},
                                             {"wipe", no_argument, NULL, OPTION_GIVEN + GIVEN_WIPE},
                                             {"config", required_argument, NULL, OPTION_GIVEN + GIVEN_CONFIG},
                                             {"yes", no_argument, NULL, OPTION_GIVEN + GIVEN_YES},
                                             {"help", no_argument, NULL, 'h'},
                                             {"version", no_argument, NULL, OPTION_VERSION},
                                             {NULL, 0, NULL, 0}};

/* What printed the help or the version has nothing more to do: *ret_end. */
static enum exit_code parse_options(int argc, char **argv, struct options *ret, bool *ret_end) {
    enum exit_code code = EXIT_CODE_DONE;
    for (int option; code == EXIT_CODE_DONE && (option = getopt_long(argc, argv, ":h", long_options, NULL)) >= 0;)
        switch (option) {
        case 'h':
        case OPTION_VERSION:
            fputs(option == 'h' ? help : "enrollctl " PACKAGE_VERSION "\n", stdout);
            *ret_end = true;
            return EXIT_CODE_DONE;
        case ':':
            return complain_about_usage("a value is missing after ", argv[optind - 1]);
        case '?':
            return complain_about_usage("unknown option ", argv[optind - 1]);
        default:
            code = take_option((unsigned)option - OPTION_GIVEN, optarg, ret);
        }
    return code;
}

static const struct verb *find_verb(const char *name) {
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return &verbs[i];
    return NULL;
}

/* Judges what stands beside the verb. */
static enum exit_code check_usage(const struct verb *verb, const struct options *options) {
    for (const struct option *option = long_options; option->name != NULL; option++)
        if (option->val > OPTION_GIVEN && options->given & ~verb->takes & ((unsigned)option->val - OPTION_GIVEN)) {
            fprintf(stderr, "enrollctl: --%s is not for %s. `enrollctl --help` lists verbs and options.\n",
                    option->name, verb->name);
            return EXIT_CODE_USAGE;
        }
    if (options->word != NULL && verb->word == NO_WORD)
        return complain_about_usage("too many words: ", options->word);
    if (options->word == NULL && verb->word == NEEDS_WORD)
        return complain_about_usage("a file is missing after ", verb->name);
    return EXIT_CODE_DONE;
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
    if (optind + 2 < argc)
        return complain_about_usage("too many words: ", argv[optind + 2]);
    const struct verb *verb = find_verb(argv[optind]);
    if (verb == NULL)
        return complain_about_usage("unknown verb ", argv[optind]);
    options.word = argv[optind + 1];
    code = check_usage(verb, &options);
    if (code == EXIT_CODE_DONE)
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

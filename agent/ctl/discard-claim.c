#include "ctl/discard-claim.h"

#include "common/configuration.h"
#include "common/text.h"
#include "ctl/in-force.h"
#include "ctl/wipe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Above the longest that the worker which looks at the plugins can take. */
#define PATIENCE_USEC (60 * UINT64_C(1000000))
#define BUSY_TRIES 60
#define CREDENTIAL "credential:"
#define PATH_SIZE 512 /* a line of the configuration has 200 bytes */

static const char what[] = "cannot discard the claim";

/* Where systemd looks for LoadCredentialEncrypted= and LoadCredential= and a device can write (systemd.exec(5)). */
static const char *const stores[] = {"/etc/credstore.encrypted", "/etc/credstore"};

/* Root destroys what root has written that it is, and not what the daemon says: that has fewer rights, and parses what
 * comes from programs without any. */
struct discarding {
    struct configuration *configuration; /* root's own */
    struct in_force settings;            /* what the daemon has, to tell where that is another one */
    unsigned count;                      /* of files that the methods name */
    bool failed;                         /* one of them is still there */
};

static const char *value_of(const struct configuration *configuration, const char *section, const char *key) {
    const struct configuration_entry *entry = configuration_find(configuration, section, key);
    return entry != NULL ? entry->value : "";
}

/* --- one file --- */

/* It is what all devices need to talk to the cloud, whoever else names it. */
static bool is_root_ca(const struct discarding *discarding, int file) {
    const char *path = value_of(discarding->configuration, "Cloud", "RootCA");
    struct stat one, other;
    return fstat(file, &one) == 0 && stat(path, &other) == 0 && one.st_dev == other.st_dev &&
           one.st_ino == other.st_ino;
}

static const char *destroy(const struct discarding *discarding, const char *path, int file) {
    AUTO_WIPE struct wipe wipe = WIPE_NONE;
    if (is_root_ca(discarding, file))
        return "it is RootCA=, too";
    const char *obstacle = wipe_prepare(path, file, &wipe);
    if (obstacle != NULL)
        return obstacle;
    int r = wipe_run(&wipe);
    return r < 0 ? strerror(-r) : NULL;
}

/* False: there is no such file. */
static bool discard_path(struct discarding *discarding, const char *path) {
    AUTO_CLOSE int file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (file < 0 && (errno == ENOENT || errno == ENOTDIR))
        return false;
    const char *obstacle = file < 0 ? strerror(errno) : destroy(discarding, path, file);
    if (obstacle == NULL) {
        printf("%s is overwritten and removed\n", path);
        return true;
    }
    fprintf(stderr, "enrollctl: %s is still there: %s. Do it yourself.\n", path, obstacle);
    discarding->failed = true;
    return true;
}

static void discard_credential(struct discarding *discarding, const char *id) {
    char path[PATH_SIZE];
    bool found = false;
    for (size_t i = 0; i < sizeof stores / sizeof *stores && strchr(id, '/') == NULL; i++)
        if (snprintf(path, sizeof path, "%s/%s", stores[i], id) < (int)sizeof path)
            found |= discard_path(discarding, path);
    if (!found)
        printf(CREDENTIAL "%s is neither in %s nor in %s: gone already, or given to enrolld-claim@.service from "
                          "elsewhere, where it stays\n",
               id, stores[0], stores[1]);
}

static void discard_value(struct discarding *discarding, const char *value) {
    AUTO_FREE char *printable = strdup(value);
    if (value[0] == '\0' || printable == NULL)
        return;
    text_make_printable(printable);
    discarding->count++;
    if (strcmp(printable, value) != 0) {
        fprintf(stderr, "enrollctl: %s has characters that are no text. Do it yourself.\n", printable);
        discarding->failed = true;
    } else if (strncmp(value, CREDENTIAL, strlen(CREDENTIAL)) == 0)
        discard_credential(discarding, value + strlen(CREDENTIAL));
    else if (!discard_path(discarding, value))
        printf("%s is not there\n", value);
}

/* --- which ones --- */

/* The text of ListPlugins has a line for each option: "  KEY=  what it is (file) (required)", where "(file)" stands for
 * one that only an enrolment needs. */
static bool is_claim(const char *line) {
    return strncmp(line, "  ", 2) == 0 && strstr(line, " (file)") != NULL;
}

static bool is_listed(const char *methods, const char *method) {
    static const char blanks[] = " \t";
    size_t length = strlen(method);
    for (const char *at = methods; (at = strstr(at, method)) != NULL; at += length)
        if ((at == methods || strchr(blanks, at[-1]) != NULL) && strchr(blanks, at[length]) != NULL)
            return true; /* the NUL behind the last one is found, too */
    return false;
}

static void tell_of_another(struct discarding *discarding, const char *key, const char *value) {
    AUTO_FREE char *printable = strdup(value);
    if (printable != NULL)
        text_make_printable(printable);
    fprintf(stderr,
            "enrollctl: enrolld has %s=%s in force, root's configuration has not: that file stays. Correct one of "
            "them, or do it yourself.\n",
            key, printable != NULL ? printable : "");
    discarding->failed = true;
}

static void discard_option(struct discarding *discarding, const char *method, const char *key) {
    const struct configuration *configuration = discarding->configuration;
    const struct in_force *settings = &discarding->settings;
    bool is_ours = is_listed(value_of(configuration, "Agent", "Methods"), method);
    bool is_in_force = is_listed(in_force_value(settings, "Agent", "Methods"), method);
    const char *value = is_ours ? value_of(configuration, method, key) : "";
    const char *other = is_in_force ? in_force_value(settings, method, key) : "";
    if (other[0] != '\0' && strcmp(other, value) != 0)
        tell_of_another(discarding, key, other);
    discard_value(discarding, value);
}

static void discard_of_method(struct discarding *discarding, const char *method, const char *help) {
    AUTO_FREE char *copy = strdup(help);
    char *rest = copy;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *equals = strchr(line, '=');
        if (equals == NULL || !is_claim(line))
            continue;
        *equals = '\0';
        discard_option(discarding, method, line + 2);
    }
}

/* 1 if there was another one, 0 at the end, or a negative errno. */
static int discard_next(struct discarding *discarding, sd_bus_message *reply) {
    const char *method, *help;
    int r = sd_bus_message_read(reply, "(ss)", &method, &help);
    if (r > 0)
        discard_of_method(discarding, method, help);
    return r;
}

/* A worker that lists the plugins already is done in a moment. */
static int list_plugins(sd_bus *bus, sd_bus_message **ret_reply, sd_bus_error *error) {
    static const struct timespec pause = {.tv_sec = 1};
    int r = 0;
    for (unsigned i = 0; i < BUSY_TRIES; i++) {
        r = bus_call(bus, PATIENCE_USEC, ret_reply, error, "ListPlugins", "");
        if (r >= 0 || !sd_bus_error_has_name(error, BUS_NAME ".Error.Busy"))
            return r;
        if (i + 1 < BUSY_TRIES)
            sd_bus_error_free(error);
        nanosleep(&pause, NULL);
    }
    return r;
}

static enum exit_code discard(sd_bus *bus, struct discarding *discarding) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    int r = in_force_read(bus, &discarding->settings, &error);
    if (r >= 0)
        r = list_plugins(bus, &reply, &error);
    if (r >= 0)
        r = sd_bus_message_enter_container(reply, 'a', "(ss)");
    while (r > 0)
        r = discard_next(discarding, reply);
    if (r < 0)
        return bus_complain(what, r, &error);
    if (discarding->count == 0)
        puts("root's configuration names no file to enroll by");
    return discarding->failed ? EXIT_CODE_FAILED : EXIT_CODE_DONE;
}

/* The daemon makes the flag that starts this, but whether the claim is kept is root's word. */
static bool may_discard(const struct configuration *configuration, const char *path, bool yes) {
    if (yes || strcmp(value_of(configuration, "Renewal", "KeepClaim"), "no") == 0)
        return true;
    fprintf(stderr,
            "enrollctl: %s: KeepClaim=no is not set in %s or its drop-ins, so this takes --yes; or --config=, where "
            "enrolld has that.\n",
            what, path != NULL ? path : SYSCONFDIR "/enrolld/enrolld.conf");
    return false;
}

static enum exit_code discard_by(sd_bus *bus, struct configuration *configuration) {
    AUTO_PROPERTIES struct properties properties = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    struct discarding discarding = {.configuration = configuration};
    int r = bus_get_properties(bus, BUS_USUAL_TIMEOUT, &properties, &error);
    if (r < 0)
        return bus_complain(what, r, &error);
    if (!properties_provisioned(&properties)) {
        fprintf(stderr, "enrollctl: %s: this device has no identity, and may need the claim to get one.\n", what);
        return EXIT_CODE_NOT_PROVISIONED;
    }
    enum exit_code code = discard(bus, &discarding);
    in_force_clear(&discarding.settings);
    return code;
}

enum exit_code discard_claim_run(sd_bus *bus, const char *path, bool yes) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    struct failure failure;
    if (geteuid() != 0) {
        fprintf(stderr, "enrollctl: %s: this is for root.\n", what);
        return EXIT_CODE_FAILED;
    }
    if (configuration_load_of_root(path, &configuration, &failure) < 0) {
        fprintf(stderr, "enrollctl: %s: %s.\n", what, failure.message);
        return EXIT_CODE_FAILED;
    }
    return may_discard(configuration, path, yes) ? discard_by(bus, configuration) : EXIT_CODE_FAILED;
}

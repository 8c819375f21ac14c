#include "daemon/check.h"

#include "common/cleanup.h"
#include "common/settings.h"
#include "daemon/handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_row(const struct setting_row *row, void *data) {
    char origin[512];
    (void)data;
    if (row->file == NULL)
        snprintf(origin, sizeof origin, "default");
    else
        snprintf(origin, sizeof origin, "%s:%u", row->file, row->line);
    printf("[%s] %s=%s  (%s)\n", row->section, row->key, row->value, origin);
}

static void print_warning(const char *text, void *data) {
    (void)data;
    fprintf(stderr, "warning: %s\n", text);
}

static int run_worker(const char *path, const char *worker) {
    char option[4096];
    snprintf(option, sizeof option, "--config=%s", path != NULL ? path : "");
    execl(worker, "enrolld-worker", "check-config", path != NULL ? option : NULL, NULL);
    fprintf(stderr, "cannot run %s: %s\n", worker, strerror(errno));
    return EXIT_FAILURE;
}

int check_configuration(const char *path, const char *worker) {
    AUTO_CONFIGURATION struct configuration *configuration = NULL;
    AUTO_CLOSE int file = -1;
    struct settings settings;
    struct failure failure;
    if (configuration_load(path, &configuration, &failure) < 0) {
        fprintf(stderr, "%s\n", failure.message);
        return EXIT_FAILURE;
    }
    settings_enumerate(configuration, print_row, NULL);
    if (settings_read(configuration, &settings, &failure) < 0 ||
        handover_configuration(configuration, &file, &failure) < 0) {
        fflush(stdout);
        fprintf(stderr, "%s\n", failure.message);
        return EXIT_FAILURE;
    }
    settings_warn_unknown(configuration, &settings, print_warning, NULL);
    if (fflush(stdout) != 0)
        return EXIT_FAILURE;
    if (worker == NULL && access(PKGLIBEXECDIR "/enrolld-worker", X_OK) == 0)
        worker = PKGLIBEXECDIR "/enrolld-worker";
    return worker != NULL ? run_worker(path, worker) : EXIT_SUCCESS;
}

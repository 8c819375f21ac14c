#include "worker/plugins-list.h"

#include "common/channel.h"
#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/jobs.h"
#include "worker/lockdown.h"
#include "worker/plugin-loader.h"
#include "worker/report.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 4096

static void append(char text[TEXT_MAX], const char *format, ...) __attribute__((format(printf, 2, 3)));

static void append(char text[TEXT_MAX], const char *format, ...) {
    size_t length = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + length, TEXT_MAX - length, format, arguments);
    va_end(arguments);
}

/* Line breaks are ours alone. */
static void append_words(char text[TEXT_MAX], const char *words) {
    size_t length = strlen(text);
    append(text, "%s", words != NULL ? words : "");
    text_make_printable(text + length);
}

static void append_option(char text[TEXT_MAX], const struct enrolld_plugin *plugin,
                          const struct enrolld_option *option) {
    append(text, "\n  ");
    append_words(text, option->name);
    append(text, "%s  ", option->type == ENROLLD_OPTION_PREFIX ? "NAME=" : "=");
    append_words(text, option->help);
    bool enrolls = plugin_option_serves(plugin, option, ENROLLD_USE_ENROLL);
    /* By this enrollctl discard-claim knows what is of no use any more once there is an identity. */
    if (option->type == ENROLLD_OPTION_FILE && !plugin_option_serves(plugin, option, ENROLLD_USE_RENEW))
        append(text, " (file)");
    if (option->required)
        append(text, enrolls ? " (required)" : " (required for renewals)");
    else if (!enrolls)
        append(text, " (for renewals)");
    if (option->choices != NULL) {
        append(text, " (one of: ");
        append_words(text, option->choices);
        append(text, ")");
    }
    if (option->otherwise != NULL) {
        append(text, " (default: ");
        append_words(text, option->otherwise);
        append(text, ")");
    }
}

char *plugins_describe(const struct enrolld_plugin *plugin, const char *method) {
    char text[TEXT_MAX] = "";
    const struct enrolld_method *described = plugin_method(plugin, method);
    const struct enrolld_option *option = described->options;
    append_words(text, described->help);
    for (; option->name != NULL; option = plugin_next_option(plugin, option))
        append_option(text, plugin, option);
    return strdup(text);
}

static int is_module(const struct dirent *entry) {
    size_t length = strlen(entry->d_name);
    return length > 3 && strcmp(entry->d_name + length - 3, ".so") == 0;
}

/* Without room for it a text is left out: what misses a place in the list shall at least have its name there. */
static void add(FILE *list, const char *name, const char *text) {
    if (ftell(list) + (long)(strlen(name) + strlen(text)) + 2 > MEMFD_SIZE_MAX)
        text = "";
    if (ftell(list) + (long)(strlen(name) + strlen(text)) + 2 <= MEMFD_SIZE_MAX)
        fprintf(list, "%s%c%s%c", name, '\0', text, '\0');
}

static void add_module(FILE *list, const char *file) {
    const struct enrolld_plugin *plugin = NULL;
    struct failure failure;
    char name[256];
    snprintf(name, sizeof name, "%.*s", (int)strlen(file) - 3, file);
    bool loaded = plugin_load(name, NULL, &plugin, &failure) == 0;
    AUTO_FREE char *text = loaded ? plugins_describe(plugin, name) : NULL;
    text_make_printable(name);
    add(list, name, loaded ? text != NULL ? text : "" : failure.message);
}

/* A plugin of several methods is found under its links: its own name is none. */
static bool has_link(struct dirent **entries, int count, const char *file) {
    for (int i = 0; i < count; i++) {
        AUTO_FREE char *path = NULL;
        char target[256];
        ssize_t size =
            asprintf(&path, "%s/%s", plugin_directory(), entries[i]->d_name) < 0 ? -1 : readlink(path, target, 255);
        if (size > 0 && (size_t)size == strlen(file) && memcmp(target, file, (size_t)size) == 0)
            return true;
    }
    return false;
}

static void entries_free(struct dirent **entries, int count) {
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
}

int plugins_list(char **ret, size_t *ret_size, struct failure *failure) {
    struct dirent **entries = NULL;
    const char *directory = plugin_directory();
    int count = scandir(directory, &entries, is_module, alphasort);
    if (count < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s cannot be read: %s", directory,
                           strerror(errno));
    FILE *list = open_memstream(ret, ret_size);
    for (int i = 0; list != NULL && i < count && i < PLUGINS_LIST_MAX; i++)
        if (!has_link(entries, count, entries[i]->d_name))
            add_module(list, entries[i]->d_name);
    entries_free(entries, count);
    if (list == NULL || fclose(list) != 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    return 0;
}

static void print_list(const char *list, size_t size) {
    for (const char *at = list; at < list + size;) {
        const char *text = at + strlen(at) + 1;
        printf("%s: %s\n", at, text);
        at = text + strlen(text) + 1;
    }
}

int job_plugins(struct message *result, struct failure *failure) {
    AUTO_FREE char *list = NULL;
    size_t size = 0;
    if (lockdown_finish(false, failure) < 0 || plugins_list(&list, &size, failure) < 0)
        return -1;
    if (!report_has_channel()) {
        print_list(list, size);
        return 0;
    }
    int fd = memfd_create_sealed(file_role_name(FILE_PLUGINS), list, size);
    int r = fd < 0 ? fd : message_attach(result, FILE_PLUGINS, fd);
    if (r < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "the list cannot be handed over: %s",
                           strerror(-r));
    return 0;
}

#include "worker/options.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct option_value {
    char *name;
    char *value;
    bool secret;
};

struct options {
    const struct enrolld_option *table; /* the plugin's */
    struct option_value *values;
    size_t count;
};

static const struct enrolld_option *find_option(const struct enrolld_plugin *plugin, const char *key) {
    for (const struct enrolld_option *option = plugin->options; option->name != NULL; option++) {
        size_t length = strlen(option->name);
        bool family = option->type == ENROLLD_OPTION_PREFIX;
        if (family ? strncmp(option->name, key, length) == 0 && key[length] != '\0' : strcmp(option->name, key) == 0)
            return option;
    }
    return NULL;
}

static bool is_choice(const char *choices, const char *value) {
    size_t length = strlen(value);
    for (const char *word = choices; word != NULL; word = strchr(word, ' ') != NULL ? strchr(word, ' ') + 1 : NULL)
        if (strncmp(word, value, length) == 0 && (word[length] == ' ' || word[length] == '\0'))
            return true;
    return false;
}

/* What can be said of a value without opening the file that it names. */
static int check_value(const struct configuration_entry *entry, const struct enrolld_option *option,
                       struct failure *failure) {
    enum enrolld_option_type type = option->type;
    const char *wrong = NULL;
    if (option->choices != NULL && entry->value[0] != '\0' && !is_choice(option->choices, entry->value))
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s=%.200s is not one of: %s",
                           entry->file, entry->line, entry->key, entry->value, option->choices);
    bool credential = strncmp(entry->value, "credential:", 11) == 0;
    switch (type) {
    case ENROLLD_OPTION_FILE:
        if (entry->value[0] != '/' && entry->value[0] != '\0' && !credential)
            wrong = "is neither an absolute path nor credential:ID";
        break;
    case ENROLLD_OPTION_PREFIX:
        if (strncmp(entry->value, "file:", 5) == 0)
            wrong = entry->value[5] != '/' ? "is not file: and an absolute path" : NULL;
        else if (!credential)
            wrong = specifier_judge(entry->value);
        break;
    case ENROLLD_OPTION_TEXT:
        wrong = specifier_judge(entry->value);
        break;
    }
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s=%.200s %s", entry->file,
                           entry->line, entry->key, entry->value, wrong);
    return 0;
}

int options_check(const struct configuration *configuration, const struct enrolld_plugin *plugin, const char *method,
                  struct failure *failure) {
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        if (strcmp(entry->section, method) != 0)
            continue;
        const struct enrolld_option *option = find_option(plugin, entry->key);
        if (option == NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                               "%s:%u: the method %s knows no key %s=", entry->file, entry->line, method, entry->key);
        if (check_value(entry, option, failure) < 0)
            return -1;
    }
    for (const struct enrolld_option *option = plugin->options; option->name != NULL; option++)
        if (option->required && configuration_find(configuration, method, option->name) == NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                               "%s= is missing in section [%s] of enrolld.conf", option->name, method);
    return 0;
}

void options_print_unset(const struct configuration *configuration, const struct enrolld_plugin *plugin,
                         const char *method) {
    for (const struct enrolld_option *option = plugin->options; option->name != NULL; option++)
        if (option->type != ENROLLD_OPTION_PREFIX && configuration_find(configuration, method, option->name) == NULL)
            printf("[%s] %s=%s  (default)\n", method, option->name, option->otherwise != NULL ? option->otherwise : "");
}

static int read_path(const char *path, char **ret) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    char *text = NULL;
    size_t size = 0;
    if (fd < 0)
        return -errno;
    int r = memfd_read(fd, &text, &size);
    if (r < 0)
        return r;
    if (strlen(text) != size) { /* a NUL inside: no text */
        explicit_bzero(text, size);
        free(text);
        return -EINVAL;
    }
    *ret = text;
    return 0;
}

/* credential:ID is a file of that name in the directory that systemd made for this service alone. */
static int read_credential(const char *id, char **ret) {
    const char *directory = getenv("CREDENTIALS_DIRECTORY");
    AUTO_FREE char *path = NULL;
    if (directory == NULL)
        return -ENOENT;
    if (*id == '\0' || *id == '.' || strchr(id, '/') != NULL)
        return -EINVAL;
    return asprintf(&path, "%s/%s", directory, id) < 0 ? -ENOMEM : read_path(path, ret);
}

static int read_secret(const struct configuration_entry *entry, const char *source, char **ret,
                       struct failure *failure) {
    int r = -EINVAL;
    if (strncmp(source, "credential:", 11) == 0)
        r = read_credential(source + 11, ret);
    else if (source[0] == '/')
        r = read_path(source, ret);
    if (r == 0)
        return 0;
    failure_record(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s=%.200s cannot be read: %s", entry->file,
                   entry->line, entry->key, source, r == -EINVAL ? "it is not text, or not a legal ID" : strerror(-r));
    failure->unusable = true;
    return -1;
}

static void trim_end(char *text) {
    size_t length = strlen(text);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
        text[--length] = '\0';
}

static int read_value(const struct configuration_entry *entry, enum enrolld_option_type type,
                      const struct specifier_values *values, char **ret, struct failure *failure) {
    switch (type) {
    case ENROLLD_OPTION_TEXT:
        return specifier_expand(entry->value, values, entry->key, ret, failure);
    case ENROLLD_OPTION_FILE:
        return read_secret(entry, entry->value, ret, failure);
    case ENROLLD_OPTION_PREFIX: {
        const char *file = strncmp(entry->value, "file:", 5) == 0 ? entry->value + 5 : entry->value;
        if (file == entry->value && strncmp(entry->value, "credential:", 11) != 0)
            return specifier_expand(entry->value, values, entry->key, ret, failure);
        if (read_secret(entry, file, ret, failure) < 0 || *ret == NULL)
            return -1;
        trim_end(*ret);
        return 0;
    }
    }
    return -1;
}

static int add_value(struct options *options, const struct configuration_entry *entry, enum enrolld_option_type type,
                     const struct specifier_values *values, struct failure *failure) {
    struct option_value *grown = realloc(options->values, (options->count + 1) * sizeof *grown);
    char *name = strdup(entry->key);
    if (grown != NULL)
        options->values = grown;
    if (grown == NULL || name == NULL) {
        free(name);
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    }
    bool named = strncmp(entry->value, "file:", 5) == 0 || strncmp(entry->value, "credential:", 11) == 0;
    options->values[options->count++] = (struct option_value){
        .name = name, .secret = type == ENROLLD_OPTION_FILE || (type == ENROLLD_OPTION_PREFIX && named)};
    return read_value(entry, type, values, &options->values[options->count - 1].value, failure);
}

int options_read(const struct configuration *configuration, const struct enrolld_plugin *plugin, const char *method,
                 const struct specifier_values *values, struct options **ret, struct failure *failure) {
    if (options_check(configuration, plugin, method, failure) < 0)
        return -1;
    struct options *options = calloc(1, sizeof *options);
    if (options == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    options->table = plugin->options;
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        const struct enrolld_option *option = find_option(plugin, entry->key);
        if (strcmp(entry->section, method) != 0 || option == NULL ||
            configuration_find(configuration, entry->section, entry->key) != entry)
            continue;
        if (add_value(options, entry, option->type, values, failure) < 0) {
            options_free(options);
            return -1;
        }
    }
    *ret = options;
    return 0;
}

const char *options_get(const struct options *options, const char *name) {
    for (size_t i = 0; i < options->count; i++)
        if (strcmp(options->values[i].name, name) == 0 && options->values[i].value[0] != '\0')
            return options->values[i].value;
    for (const struct enrolld_option *option = options->table; option->name != NULL; option++)
        if (strcmp(option->name, name) == 0)
            return option->otherwise;
    return NULL;
}

bool options_is_secret(const struct options *options, const char *name) {
    for (size_t i = 0; i < options->count; i++)
        if (strcmp(options->values[i].name, name) == 0)
            return options->values[i].secret;
    return false;
}

bool options_next(const struct options *options, const char *prefix, size_t *position, const char **name,
                  const char **value) {
    size_t length = strlen(prefix);
    for (; *position < options->count; (*position)++)
        if (strncmp(options->values[*position].name, prefix, length) == 0) {
            *name = options->values[*position].name + length;
            *value = options->values[(*position)++].value;
            return true;
        }
    return false;
}

struct options *options_free(struct options *options) {
    if (options == NULL)
        return NULL;
    for (size_t i = 0; i < options->count; i++) {
        if (options->values[i].value != NULL)
            explicit_bzero(options->values[i].value, strlen(options->values[i].value));
        free(options->values[i].value);
        free(options->values[i].name);
    }
    free(options->values);
    free(options);
    return NULL;
}

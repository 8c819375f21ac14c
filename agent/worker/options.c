#include "worker/options.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "common/text.h"
#include "worker/plugin-loader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct option_value {
    char *name;
    char *value;
    enum enrolld_option_type type;
    bool secret;
    bool is_default; /* the plugin's: nobody has set it */
};

struct options {
    struct option_value *values;
    size_t count;
};

static const struct enrolld_option *first_option(const struct enrolld_plugin *plugin, const char *method) {
    return plugin_method(plugin, method)->options;
}

static const struct enrolld_option *find_option(const struct enrolld_plugin *plugin, const char *method,
                                                const char *key) {
    const struct enrolld_option *option = first_option(plugin, method);
    for (; option->name != NULL; option = plugin_next_option(plugin, option)) {
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

/* What can be said of a value without opening the file that it names; NULL for nothing. */
static const char *judge_value(const char *value, enum enrolld_option_type type) {
    bool credential = strncmp(value, "credential:", 11) == 0;
    uint64_t span_ms;
    switch (type) {
    case ENROLLD_OPTION_FILE:
        return value[0] != '/' && value[0] != '\0' && !credential ? "is neither an absolute path nor credential:ID"
                                                                  : NULL;
    case ENROLLD_OPTION_PREFIX:
        if (strncmp(value, "file:", 5) == 0)
            return value[5] != '/' ? "is not file: and an absolute path" : NULL;
        return credential ? NULL : specifier_judge(value);
    case ENROLLD_OPTION_TEXT:
        return specifier_judge(value);
    case ENROLLD_OPTION_SPAN:
        return value[0] != '\0' && text_to_span(value, &span_ms) < 0
                   ? "is no time span of at most 365 days: one number and one of ms, s, min, h, d, like 30min"
                   : NULL;
    }
    return NULL;
}

/* A renewal runs where no credentials are: one that cannot be opened would stop the renewals of a whole fleet. */
static bool is_out_of_reach(const struct enrolld_plugin *plugin, const struct enrolld_option *option,
                            const char *value) {
    bool may_name = option->type == ENROLLD_OPTION_FILE || option->type == ENROLLD_OPTION_PREFIX;
    return may_name && strncmp(value, "credential:", 11) == 0 &&
           !plugin_option_serves(plugin, option, ENROLLD_USE_ENROLL);
}

static int check_entry(const struct configuration_entry *entry, const struct enrolld_plugin *plugin,
                       const struct enrolld_option *option, struct failure *failure) {
    const char *wrong = judge_value(entry->value, option->type);
    if (is_out_of_reach(plugin, option, entry->value))
        wrong = "is a credential, and there are none where identities are renewed";
    if (option->choices != NULL && entry->value[0] != '\0' && !is_choice(option->choices, entry->value))
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s=%.200s is not one of: %s",
                           entry->file, entry->line, entry->key, entry->value, option->choices);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s=%.200s %s", entry->file,
                           entry->line, entry->key, entry->value, wrong);
    return 0;
}

static bool has_default(const struct enrolld_option *option) {
    return option->otherwise != NULL && (option->type == ENROLLD_OPTION_TEXT || option->type == ENROLLD_OPTION_SPAN);
}

/* The file of whoever would have to say more: the section's, else the one that names the method. */
static const char *file_of(const struct configuration *configuration, const char *method) {
    const struct configuration_entry *methods = configuration_find(configuration, "Agent", "Methods");
    for (size_t i = configuration->count; i > 0; i--)
        if (strcmp(configuration->entries[i - 1].section, method) == 0)
            return configuration->entries[i - 1].file;
    return methods != NULL ? methods->file : "enrolld.conf";
}

/* What is not set. */
static int check_unset(const struct configuration *configuration, const struct enrolld_option *option, bool required,
                       const char *method, struct failure *failure) {
    if (required)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s= is missing in section [%s] of %s",
                           option->name, method, file_of(configuration, method));
    const char *wrong = has_default(option) ? judge_value(option->otherwise, option->type) : NULL;
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "the plugin's own default of %s= in section [%s], %.200s, %s", option->name, method,
                           option->otherwise, wrong);
    return 0;
}

int options_check(const struct configuration *configuration, const struct enrolld_plugin *plugin, const char *method,
                  enum enrolld_option_use use, struct failure *failure) {
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        if (strcmp(entry->section, method) != 0)
            continue;
        const struct enrolld_option *option = find_option(plugin, method, entry->key);
        if (option == NULL)
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                               "%s:%u: the method %s knows no key %s=", entry->file, entry->line, method, entry->key);
        if (check_entry(entry, plugin, option, failure) < 0)
            return -1;
    }
    const struct enrolld_option *option = first_option(plugin, method);
    for (; option->name != NULL; option = plugin_next_option(plugin, option))
        if (configuration_find(configuration, method, option->name) == NULL &&
            check_unset(configuration, option, option->required && plugin_option_serves(plugin, option, use), method,
                        failure) < 0)
            return -1;
    return 0;
}

void options_print_unset(const struct configuration *configuration, const struct enrolld_plugin *plugin,
                         const char *method) {
    const struct enrolld_option *option = first_option(plugin, method);
    for (; option->name != NULL; option = plugin_next_option(plugin, option))
        if (option->type != ENROLLD_OPTION_PREFIX && configuration_find(configuration, method, option->name) == NULL)
            printf("[%s] %s=%s  (default)\n", method, option->name, has_default(option) ? option->otherwise : "");
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
    case ENROLLD_OPTION_SPAN:
        *ret = strdup(entry->value);
        return *ret != NULL ? 0 : failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
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
        .name = name,
        .type = type,
        .secret = type == ENROLLD_OPTION_FILE || (type == ENROLLD_OPTION_PREFIX && named),
        .is_default = entry->file == NULL,
    };
    return read_value(entry, type, values, &options->values[options->count - 1].value, failure);
}

static int add_set(struct options *options, const struct configuration *configuration,
                   const struct enrolld_plugin *plugin, const char *method, enum enrolld_option_use use,
                   const struct specifier_values *values, struct failure *failure) {
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        if (strcmp(entry->section, method) != 0 || configuration_find(configuration, method, entry->key) != entry)
            continue;
        const struct enrolld_option *option = find_option(plugin, method, entry->key);
        if (option != NULL && plugin_option_serves(plugin, option, use) &&
            add_value(options, entry, option->type, values, failure) < 0)
            return -1;
    }
    return 0;
}

static int add_defaults(struct options *options, const struct configuration *configuration,
                        const struct enrolld_plugin *plugin, const char *method, enum enrolld_option_use use,
                        const struct specifier_values *values, struct failure *failure) {
    const struct enrolld_option *option = first_option(plugin, method);
    for (; option->name != NULL; option = plugin_next_option(plugin, option)) {
        const struct configuration_entry entry = {.key = (char *)option->name, .value = (char *)option->otherwise};
        if (has_default(option) && plugin_option_serves(plugin, option, use) &&
            configuration_find(configuration, method, option->name) == NULL &&
            add_value(options, &entry, option->type, values, failure) < 0)
            return -1;
    }
    return 0;
}

int options_read(const struct configuration *configuration, const struct enrolld_plugin *plugin, const char *method,
                 enum enrolld_option_use use, const struct specifier_values *values, struct options **ret,
                 struct failure *failure) {
    if (options_check(configuration, plugin, method, use, failure) < 0)
        return -1;
    struct options *options = calloc(1, sizeof *options);
    if (options == NULL)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    if (add_set(options, configuration, plugin, method, use, values, failure) < 0 ||
        add_defaults(options, configuration, plugin, method, use, values, failure) < 0) {
        options_free(options);
        return -1;
    }
    *ret = options;
    return 0;
}

static const struct option_value *find_value(const struct options *options, const char *name) {
    for (size_t i = 0; i < options->count; i++)
        if (strcmp(options->values[i].name, name) == 0)
            return &options->values[i];
    return NULL;
}

const char *options_get(const struct options *options, const char *name) {
    const struct option_value *found = find_value(options, name);
    return found != NULL && found->value[0] != '\0' ? found->value : NULL;
}

uint64_t options_get_span_ms(const struct options *options, const char *name) {
    const char *value = options_get(options, name);
    uint64_t span_ms = 0;
    if (value != NULL)
        (void)text_to_span(value, &span_ms); /* judged when it was read; 0 for what is no span */
    return span_ms;
}

bool options_is_secret(const struct options *options, const char *name) {
    const struct option_value *found = find_value(options, name);
    return found != NULL && found->secret;
}

bool options_is_file(const struct options *options, const char *name) {
    const struct option_value *found = find_value(options, name);
    return found != NULL && found->type == ENROLLD_OPTION_FILE;
}

bool options_next(const struct options *options, const char *prefix, size_t *position, const char **name,
                  const char **value) {
    size_t length = strlen(prefix);
    for (; *position < options->count; (*position)++)
        if (!options->values[*position].is_default && strncmp(options->values[*position].name, prefix, length) == 0) {
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

#include "common/configuration.h"

#include "common/cleanup.h"
#include "common/memfd.h"
#include "common/step.h"
#include "common/text.h"

#include <ini.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#ifndef SYSCONFDIR
#define SYSCONFDIR "/etc"
#endif

#define DROP_INS "/enrolld/enrolld.conf.d"

static const char *const everywhere[] = {SYSCONFDIR DROP_INS, "/run" DROP_INS, "/usr/lib" DROP_INS, NULL};
static const char *const of_root[] = {SYSCONFDIR DROP_INS, "/usr/lib" DROP_INS, NULL};

struct configuration *configuration_new(void) {
    return calloc(1, sizeof(struct configuration));
}

struct configuration *configuration_free(struct configuration *configuration) {
    if (configuration == NULL)
        return NULL;
    for (size_t i = 0; i < configuration->count; i++) {
        struct configuration_entry *entry = &configuration->entries[i];
        free(entry->section);
        free(entry->key);
        free(entry->value);
        free(entry->file);
    }
    free(configuration->entries);
    free(configuration);
    return NULL;
}

void configuration_cleanup(struct configuration **configuration) {
    configuration_free(*configuration);
}

static int add_entry(struct configuration *configuration, const char *section, const char *key, const char *value,
                     const char *file, unsigned line) {
    if (configuration->count == CONFIGURATION_ENTRIES_MAX)
        return -E2BIG;
    struct configuration_entry *entries =
        realloc(configuration->entries, (configuration->count + 1) * sizeof *configuration->entries);
    if (entries == NULL)
        return -ENOMEM;
    configuration->entries = entries;
    struct configuration_entry *entry = &entries[configuration->count++];
    *entry = (struct configuration_entry){strdup(section), strdup(key), strdup(value), strdup(file), line};
    return entry->section && entry->key && entry->value && entry->file ? 0 : -ENOMEM;
}

/* Feeds the INI library line by line, so that line numbers are known whatever options it was built with, and so that
 * a line too long for it is an error and not two lines. */
struct source {
    struct configuration *configuration;
    const char *file;
    const char *position, *end;
    unsigned line;
    bool too_long;
    int error; /* of the first entry that could not be taken */
    unsigned error_line;
};

static char *read_line(char *line, int size, void *data) {
    struct source *source = data;
    if (source->position >= source->end || source->too_long)
        return NULL;
    const char *newline = memchr(source->position, '\n', (size_t)(source->end - source->position));
    const char *end = newline != NULL ? newline : source->end;
    source->line++;
    /* A leading blank would make it a continuation line for the library; systemd ignores such blanks, so do we. */
    while (source->position < end && (*source->position == ' ' || *source->position == '\t'))
        source->position++;
    size_t length = (size_t)(end - source->position);
    if (length + 2 > (size_t)size) {
        source->too_long = true;
        return NULL;
    }
    memcpy(line, source->position, length);
    memcpy(line + length, "\n", 2);
    source->position = end + 1;
    return line;
}

static int on_entry(void *data, const char *section, const char *key, const char *value) {
    struct source *source = data;
    if (key == NULL || value == NULL) /* a section header, in builds of the library that report it */
        return 1;
    int r = -EINVAL;
    /* No worker could be told: configuration_serialize(). The library cuts a long section, even amid a character. */
    if (strchr(section, '\t') != NULL || strchr(key, '\t') != NULL || !text_is_utf8(section, strlen(section)) ||
        !text_is_utf8(key, strlen(key)))
        r = -EILSEQ;
    else if (*section != '\0' && *key != '\0')
        r = add_entry(source->configuration, section, key, value, source->file, source->line);
    if (r < 0 && source->error == 0) {
        source->error = r;
        source->error_line = source->line;
    }
    return r == 0;
}

/* The library goes on after an error and returns the line of the first; only that one is told. */
static int source_failure(const struct source *source, unsigned bad_line, struct failure *failure) {
    unsigned line = bad_line > 0 ? bad_line : source->line;
    const char *what = "this is neither [Section] nor Key=Value";
    if (source->error != 0 && source->error_line == line)
        what = source->error == -E2BIG    ? "there are too many settings"
               : source->error == -ENOMEM ? "out of memory"
               : source->error == -EILSEQ ? "a section or the name of a setting is too long, or holds a tab"
                                          : "a setting needs a [Section] above it and a name";
    else if (source->too_long && bad_line == 0)
        what = "the line is too long";
    return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s:%u: %s", source->file, line, what);
}

int configuration_parse(struct configuration *configuration, const char *text, size_t size, const char *file,
                        struct failure *failure) {
    struct source source = {.configuration = configuration, .file = file, .position = text, .end = text + size};
    if (!text_is_utf8(text, size))
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s: this is not UTF-8 text", file);
    int bad_line = ini_parse_stream(read_line, &source, on_entry, &source);
    if (bad_line != 0 || source.too_long || source.error < 0)
        return source_failure(&source, bad_line > 0 ? (unsigned)bad_line : 0, failure);
    return 0;
}

/* A missing file is no failure where `optional` says so. */
static int load_file(struct configuration *configuration, const char *path, bool optional, struct failure *failure) {
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && optional)
        return 0;
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    int r = fd < 0 ? -errno : memfd_read(fd, &text, &size);
    if (r < 0)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s: %s", path, strerror(-r));
    return configuration_parse(configuration, text, size, path, failure);
}

static int is_drop_in(const struct dirent *entry) {
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

struct drop_in {
    char name[256];
    const char *directory;
};

static int compare_drop_ins(const void *a, const void *b) {
    return strcmp(((const struct drop_in *)a)->name, ((const struct drop_in *)b)->name);
}

/* Adds the drop-ins of one directory that no earlier directory has by the same name. */
static int list_drop_ins(const char *directory, struct drop_in **drop_ins, size_t *count) {
    struct dirent **names = NULL;
    int n = scandir(directory, &names, is_drop_in, alphasort), r = 0;
    if (n < 0 && errno != ENOENT)
        return -errno;
    for (int i = 0; i < n; i++) {
        bool hidden = false;
        for (size_t k = 0; k < *count; k++)
            hidden = hidden || strcmp((*drop_ins)[k].name, names[i]->d_name) == 0;
        struct drop_in *more = hidden || r < 0 ? NULL : realloc(*drop_ins, (*count + 1) * sizeof **drop_ins);
        if (more != NULL) {
            *drop_ins = more;
            snprintf(more[*count].name, sizeof more[*count].name, "%s", names[i]->d_name);
            more[(*count)++].directory = directory;
        } else if (!hidden)
            r = -ENOMEM;
        free(names[i]);
    }
    free(names);
    return r;
}

static int load_drop_ins(struct configuration *configuration, const char *const *directories, struct failure *failure) {
    AUTO_FREE struct drop_in *drop_ins = NULL;
    size_t count = 0;
    int r;
    for (size_t i = 0; directories[i] != NULL; i++)
        if ((r = list_drop_ins(directories[i], &drop_ins, &count)) < 0)
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s: %s", directories[i], strerror(-r));
    if (count > 0)
        qsort(drop_ins, count, sizeof *drop_ins, compare_drop_ins);
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *path = NULL;
        if (asprintf(&path, "%s/%s", drop_ins[i].directory, drop_ins[i].name) < 0)
            return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
        if (load_file(configuration, path, false, failure) < 0)
            return -1;
    }
    return 0;
}

static int load(const char *path, const char *const *usual, struct configuration **ret, struct failure *failure) {
    AUTO_CONFIGURATION struct configuration *configuration = configuration_new();
    AUTO_FREE char *directory = NULL;
    if (configuration == NULL || (path != NULL && asprintf(&directory, "%s.d", path) < 0))
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    const char *const beside[] = {directory, NULL};
    if (load_file(configuration, path != NULL ? path : SYSCONFDIR "/enrolld/enrolld.conf", path == NULL, failure) < 0)
        return -1;
    if (load_drop_ins(configuration, path != NULL ? beside : usual, failure) < 0)
        return -1;
    *ret = TAKE_POINTER(configuration);
    return 0;
}

int configuration_load(const char *path, struct configuration **ret, struct failure *failure) {
    return load(path, everywhere, ret, failure);
}

int configuration_load_of_root(const char *path, struct configuration **ret, struct failure *failure) {
    return load(path, of_root, ret, failure);
}

/* One entry a line: file, line, section, key, value, separated by tabs; the value may hold tabs, being last. */
int configuration_serialize(const struct configuration *configuration, char **ret_text, size_t *ret_size) {
    AUTO_FREE char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    if (stream == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < configuration->count; i++) {
        const struct configuration_entry *entry = &configuration->entries[i];
        fprintf(stream, "%s\t%u\t%s\t%s\t%s\n", entry->file, entry->line, entry->section, entry->key, entry->value);
    }
    if (fclose(stream) != 0)
        return -ENOMEM;
    *ret_text = TAKE_POINTER(text);
    *ret_size = size;
    return 0;
}

static int deserialize_line(struct configuration *configuration, char *line) {
    char *file = strsep(&line, "\t"), *number = strsep(&line, "\t"), *section = strsep(&line, "\t"),
         *key = strsep(&line, "\t");
    uint64_t value;
    if (line == NULL || *section == '\0' || *key == '\0' || text_to_u64(number, &value) < 0 || value > 1000000)
        return -EBADMSG;
    return add_entry(configuration, section, key, line, file, (unsigned)value);
}

int configuration_deserialize(const char *text, size_t size, struct configuration **ret) {
    AUTO_CONFIGURATION struct configuration *configuration = configuration_new();
    AUTO_FREE char *copy = strndup(text, size);
    if (configuration == NULL || copy == NULL)
        return -ENOMEM;
    if (!text_is_utf8(text, size) || (size > 0 && text[size - 1] != '\n'))
        return -EBADMSG;
    char *rest = copy;
    for (char *line = strsep(&rest, "\n"); line != NULL && rest != NULL; line = strsep(&rest, "\n")) {
        int r = deserialize_line(configuration, line);
        if (r < 0)
            return r;
    }
    *ret = TAKE_POINTER(configuration);
    return 0;
}

const struct configuration_entry *configuration_find(const struct configuration *configuration, const char *section,
                                                     const char *key) {
    for (size_t i = configuration->count; i > 0; i--) {
        const struct configuration_entry *entry = &configuration->entries[i - 1];
        if (strcmp(entry->section, section) == 0 && strcmp(entry->key, key) == 0)
            return *entry->value != '\0' ? entry : NULL;
    }
    return NULL;
}

#include "worker/plugin-loader.h"

#include "common/cleanup.h"
#include "common/step.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* In a directory with the sticky bit, like /tmp, others cannot replace an entry that is not theirs. */
static bool is_safe(const struct stat *status) {
    bool own = status->st_uid == 0 || status->st_uid == geteuid();
    bool others_write = (status->st_mode & (S_IWGRP | S_IWOTH)) != 0;
    return own && (!others_write || (S_ISDIR(status->st_mode) && (status->st_mode & S_ISVTX) != 0));
}

static int check_path(const char *path, struct failure *failure) {
    char part[PATH_MAX];
    for (const char *slash = path; slash != NULL; slash = strchr(slash + 1, '/')) {
        const char *end = strchr(slash + 1, '/');
        size_t length = end != NULL ? (size_t)(end - path) : strlen(path);
        struct stat status;
        memcpy(part, path, length);
        part[length] = '\0';
        if (stat(part, &status) < 0)
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s: %s", part, strerror(errno));
        if (!is_safe(&status))
            return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                               "%s can be changed by others than root: no plugin is loaded from there", part);
    }
    return 0;
}

const struct enrolld_method *plugin_method(const struct enrolld_plugin *plugin, const char *name) {
    const char *at = (const char *)plugin->methods;
    for (; at != NULL && ((const struct enrolld_method *)at)->name != NULL; at += plugin->method_size)
        if (strcmp(((const struct enrolld_method *)at)->name, name) == 0)
            return (const struct enrolld_method *)at;
    return NULL;
}

const struct enrolld_option *plugin_next_option(const struct enrolld_plugin *plugin,
                                                const struct enrolld_option *option) {
    return (const struct enrolld_option *)((const char *)option + plugin->option_size);
}

#define SIZE_UP_TO(object, member) (offsetof(object, member) + sizeof(((object *)NULL)->member))

/* Later members: they are read where the plugin's own size says that they are there. */
static enum enrolld_option_use use_of(const struct enrolld_plugin *plugin, const struct enrolld_option *option) {
    return plugin->option_size >= SIZE_UP_TO(struct enrolld_option, use) ? option->use : ENROLLD_USE_ENROLL;
}

bool plugin_option_serves(const struct enrolld_plugin *plugin, const struct enrolld_option *option,
                          enum enrolld_option_use use) {
    enum enrolld_option_use own = use_of(plugin, option);
    return own == ENROLLD_USE_BOTH || own == use;
}

bool plugin_can_renew(const struct enrolld_plugin *plugin) {
    return plugin->size >= SIZE_UP_TO(struct enrolld_plugin, renew) && plugin->renew != NULL;
}

/* Of the first header of this interface: nothing behind these members is read elsewhere. */
#define PLUGIN_SIZE_MIN SIZE_UP_TO(struct enrolld_plugin, enroll)
#define METHOD_SIZE_MIN SIZE_UP_TO(struct enrolld_method, imports)
#define OPTION_SIZE_MIN SIZE_UP_TO(struct enrolld_option, otherwise)

static bool is_older(const struct enrolld_plugin *plugin) {
    return plugin->abi != ENROLLD_PLUGIN_ABI || plugin->size < PLUGIN_SIZE_MIN ||
           plugin->method_size < METHOD_SIZE_MIN || plugin->option_size < OPTION_SIZE_MIN;
}

/* One with a larger struct was built with a newer header, and may count on what the members do that are not known
 * here. */
static bool is_newer(const struct enrolld_plugin *plugin) {
    return plugin->size > sizeof *plugin || plugin->host_size > sizeof(struct enrolld_host) ||
           plugin->method_size > sizeof(struct enrolld_method) || plugin->option_size > sizeof(struct enrolld_option);
}

/* A value behind the last one that is known here changes no size. */
static bool has_newer_value(const struct enrolld_plugin *plugin, const struct enrolld_method *method) {
    const struct enrolld_option *option = method->options;
    for (; option->name != NULL; option = plugin_next_option(plugin, option))
        if ((unsigned)option->type > ENROLLD_OPTION_SPAN || (unsigned)use_of(plugin, option) > ENROLLD_USE_BOTH)
            return true;
    return false;
}

static int judge(const struct enrolld_plugin *plugin, const char *name, const char *path, struct failure *failure) {
    if (is_older(plugin))
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "%s was built for another enrolld (plugin interface %u, here %u): build it again", path,
                           plugin->abi, (unsigned)ENROLLD_PLUGIN_ABI);
    const struct enrolld_method *method = is_newer(plugin) ? NULL : plugin_method(plugin, name);
    if (is_newer(plugin) || (method != NULL && method->options != NULL && has_newer_value(plugin, method)))
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                           "%s was built for a newer enrolld than this one, %s", path, PACKAGE_VERSION);
    if (method == NULL || method->options == NULL || plugin->enroll == NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s has no method %s", path, name);
    return 0;
}

const char *plugin_directory(void) {
    const char *directory = getenv("ENROLLD_PLUGIN_DIR");
    return directory != NULL ? directory : PLUGINS_DIR;
}

static int fail_missing(const char *name, const char *path, const struct configuration_entry *methods,
                        struct failure *failure) {
    char where[300] = "";
    int error = errno;
    if (methods != NULL)
        snprintf(where, sizeof where, "%.250s:%u: ", methods->file, methods->line);
    return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION,
                       "%sthere is no plugin for the method %s: %s (%s); `enrollctl plugins` lists the methods", where,
                       name, path, strerror(error));
}

/* The file that the name stands for. A link may lead to another module of the directory: one plugin, several methods.
 */
static int find(const char *name, const struct configuration_entry *methods, char resolved[PATH_MAX],
                struct failure *failure) {
    AUTO_FREE char *path = NULL;
    char directory[PATH_MAX];
    if (asprintf(&path, "%s/%s.so", plugin_directory(), name) < 0)
        return failure_set(failure, FAILURE_INTERNAL, STEP_CONFIGURATION, "out of memory");
    if (realpath(path, resolved) == NULL || realpath(plugin_directory(), directory) == NULL)
        return fail_missing(name, path, methods, failure);
    size_t length = strlen(directory);
    if (strncmp(resolved, directory, length) != 0 || resolved[length] != '/')
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s leads out of the plugin directory, to %s",
                           path, resolved);
    return 0;
}

int plugin_load(const char *name, const struct configuration_entry *methods, const struct enrolld_plugin **ret,
                struct failure *failure) {
    char resolved[PATH_MAX];
    if (find(name, methods, resolved, failure) < 0)
        return -1;
    if (check_path(resolved, failure) < 0)
        return -1;
    void *handle = dlopen(resolved, RTLD_NOW | RTLD_LOCAL);
    const struct enrolld_plugin *plugin = handle != NULL ? dlsym(handle, "enrolld_plugin") : NULL;
    if (plugin == NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s cannot be loaded: %s", resolved,
                           dlerror());
    if (judge(plugin, name, resolved, failure) < 0)
        return -1;
    *ret = plugin;
    return 0;
}

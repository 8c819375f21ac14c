#include "daemon/bus-private.h"

#include "daemon/group.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* As the bus knows it. */
struct caller {
    uint32_t uid;
    bool is_admin, is_user; /* a member of these groups */
};

static bool has_group(const uint32_t *groups, size_t count, const char *name) {
    gid_t wanted;
    if (group_find(name, &wanted) < 0)
        return false;
    for (size_t i = 0; i < count; i++)
        if (groups[i] == wanted)
            return true;
    return false;
}

static int read_groups(sd_bus_message *reply, struct caller *caller) {
    const void *array = NULL;
    size_t size = 0;
    int r = sd_bus_message_enter_container(reply, 'v', "au");
    if (r >= 0)
        r = sd_bus_message_read_array(reply, 'u', &array, &size);
    if (r >= 0)
        r = sd_bus_message_exit_container(reply);
    if (r < 0)
        return r;
    caller->is_admin = caller->is_admin || has_group(array, size / sizeof(uint32_t), GROUP_ADMIN);
    caller->is_user = caller->is_user || has_group(array, size / sizeof(uint32_t), GROUP_IDENTITY);
    return 0;
}

static int read_caller(sd_bus_message *reply, struct caller *caller) {
    int r = sd_bus_message_enter_container(reply, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
        const char *name = NULL;
        r = sd_bus_message_read(reply, "s", &name);
        if (r < 0)
            break;
        if (strcmp(name, "UnixUserID") == 0)
            r = sd_bus_message_read(reply, "v", "u", &caller->uid);
        else if (strcmp(name, "UnixGroupIDs") == 0)
            r = read_groups(reply, caller);
        else
            r = sd_bus_message_skip(reply, "v");
        if (r >= 0)
            r = sd_bus_message_exit_container(reply);
    }
    return r;
}

/* GetConnectionCredentials of the D-Bus specification does not race with the caller's end as /proc would, and is right
 * in a user namespace. sd_bus_query_sender_creds(3) cannot: it learns groups from /proc only. Its own user may do all:
 * so that who runs the daemon by hand controls it. In service that is "enrolld", whose calls, those of a worker among
 * them, the policy of the bus lets through no more than those of its group. */
static bool find_caller(sd_bus_message *message, struct caller *ret) {
    sd_bus_message *reply = NULL;
    struct caller caller = {.uid = UINT32_MAX};
    int r = sd_bus_call_method(sd_bus_message_get_bus(message), "org.freedesktop.DBus", "/org/freedesktop/DBus",
                               "org.freedesktop.DBus", "GetConnectionCredentials", NULL, &reply, "s",
                               sd_bus_message_get_sender(message));
    if (r >= 0)
        r = read_caller(reply, &caller);
    sd_bus_message_unref(reply);
    caller.is_admin = caller.is_admin || caller.uid == 0 || caller.uid == geteuid();
    *ret = caller;
    return r >= 0;
}

int bus_authorize(sd_bus_message *message, sd_bus_error *error) {
    struct caller caller;
    if (find_caller(message, &caller) && caller.is_admin)
        return 0;
    return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
                            "Only root and members of the group " GROUP_ADMIN " may do this");
}

int bus_authorize_user(sd_bus_message *message, sd_bus_error *error) {
    struct caller caller;
    if (find_caller(message, &caller) && (caller.is_admin || caller.is_user))
        return 0;
    return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
                            "Only root and members of the groups " GROUP_ADMIN " and " GROUP_IDENTITY " may do this");
}

#include "daemon/bus-private.h"

#include "daemon/group.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* The array of group numbers: is that of the administrators among them? */
static int read_groups(sd_bus_message *reply, bool *ret) {
    gid_t admin;
    bool known = group_find(GROUP_ADMIN, &admin) == 0;
    const void *array = NULL;
    size_t size = 0;
    int r = sd_bus_message_enter_container(reply, 'v', "au");
    if (r >= 0)
        r = sd_bus_message_read_array(reply, 'u', &array, &size);
    if (r >= 0)
        r = sd_bus_message_exit_container(reply);
    for (size_t i = 0; i < size / sizeof(uint32_t) && known && r >= 0; i++)
        if (((const uint32_t *)array)[i] == admin)
            *ret = true;
    return r;
}

/* True if one of the dictionary's entries lets the caller in. */
static bool is_allowed(sd_bus_message *reply) {
    uint32_t uid = UINT32_MAX;
    bool in_group = false;
    int r = sd_bus_message_enter_container(reply, 'a', "{sv}");
    while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
        const char *name = NULL;
        r = sd_bus_message_read(reply, "s", &name);
        if (r < 0)
            break;
        if (strcmp(name, "UnixUserID") == 0)
            r = sd_bus_message_read(reply, "v", "u", &uid);
        else if (strcmp(name, "UnixGroupIDs") == 0)
            r = read_groups(reply, &in_group);
        else
            r = sd_bus_message_skip(reply, "v");
        if (r >= 0)
            r = sd_bus_message_exit_container(reply);
    }
    /* Its own user: so that who runs the daemon by hand controls it. In service that is "enrolld", whose calls, those
     * of a worker among them, the policy of the bus lets through no more than anybody's. */
    return r >= 0 && (uid == 0 || uid == geteuid() || in_group);
}

/* Root, the daemon's own user, the group: as the bus knows the caller (GetConnectionCredentials of the D-Bus
 * specification), which does not race with the caller's end as /proc would, and is right in a user namespace.
 * sd_bus_query_sender_creds(3) cannot: it learns groups from /proc only. */
int bus_authorize(sd_bus_message *message, sd_bus_error *error) {
    sd_bus_message *reply = NULL;
    bool allowed = false;
    if (sd_bus_call_method(sd_bus_message_get_bus(message), "org.freedesktop.DBus", "/org/freedesktop/DBus",
                           "org.freedesktop.DBus", "GetConnectionCredentials", NULL, &reply, "s",
                           sd_bus_message_get_sender(message)) >= 0)
        allowed = is_allowed(reply);
    sd_bus_message_unref(reply);
    if (allowed)
        return 0;
    return sd_bus_error_set(error, SD_BUS_ERROR_ACCESS_DENIED,
                            "Only root and members of the group " GROUP_ADMIN " may do this");
}

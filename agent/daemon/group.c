#include "daemon/group.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>

int group_find(const char *name, gid_t *ret) {
    FILE *file = fopen("/etc/group", "re");
    const struct group *group = NULL;
    if (file == NULL)
        return -ENOENT;
    do
        group = fgetgrent(file);
    while (group != NULL && strcmp(group->gr_name, name) != 0);
    if (group != NULL)
        *ret = group->gr_gid;
    fclose(file);
    return group != NULL ? 0 : -ENOENT;
}

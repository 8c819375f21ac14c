/* The system groups that enrolld knows; each may be missing from /etc/group. */
#pragma once

#include <sys/types.h>

#define GROUP_ADMIN "enrolld-admin"       /* may control the agent on D-Bus */
#define GROUP_IDENTITY "enrolld-identity" /* may read the identity */

/* Finds a group in /etc/group alone: the name service switch would load foreign modules into the daemon, which cost
 * memory for good and may wait for a directory server. Returns 0 or -ENOENT. */
int group_find(const char *name, gid_t *ret);

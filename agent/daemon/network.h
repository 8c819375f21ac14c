/* Changes of the network: an address or a route that is new may be what the next attempt waits for. */
#pragma once

#include <systemd/sd-event.h>

#include <stdbool.h>

struct network;

/* The socket on which the kernel tells of addresses and routes (rtnetlink(7)): that of enrolld-network.socket, which
 * PID 1 has made in the host's network where this process has none, or one of its own. A negative errno if there is
 * neither: attempts then come by their schedule alone. */
int network_open(void);

/* Calls `changed` when there is something new. route: of network_open(), its own from now on. Off at first. */
int network_new(sd_event *event, int route, void (*changed)(void *data), void *data, struct network **ret);
struct network *network_free(struct network *network);

/* Off: what has come so far does not count, and nobody is woken. On: what has come since it was switched off counts, so
 * that nothing is missed that comes in the middle of an attempt. */
void network_listen(struct network *network, bool on);
/* What comes from now on waits until it is listened to again. */
void network_pause(struct network *network);

#include "daemon/network.h"

#include "common/cleanup.h"
#include "daemon/log.h"

#include <systemd/sd-daemon.h>

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define SOCKET_NAME "route" /* FileDescriptorName= of enrolld-network.socket */

struct network {
    int route;
    void (*changed)(void *data);
    void *data;
    sd_event_source *source;
};

static int open_own(void) {
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK,
                                        .nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
                                                     RTMGRP_IPV6_ROUTE};
    AUTO_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) < 0)
        return -errno;
    return take_fd(&fd);
}

int network_open(void) {
    char **names = NULL;
    int found = -1, count = sd_listen_fds_with_names(1, &names);
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], SOCKET_NAME) == 0 && sd_is_socket(SD_LISTEN_FDS_START + i, AF_NETLINK, SOCK_RAW, -1) > 0)
            found = SD_LISTEN_FDS_START + i;
        free(names[i]);
    }
    free(names);
    return found >= 0 ? found : open_own();
}

static bool is_new(const char *datagram, size_t size) {
    const struct nlmsghdr *header = (const struct nlmsghdr *)datagram;
    for (; NLMSG_OK(header, size); header = NLMSG_NEXT(header, size))
        if (header->nlmsg_type == RTM_NEWADDR || header->nlmsg_type == RTM_NEWROUTE)
            return true;
    return false;
}

/* Reads all that is there; true if something new is among it. ENOBUFS: more has come than the socket holds. Whatever
 * else is wrong is the end of it, so that it is not woken for ever. */
static bool drain(struct network *network) {
    char datagram[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
    bool new = false;
    for (;;) {
        ssize_t size = recv(network->route, datagram, sizeof datagram, MSG_DONTWAIT);
        if (size > 0)
            new = is_new(datagram, (size_t)size) || new;
        else if (size < 0 && errno == ENOBUFS)
            new = true;
        else if (size < 0 && errno == EAGAIN)
            return new;
        else if (size == 0 || errno != EINTR) {
            log_message(LOG_WARNING, "changes of the network are not seen any more: %s",
                        size == 0 ? "the socket is closed" : strerror(errno));
            network->source = sd_event_source_disable_unref(network->source);
            return false;
        }
    }
}

static int on_route(sd_event_source *source, int fd, uint32_t events, void *data) {
    struct network *network = data;
    (void)source, (void)fd, (void)events;
    if (drain(network))
        network->changed(network->data);
    return 0;
}

int network_new(sd_event *event, int route, void (*changed)(void *data), void *data, struct network **ret) {
    struct network *network = calloc(1, sizeof *network);
    int r = network != NULL ? 0 : -ENOMEM;
    if (r == 0) {
        *network = (struct network){.route = route, .changed = changed, .data = data};
        r = sd_event_add_io(event, &network->source, route, EPOLLIN, on_route, network);
    }
    if (r >= 0)
        r = sd_event_source_set_enabled(network->source, SD_EVENT_OFF);
    if (r < 0) {
        if (network == NULL)
            cleanup_close(&route);
        network_free(network);
        return r;
    }
    *ret = network;
    return 0;
}

struct network *network_free(struct network *network) {
    if (network == NULL)
        return NULL;
    sd_event_source_disable_unref(network->source);
    cleanup_close(&network->route);
    free(network);
    return NULL;
}

void network_listen(struct network *network, bool on) {
    if (network == NULL)
        return;
    if (!on)
        (void)drain(network);
    if (network->source != NULL)
        (void)sd_event_source_set_enabled(network->source, on ? SD_EVENT_ON : SD_EVENT_OFF);
}

void network_pause(struct network *network) {
    if (network != NULL && network->source != NULL)
        (void)sd_event_source_set_enabled(network->source, SD_EVENT_OFF);
}

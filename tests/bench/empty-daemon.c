/* The least that a daemon on the bus can be: a name, an event loop, and nothing to do. enrolld's memory is measured
 * against this. */
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int serve(sd_event *event, sd_bus *bus) {
    int r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
    if (r >= 0)
        r = sd_bus_request_name(bus, "org.enrolld1.Empty", 0);
    if (r < 0)
        return r;
    sd_notify(0, "READY=1");
    return sd_event_loop(event);
}

int main(void) {
    sd_event *event = NULL;
    sd_bus *bus = NULL;
    int r = sd_event_default(&event);
    if (r >= 0)
        r = sd_bus_open_system(&bus);
    if (r >= 0)
        r = serve(event, bus);
    fprintf(stderr, "empty-daemon: %s\n", strerror(-r));
    sd_bus_flush_close_unref(bus);
    sd_event_unref(event);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

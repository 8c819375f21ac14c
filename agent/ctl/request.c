#include "ctl/request.h"

#include "ctl/follow.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char what[] = "cannot make a request";

static enum exit_code print_request(sd_bus *bus) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    AUTO_MESSAGE sd_bus_message *reply = NULL;
    const char *request = NULL;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, &reply, &error, "GetRequest", "");
    if (r >= 0)
        r = sd_bus_message_read(reply, "s", &request);
    if (r < 0)
        return bus_complain(what, r, &error);
    size_t size = strlen(request);
    printf("%s%s", request, size > 0 && request[size - 1] == '\n' ? "" : "\n");
    return EXIT_CODE_DONE;
}

enum exit_code request_run(sd_bus *bus, const char *subject) {
    AUTO_WATCH struct watch watch = {0};
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    uint32_t job = 0;
    int r = watch_init(&watch, bus, WATCH_USUAL_PATIENCE, &error);
    if (r >= 0)
        r = bus_start_job(bus, &job, &error, "CreateRequest", "s", subject);
    if (r < 0)
        return bus_complain(what, r, &error);
    enum exit_code code = follow_job(&watch, job, what, NULL);
    return code == EXIT_CODE_DONE ? print_request(bus) : code;
}

#include "ctl/control.h"

enum exit_code control_cancel(sd_bus *bus, uint32_t job) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, NULL, &error, "Cancel", "u", job);
    return r < 0 ? bus_complain("cannot cancel", r, &error) : EXIT_CODE_DONE;
}

enum exit_code control_reload(sd_bus *bus) {
    AUTO_BUS_ERROR sd_bus_error error = SD_BUS_ERROR_NULL;
    int r = bus_call(bus, BUS_USUAL_TIMEOUT, NULL, &error, "Reload", "");
    return r < 0 ? bus_complain("the configuration stays as it was", r, &error) : EXIT_CODE_DONE;
}

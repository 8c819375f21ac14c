/* A refused request, as the payload on the topic .../rejected tells it ("Device provisioning MQTT API"). */
#pragma once

struct rejection {
    int status_code;
    const char *error_code;
    char message[256];
};

/* Fills the rejection and gives back -1, so that a function can end with it. */
int rejection_set(struct rejection *rejection, int status_code, const char *error_code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

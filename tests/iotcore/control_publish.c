#include "control_handler.h"

#include "topic.h"

#include <string.h>

/* "Publish" of the data plane. Nothing is published to reserved topics from outside. */
int control_publish(const struct control_call *call) {
    static const char *const levels[] = {"0", "1", NULL};
    const char *qos = control_uri_parameter(call->uri, "qos");
    if (control_one_of(call, "qos", qos, levels) < 0)
        return -1;
    if (call->name[0] == '$' || strpbrk(call->name, "+#") != NULL || !topic_within_limits(call->name))
        return control_invalid(call, "The topic is not valid");
    if (call->publisher == NULL || !call->publisher->publish(call->publisher->userdata, call->name, call->bytes,
                                                             call->size, qos != NULL && qos[0] == '1' ? 1 : 0))
        return rejection_set(call->rejection, 500, "InternalFailureException", "The broker did not take it");
    return 0;
}

#include "daemon/methods.h"

#include "common/step.h"

#include <stdio.h>
#include <string.h>

const char *method_outcome_name(const struct method_state *state) {
    switch (state->outcome) {
    case METHOD_UNTRIED:
        return "";
    case METHOD_TRYING:
        return "trying";
    case METHOD_DONE:
        return "done";
    case METHOD_UNUSABLE:
        return "unusable";
    case METHOD_FAILED:
        return failure_class_name(state->class);
    }
    return "";
}

void methods_set(struct methods *methods, const struct settings *settings) {
    struct methods next = {.count = settings->method_count};
    for (size_t i = 0; i < next.count; i++) {
        memcpy(next.states[i].name, settings->methods[i], sizeof next.states[i].name);
        for (size_t k = 0; k < methods->count; k++)
            if (strcmp(methods->states[k].name, settings->methods[i]) == 0) {
                next.states[i] = methods->states[k];
                next.not_yet_since_usec[i] = methods->not_yet_since_usec[k];
            }
    }
    *methods = next;
}

/* Text is padded with zeros: what is told on the bus is compared byte by byte. */
static void set_outcome(struct method_state *state, enum method_outcome outcome, enum failure_class class,
                        const char *message) {
    memset(state->message, 0, sizeof state->message);
    snprintf(state->message, sizeof state->message, "%s", message);
    state->outcome = outcome;
    state->class = class;
}

static void try_present(struct methods *methods) {
    struct method_state *state = &methods->states[methods->present];
    state->outcome = METHOD_TRYING; /* with the words of the last time, until there are others */
}

void methods_begin(struct methods *methods) {
    methods->present = 0;
    methods->tried = false;
    try_present(methods);
}

const char *methods_name(const struct methods *methods) {
    return methods->states[methods->present].name;
}

uint32_t methods_waited_s(const struct methods *methods, uint64_t now_usec) {
    uint64_t since = methods->not_yet_since_usec[methods->present];
    uint64_t waited_s = since != 0 && now_usec > since ? (now_usec - since) / 1000000 : 0;
    if (since != 0 && waited_s == 0)
        return 1; /* 0 would say that it was never told so */
    return waited_s < UINT32_MAX ? (uint32_t)waited_s : UINT32_MAX;
}

/* That of the method that has come furthest: an input that is missing is only worth telling where nothing else is. */
static void tell_all(const struct methods *methods, struct failure *failure) {
    if (!failure->unusable)
        return;
    if (methods->tried) {
        *failure = methods->last;
        return;
    }
    if (methods->count == 1)
        return;
    failure_record(failure, FAILURE_INVALID, STEP_CONFIGURATION, "none of the methods can be used");
    for (size_t i = 0; i < methods->count; i++)
        failure_append(failure, "%s%s: %.300s", i == 0 ? ": " : "; ", methods->states[i].name,
                       methods->states[i].message);
}

bool methods_fail(struct methods *methods, enum setting_on_denied on_denied, struct failure *failure,
                  uint64_t now_usec) {
    size_t present = methods->present;
    bool falls_through = failure->unusable || (failure->class == FAILURE_DENIED && on_denied == SETTING_DENIED_NEXT);
    set_outcome(&methods->states[present], failure->unusable ? METHOD_UNUSABLE : METHOD_FAILED, failure->class,
                failure->message);
    if (failure->class == FAILURE_NOT_YET && methods->not_yet_since_usec[present] == 0)
        methods->not_yet_since_usec[present] = now_usec;
    if (!failure->unusable) {
        methods->tried = true;
        methods->last = *failure;
    }
    if (falls_through && present + 1 < methods->count) {
        methods->present++;
        try_present(methods);
        return true;
    }
    tell_all(methods, failure);
    return false;
}

void methods_done(struct methods *methods, const char *name) {
    for (size_t i = 0; i < methods->count; i++)
        if (strcmp(methods->states[i].name, name) == 0)
            set_outcome(&methods->states[i], METHOD_DONE, FAILURE_NETWORK, "");
    memset(methods->not_yet_since_usec, 0, sizeof methods->not_yet_since_usec);
}

void methods_forget(struct methods *methods) {
    memset(methods->not_yet_since_usec, 0, sizeof methods->not_yet_since_usec);
    for (size_t i = 0; i < methods->count; i++) {
        struct method_state *state = &methods->states[i];
        bool stays = state->outcome == METHOD_TRYING || state->outcome == METHOD_DONE;
        set_outcome(state, stays ? state->outcome : METHOD_UNTRIED, FAILURE_NETWORK, "");
    }
}

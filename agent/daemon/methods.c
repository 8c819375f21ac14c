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

/* Those beyond the count are zero and, unless they were used, not touched: such memory costs nothing. */
void methods_copy_states(struct method_state *states, size_t *count, const struct methods *methods) {
    if (*count > methods->count)
        memset(states + methods->count, 0, (*count - methods->count) * sizeof *states);
    memcpy(states, methods->states, methods->count * sizeof *states);
    *count = methods->count;
}

void methods_set(struct methods *methods, const struct settings *settings) {
    struct methods next = {.count = settings->method_count};
    for (size_t i = 0; i < next.count; i++) {
        memcpy(next.states[i].name, settings->methods[i], sizeof next.states[i].name);
        for (size_t k = 0; k < methods->count; k++)
            if (strcmp(methods->states[k].name, settings->methods[i]) == 0) {
                next.states[i] = methods->states[k];
                next.waits[i] = methods->waits[k];
            }
    }
    methods_copy_states(methods->states, &methods->count, &next);
    memcpy(methods->waits, next.waits, sizeof next.waits);
    methods->present = 0;
    methods->tried = false;
    methods->last = next.last;
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

static uint64_t since_usec(const struct method_wait *wait, uint64_t now_usec) {
    return wait->last_usec != 0 && now_usec > wait->last_usec ? now_usec - wait->last_usec : 0;
}

uint32_t methods_waited_s(const struct methods *methods, uint64_t now_usec) {
    const struct method_wait *wait = &methods->waits[methods->present];
    uint64_t waited_s = (wait->total_usec + since_usec(wait, now_usec)) / 1000000;
    if (!wait->told)
        return 0;
    if (waited_s == 0)
        return 1; /* 0 would say that it was never told so */
    return waited_s < UINT32_MAX ? (uint32_t)waited_s : UINT32_MAX;
}

/* A device that was offline for hours has not been refused for hours. */
static void count_wait(struct method_wait *wait, enum failure_class class, uint64_t now_usec) {
    bool answered = class == FAILURE_NOT_YET || class == FAILURE_DENIED;
    if (answered)
        wait->total_usec += since_usec(wait, now_usec);
    wait->last_usec = answered ? now_usec : 0;
    wait->told = wait->told || class == FAILURE_NOT_YET;
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
    count_wait(&methods->waits[present], failure->class, now_usec);
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
    memset(methods->waits, 0, sizeof methods->waits);
}

void methods_forget(struct methods *methods) {
    memset(methods->waits, 0, sizeof methods->waits);
    for (size_t i = 0; i < methods->count; i++) {
        struct method_state *state = &methods->states[i];
        bool stays = state->outcome == METHOD_TRYING || state->outcome == METHOD_DONE;
        set_outcome(state, stays ? state->outcome : METHOD_UNTRIED, FAILURE_NETWORK, "");
    }
}

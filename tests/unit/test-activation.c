/* How long after its activation in the cloud a device sees it: the plugin for just-in-time provisioning and the
 * daemon's schedule together, on a clock that only they move. */
#include "daemon/methods.h"
#include "daemon/schedule.h"
#include "harness.h"
#include "pace.h"

#include <string.h>

#define FLEET 2000       /* devices, each with random numbers of its own */
#define DISTANCE_MS 1000 /* AWS IoT Core quotas, "Connect requests per second per client ID" */

/* The default of [Retry] NotYet=, as docs/enrolld.conf says. */
static const struct retry_range not_yet = {.base_ms = 1000, .cap_ms = 300000};

struct device {
    bool by_lambda;
    uint64_t random;
    uint64_t now_ms, connected_ms; /* the last CONNECT */
    uint64_t activated_ms;         /* in the cloud */
    unsigned connects;
    uint64_t closest_ms; /* two CONNECTs */
};

/* A fixed sequence (xorshift64*), so that a failure can be repeated. */
static uint64_t next_random(struct device *device) {
    device->random ^= device->random >> 12;
    device->random ^= device->random << 25;
    device->random ^= device->random >> 27;
    return device->random * 0x2545f4914f6cdd1dULL;
}

/* Returns whether the cloud accepts it. */
static bool connect_once(struct device *device) {
    uint64_t distance = device->now_ms - device->connected_ms;
    if (device->connects++ > 0 && distance < device->closest_ms)
        device->closest_ms = distance;
    device->connected_ms = device->now_ms;
    return device->now_ms >= device->activated_ms;
}

/* What the plugin does within one attempt. */
static bool attempt(struct device *device, uint32_t waited_s) {
    for (unsigned refusals = 1;; refusals++) {
        if (connect_once(device))
            return true;
        uint32_t pause_ms = pace_pause_ms(device->by_lambda, waited_s, refusals);
        if (pause_ms == 0)
            return false;
        device->now_ms += pause_ms;
    }
}

/* From the first CONNECT until it is accepted. A CONNECT and a worker take no time here: more would only bring
 * attempts further apart. Returns the delay from the activation, in milliseconds. */
static uint64_t live(struct device *device) {
    struct settings settings = {.method_count = 1, .methods = {"jitp"}};
    struct methods methods = {0};
    struct failure failure;
    methods_set(&methods, &settings);
    for (uint32_t attempts = 1;; attempts++) {
        methods_begin(&methods);
        if (attempt(device, methods_waited_s(&methods, device->now_ms * 1000)))
            return device->now_ms - device->activated_ms;
        failure_record(&failure, FAILURE_NOT_YET, "register", "PENDING_ACTIVATION");
        methods_fail(&methods, SETTING_DENIED_NEXT, &failure, device->now_ms * 1000);
        device->now_ms += schedule_delay_ms(&not_yet, attempts, 0, next_random(device));
    }
}

struct fleet {
    uint64_t longest_ms, mean_ms, closest_ms;
    unsigned connects; /* the most of one device */
};

static struct fleet run(bool by_lambda, uint64_t activated_s) {
    struct fleet fleet = {.closest_ms = UINT64_MAX};
    for (unsigned i = 0; i < FLEET; i++) {
        struct device device = {.by_lambda = by_lambda,
                                .random = (i + 1) * 0x9e3779b97f4a7c15ULL,
                                .now_ms = 5000, /* after boot: 0 stands for "never" */
                                .closest_ms = UINT64_MAX};
        device.activated_ms = device.now_ms + activated_s * 1000;
        uint64_t late_ms = live(&device);
        fleet.longest_ms = late_ms > fleet.longest_ms ? late_ms : fleet.longest_ms;
        fleet.mean_ms += late_ms;
        fleet.closest_ms = device.closest_ms < fleet.closest_ms ? device.closest_ms : fleet.closest_ms;
        fleet.connects = device.connects > fleet.connects ? device.connects : fleet.connects;
    }
    fleet.mean_ms /= FLEET;
    return fleet;
}

static void expect_between(const char *what, uint64_t lowest, uint64_t value, uint64_t highest) {
    if (value >= lowest && value <= highest)
        return;
    fprintf(stderr, "%s is %llu, and not within %llu and %llu\n", what, (unsigned long long)value,
            (unsigned long long)lowest, (unsigned long long)highest);
    CU_FAIL("out of bounds");
}

static void expect(const struct fleet *fleet, uint64_t longest_ms, uint64_t mean_ms, unsigned connects) {
    expect_between("the longest delay in ms", 0, fleet->longest_ms, longest_ms);
    expect_between("the mean delay in ms", 0, fleet->mean_ms, mean_ms);
    expect_between("the shortest time between two CONNECTs in ms", DISTANCE_MS, fleet->closest_ms, UINT64_MAX);
    expect_between("the number of CONNECTs", 2, fleet->connects, connects);
}

/* A template: the first attempt is over after 15.5 s. Later ones are at least 5 s apart (1 s at least between them, 4 s
 * within), so that the fifth is the last that can have failed before 40 s, and 16 s is all that may follow it. */
static void test_after_seconds(void) {
    const struct fleet fleet = run(false, 40);
    expect(&fleet, 16000, 8000, 15);
}

/* A Lambda: within the first attempt, at its last CONNECT. */
static void test_lambda_after_seconds(void) {
    const struct fleet fleet = run(true, 40);
    expect(&fleet, 20500, 20500, 7);
}

/* Never longer than the longest wait, 5 min. With full jitter half of that on average would be the mean of one that was
 * waited out from its middle on; and the messages that each CONNECT causes stay few. */
static void test_after_minutes(void) {
    for (int by_lambda = 0; by_lambda < 2; by_lambda++) {
        const struct fleet fleet = run(by_lambda, 600);
        expect(&fleet, 300000, 110000, 60);
    }
}

/* At once: the second CONNECT, 1.5 s after the first, which is refused by design. */
static void test_at_once(void) {
    for (int by_lambda = 0; by_lambda < 2; by_lambda++) {
        const struct fleet fleet = run(by_lambda, 1);
        expect(&fleet, 500, 500, 2);
    }
}

int main(int argc, char **argv) {
    static const struct unit_test tests[] = {
        {"at once", test_at_once},
        {"after 40 s, by a template", test_after_seconds},
        {"after 40 s, by a Lambda", test_lambda_after_seconds},
        {"after 10 min", test_after_minutes},
        {NULL, NULL},
    };
    return unit_run("activation", tests, argc, argv);
}

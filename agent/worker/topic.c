#include "worker/topic.h"

#include "common/cleanup.h"
#include "common/step.h"
#include "common/text.h"

#include <string.h>

/* AWS IoT Core quotas: "Topic size", "Maximum number of slashes in topic and topic filter". */
#define TOPIC_SIZE_MAX 256
#define TOPIC_SLASHES_MAX 7
#define RULES "$aws/rules/"

const char *topic_without_rule(const char *topic) {
    const char *rest = strncmp(topic, RULES, strlen(RULES)) == 0 ? strchr(topic + strlen(RULES), '/') : NULL;
    return rest != NULL && rest[1] != '\0' ? rest + 1 : topic;
}

/* NULL, or what is wrong with it. */
static const char *judge(const char *topic) {
    size_t length = strlen(topic), slashes = 0;
    if (length == 0 || length > TOPIC_SIZE_MAX)
        return "it must have 1 to 256 bytes";
    if (strpbrk(topic, "+#") != NULL || !text_is_utf8(topic, length))
        return "it must be UTF-8 without the wildcards + and #";
    for (const char *at = topic_without_rule(topic); (at = strchr(at, '/')) != NULL; at++)
        slashes++;
    return slashes > TOPIC_SLASHES_MAX ? "it has more than 7 slashes" : NULL;
}

int topic_expand(const char *pattern, const struct specifier_values *values, const char *name, char **ret,
                 struct failure *failure) {
    AUTO_FREE char *topic = NULL;
    if (specifier_expand(pattern, values, name, &topic, failure) < 0)
        return -1;
    const char *wrong = judge(topic);
    if (wrong != NULL)
        return failure_set(failure, FAILURE_INVALID, STEP_CONFIGURATION, "%s= gives the topic %.300s: %s", name, topic,
                           wrong);
    *ret = TAKE_POINTER(topic);
    return 0;
}

#include "daemon/refusal.h"

#include "common/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void refusal_format(const struct refusal *refusal, char text[REFUSAL_TEXT_MAX]) {
    snprintf(text, REFUSAL_TEXT_MAX, "generation=%u\nsince=%llu\nlasted=%llu\n", refusal->generation,
             (unsigned long long)refusal->since_usec, (unsigned long long)refusal->lasted_usec);
}

int refusal_parse(const char *text, struct refusal *ret) {
    uint64_t generation = 0, since = 0, lasted = 0;
    const struct {
        const char *name;
        uint64_t *value;
    } lines[] = {{"generation", &generation}, {"since", &since}, {"lasted", &lasted}};
    char copy[REFUSAL_TEXT_MAX];
    size_t length = strlen(text);
    unsigned seen = 0;
    if (length == 0 || length >= sizeof copy || text[length - 1] != '\n')
        return -EBADMSG;
    char *rest = strcpy(copy, text);
    for (char *line = strsep(&rest, "\n"); rest != NULL; line = strsep(&rest, "\n")) {
        char *value = strchr(line, '=');
        if (value == NULL)
            return -EBADMSG;
        *value++ = '\0';
        for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
            if (strcmp(line, lines[i].name) == 0) {
                if ((seen & 1U << i) != 0 || text_to_u64(value, lines[i].value) < 0)
                    return -EBADMSG;
                seen |= 1U << i;
            }
    }
    if (seen != 7 || generation == 0 || generation > UINT32_MAX)
        return -EBADMSG;
    *ret = (struct refusal){(uint32_t)generation, since, lasted};
    return 0;
}

/* What to tell the operator of a device that is refused. On the wire "pending", "failed" and "issued by nobody that the
 * account knows" are the same close or 0x87; only the account can tell which of them it is. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIAGNOSIS_MAX 768 /* bytes with the NUL, what the host keeps of it */
#define DIAGNOSIS_REGION_MAX 32

struct diagnosis {
    bool by_lambda; /* JITR, else JITP */
    bool alone;     /* the certificate is sent without its issuer's */
    const char *certificate_id;
    const char *endpoint;
    unsigned refusals;  /* of this attempt */
    uint32_t lasted_s;  /* from the first of them to the last */
    uint32_t waited_s;  /* since the first attempt has ended; 0: this is the first one */
    const char *reason; /* the last refusal's words */
};

/* The region in the name of an endpoint, PREFIX.iot.REGION.amazonaws.com or ...com.cn (AWS General Reference, "AWS IoT
 * Core endpoints"); false for all other names, such as those of customers' own domains. */
bool diagnosis_region(const char *endpoint, char ret[DIAGNOSIS_REGION_MAX]);

/* How the device was refused, the command that finds out why, and what its answers mean. Never cut but in the reason.
 */
void diagnosis_write(const struct diagnosis *diagnosis, char text[DIAGNOSIS_MAX]);

/* True if the text holds one certificate in PEM, or none. */
bool diagnosis_is_alone(const char *chain_pem);

#include "diagnosis.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BEGIN_CERTIFICATE "-----BEGIN CERTIFICATE-----"
#define REASON_MAX 170 /* bytes: with it the longest text fits into DIAGNOSIS_MAX */

bool diagnosis_region(const char *endpoint, char ret[DIAGNOSIS_REGION_MAX]) {
    const char *service = strchr(endpoint, '.');
    if (service == NULL || strncasecmp(service, ".iot.", 5) != 0)
        return false;
    const char *region = service + 5;
    size_t length = strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    const char *domain = region + length;
    if (length == 0 || length >= DIAGNOSIS_REGION_MAX)
        return false;
    if (strcasecmp(domain, ".amazonaws.com") != 0 && strcasecmp(domain, ".amazonaws.com.cn") != 0)
        return false;
    memcpy(ret, region, length);
    ret[length] = '\0';
    return true;
}

bool diagnosis_is_alone(const char *chain_pem) {
    const char *first = strstr(chain_pem, BEGIN_CERTIFICATE);
    return first == NULL || strstr(first + 1, BEGIN_CERTIFICATE) == NULL;
}

/* "45 s", "12 min", "30 h": what fits the time, never empty. */
static void write_time(uint64_t seconds, char *text, size_t size) {
    if (seconds < 120)
        snprintf(text, size, "%u s", (unsigned)seconds);
    else if (seconds < 120 * 60)
        snprintf(text, size, "%u min", (unsigned)(seconds / 60));
    else
        snprintf(text, size, "%u h", (unsigned)(seconds / 3600));
}

/* As far back as is known: of this attempt, and since the first one has ended. */
static void write_refusals(const struct diagnosis *diagnosis, char *text, size_t size) {
    char lasted[16], waited[16];
    bool is_one = diagnosis->refusals == 1, has_lasted = !is_one && diagnosis->lasted_s > 0;
    write_time(diagnosis->lasted_s, lasted, sizeof lasted);
    write_time((uint64_t)diagnosis->waited_s + diagnosis->lasted_s, waited, sizeof waited);
    snprintf(text, size, "refused %u time%s%s%s%s%s%s, last: ", diagnosis->refusals, is_one ? "" : "s",
             has_lasted ? " in " : "", has_lasted ? lasted : "", diagnosis->waited_s > 0 ? ", first over " : "",
             diagnosis->waited_s > 0 ? waited : "", diagnosis->waited_s > 0 ? " ago" : "");
}

void diagnosis_write(const struct diagnosis *diagnosis, char text[DIAGNOSIS_MAX]) {
    char refusals[96], region[DIAGNOSIS_REGION_MAX] = "";
    bool has_region = diagnosis_region(diagnosis->endpoint, region);
    write_refusals(diagnosis, refusals, sizeof refusals);
    snprintf(text, DIAGNOSIS_MAX,
             "%.76s%.*s%s To learn why: `aws iot describe-certificate --certificate-id %.64s%s%s`. "
             "ResourceNotFound: no registered ACTIVE CA with auto-registration has issued it%s; "
             "PENDING_ACTIVATION: %s; INACTIVE, REVOKED: somebody's decision; "
             "ACTIVE: its policy does not allow the client id",
             refusals, REASON_MAX, diagnosis->reason, strlen(diagnosis->reason) > REASON_MAX ? "..." : ".",
             diagnosis->certificate_id, has_region ? " --region " : "", region,
             diagnosis->alone ? ", or its issuer's certificate must be sent: import the whole chain" : "",
             diagnosis->by_lambda
                 ? "rule or Lambda has failed (is the common name a thing name?), see CloudWatch /aws/lambda"
                 : "template or role has failed (is the common name a thing name?), see CloudWatch "
                   "AWSIotLogsV2");
}

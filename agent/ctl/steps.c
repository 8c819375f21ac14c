#include "ctl/steps.h"

#include "common/step.h"

#include <stddef.h>
#include <string.h>

const char *step_describe(const char *step) {
    static const struct {
        const char *step, *text;
    } table[] = {
        {STEP_CLOCK, "waiting for the clock"},
        {STEP_WORKER, "getting a worker"},
        {STEP_CONFIGURATION, "looking at options, serial number and names"},
        {STEP_KEY, "making or loading the device key"},
        {STEP_REQUEST, "making the certificate signing request"},
        {STEP_CLAIM, "connecting with the claim"},
        {STEP_IDENTITY, "connecting with the identity in use"},
        {STEP_CERTIFICATE, "asking for the certificate"},
        {STEP_REGISTER, "having certificate and thing registered"},
        {STEP_PROVE, "connecting with the identity"},
        {STEP_VERIFY, "checking the files, without network"},
        {STEP_COMMIT, "putting them into use"},
        {STEP_RETIRE, "telling the cloud which certificate is not used any more"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(step, table[i].step) == 0)
            return table[i].text;
    return NULL;
}

/* Certificates as other resources name them: by their ARNs. */
#pragma once

#include "control_call.h"

/* The certificate of "arn:aws:iot:REGION:ACCOUNT:cert/ID": its object, and its id within the text. Returns 0, or -1
 * with 400 InvalidRequestException for what is no ARN of a certificate of this account, and 404 for one that is not
 * registered. */
int control_principal(const struct control_call *call, const char *arn, struct json_object **ret, const char **ret_id);

/* The ARN of the certificate, from malloc(). */
char *control_principal_arn(const struct control_call *call, const char *certificate_id);

#include "control_principal.h"

#include "common/cleanup.h"
#include "registry_authority.h"

#include <string.h>

char *control_principal_arn(const struct control_call *call, const char *certificate_id) {
    return registry_arn(call->registry, "cert", certificate_id);
}

int control_principal(const struct control_call *call, const char *arn, struct json_object **ret, const char **ret_id) {
    AUTO_FREE char *prefix = registry_arn(call->registry, "cert", "");
    if (prefix == NULL)
        return control_out_of_memory(call);
    if (arn == NULL || strncmp(arn, prefix, strlen(prefix)) != 0)
        return control_invalid(call, "The ARN of a certificate of this account is required");
    struct json_object *certificate = registry_certificate(call->registry, arn + strlen(prefix));
    if (certificate == NULL)
        return control_not_found(call, "Certificate", arn + strlen(prefix));
    *ret = certificate;
    *ret_id = arn + strlen(prefix);
    return 0;
}

#include "control_route.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* A "*" stands for the label. */
static const struct route {
    const char *name;
    const char *method;
    const char *path[CONTROL_URI_SEGMENTS];
} routes[] = {
    [CONTROL_GET_REGISTRATION_CODE] = {"GetRegistrationCode", "GET", {"registrationcode"}},
    [CONTROL_DELETE_REGISTRATION_CODE] = {"DeleteRegistrationCode", "DELETE", {"registrationcode"}},
    [CONTROL_REGISTER_CA_CERTIFICATE] = {"RegisterCACertificate", "POST", {"cacertificate"}},
    [CONTROL_LIST_CA_CERTIFICATES] = {"ListCACertificates", "GET", {"cacertificates"}},
    [CONTROL_DESCRIBE_CA_CERTIFICATE] = {"DescribeCACertificate", "GET", {"cacertificate", "*"}},
    [CONTROL_UPDATE_CA_CERTIFICATE] = {"UpdateCACertificate", "PUT", {"cacertificate", "*"}},
    [CONTROL_DELETE_CA_CERTIFICATE] = {"DeleteCACertificate", "DELETE", {"cacertificate", "*"}},
    [CONTROL_REGISTER_CERTIFICATE] = {"RegisterCertificate", "POST", {"certificate", "register"}},
    [CONTROL_REGISTER_CERTIFICATE_WITHOUT_CA] = {"RegisterCertificateWithoutCA",
                                                 "POST",
                                                 {"certificate", "register-no-ca"}},
    [CONTROL_LIST_CERTIFICATES] = {"ListCertificates", "GET", {"certificates"}},
    [CONTROL_LIST_CERTIFICATES_BY_CA] = {"ListCertificatesByCA", "GET", {"certificates-by-ca", "*"}},
    [CONTROL_DESCRIBE_CERTIFICATE] = {"DescribeCertificate", "GET", {"certificates", "*"}},
    [CONTROL_UPDATE_CERTIFICATE] = {"UpdateCertificate", "PUT", {"certificates", "*"}},
    [CONTROL_DELETE_CERTIFICATE] = {"DeleteCertificate", "DELETE", {"certificates", "*"}},
    [CONTROL_ATTACH_POLICY] = {"AttachPolicy", "PUT", {"target-policies", "*"}},
    [CONTROL_DETACH_POLICY] = {"DetachPolicy", "POST", {"target-policies", "*"}},
    [CONTROL_LIST_ATTACHED_POLICIES] = {"ListAttachedPolicies", "POST", {"attached-policies", "*"}},
    [CONTROL_CREATE_POLICY] = {"CreatePolicy", "POST", {"policies", "*"}},
    [CONTROL_GET_POLICY] = {"GetPolicy", "GET", {"policies", "*"}},
    [CONTROL_CREATE_THING] = {"CreateThing", "POST", {"things", "*"}},
    [CONTROL_DESCRIBE_THING] = {"DescribeThing", "GET", {"things", "*"}},
    [CONTROL_UPDATE_THING] = {"UpdateThing", "PATCH", {"things", "*"}},
    [CONTROL_DELETE_THING] = {"DeleteThing", "DELETE", {"things", "*"}},
    [CONTROL_LIST_THINGS] = {"ListThings", "GET", {"things"}},
    [CONTROL_ATTACH_THING_PRINCIPAL] = {"AttachThingPrincipal", "PUT", {"things", "*", "principals"}},
    [CONTROL_DETACH_THING_PRINCIPAL] = {"DetachThingPrincipal", "DELETE", {"things", "*", "principals"}},
    [CONTROL_LIST_THING_PRINCIPALS] = {"ListThingPrincipals", "GET", {"things", "*", "principals"}},
    [CONTROL_LIST_PRINCIPAL_THINGS] = {"ListPrincipalThings", "GET", {"principals", "things"}},
    [CONTROL_CREATE_PROVISIONING_TEMPLATE] = {"CreateProvisioningTemplate", "POST", {"provisioning-templates"}},
    [CONTROL_DESCRIBE_PROVISIONING_TEMPLATE] = {"DescribeProvisioningTemplate", "GET", {"provisioning-templates", "*"}},
    [CONTROL_UPDATE_PROVISIONING_TEMPLATE] = {"UpdateProvisioningTemplate", "PATCH", {"provisioning-templates", "*"}},
    [CONTROL_DELETE_PROVISIONING_TEMPLATE] = {"DeleteProvisioningTemplate", "DELETE", {"provisioning-templates", "*"}},
    [CONTROL_DESCRIBE_ENDPOINT] = {"DescribeEndpoint", "GET", {"endpoint"}},
    [CONTROL_CREATE_TOPIC_RULE] = {"CreateTopicRule", "POST", {"rules", "*"}},
    [CONTROL_REPLACE_TOPIC_RULE] = {"ReplaceTopicRule", "PATCH", {"rules", "*"}},
    [CONTROL_ENABLE_TOPIC_RULE] = {"EnableTopicRule", "POST", {"rules", "*", "enable"}},
    [CONTROL_DISABLE_TOPIC_RULE] = {"DisableTopicRule", "POST", {"rules", "*", "disable"}},
    [CONTROL_GET_TOPIC_RULE] = {"GetTopicRule", "GET", {"rules", "*"}},
    [CONTROL_LIST_TOPIC_RULES] = {"ListTopicRules", "GET", {"rules"}},
    [CONTROL_DELETE_TOPIC_RULE] = {"DeleteTopicRule", "DELETE", {"rules", "*"}},
    [CONTROL_PUBLISH] = {"Publish", "POST", {"topics", "*"}},
};

static bool matches(const struct route *route, const struct control_uri *uri, const char **ret_name) {
    const char *name = NULL;
    for (unsigned i = 0; i < CONTROL_URI_SEGMENTS; i++) {
        const char *segment = i < uri->segment_count ? uri->segments[i] : NULL;
        if (route->path[i] == NULL || segment == NULL) {
            if (route->path[i] != segment)
                return false;
            break;
        }
        if (strcmp(route->path[i], "*") == 0)
            name = segment;
        else if (strcmp(route->path[i], segment) != 0)
            return false;
    }
    *ret_name = name;
    return true;
}

enum control_operation control_route(const char *method, const struct control_uri *uri, const char **ret_name) {
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (strcmp(routes[i].method, method) == 0 && matches(&routes[i], uri, ret_name))
            return (enum control_operation)i;
    return CONTROL_OPERATION_COUNT;
}

const char *control_operation_name(enum control_operation operation) {
    return operation < CONTROL_OPERATION_COUNT ? routes[operation].name : NULL;
}

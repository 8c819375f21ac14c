/* Which operation of AWS IoT's control plane an HTTP request asks for. Pure functions.
 * Source: the service model of the API, version 2015-05-28. */
#pragma once

#include "control_uri.h"

enum control_operation {
    CONTROL_GET_REGISTRATION_CODE,
    CONTROL_DELETE_REGISTRATION_CODE,
    CONTROL_REGISTER_CA_CERTIFICATE,
    CONTROL_LIST_CA_CERTIFICATES,
    CONTROL_DESCRIBE_CA_CERTIFICATE,
    CONTROL_UPDATE_CA_CERTIFICATE,
    CONTROL_DELETE_CA_CERTIFICATE,
    CONTROL_REGISTER_CERTIFICATE,
    CONTROL_REGISTER_CERTIFICATE_WITHOUT_CA,
    CONTROL_LIST_CERTIFICATES,
    CONTROL_LIST_CERTIFICATES_BY_CA,
    CONTROL_DESCRIBE_CERTIFICATE,
    CONTROL_UPDATE_CERTIFICATE,
    CONTROL_DELETE_CERTIFICATE,
    CONTROL_ATTACH_POLICY,
    CONTROL_DETACH_POLICY,
    CONTROL_LIST_ATTACHED_POLICIES,
    CONTROL_CREATE_POLICY,
    CONTROL_GET_POLICY,
    CONTROL_CREATE_THING,
    CONTROL_DESCRIBE_THING,
    CONTROL_DELETE_THING,
    CONTROL_LIST_THINGS,
    CONTROL_ATTACH_THING_PRINCIPAL,
    CONTROL_DETACH_THING_PRINCIPAL,
    CONTROL_LIST_THING_PRINCIPALS,
    CONTROL_LIST_PRINCIPAL_THINGS,
    CONTROL_CREATE_PROVISIONING_TEMPLATE,
    CONTROL_DESCRIBE_PROVISIONING_TEMPLATE,
    CONTROL_DESCRIBE_ENDPOINT,
    CONTROL_OPERATION_COUNT, /* none of them */
};

/* The operation, or CONTROL_OPERATION_COUNT if there is none for method and path; *ret_name is what stands in the
 * path where the model has a label ("GW-0001" of "/things/GW-0001"), NULL where it has none. */
enum control_operation control_route(const char *method, const struct control_uri *uri, const char **ret_name);

/* As the model calls it: "RegisterCACertificate". */
const char *control_operation_name(enum control_operation operation);

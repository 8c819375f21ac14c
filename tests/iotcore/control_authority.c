#include "control_handler.h"

#include "authority_registration.h"
#include "common/cleanup.h"
#include "control_page.h"
#include "json_read.h"
#include "registry_authority.h"
#include "topic.h"

#include <errno.h>
#include <string.h>

/* API reference: certificatePem, templateBody and roleArn; RegisterCACertificate */
#define PEM_LIMIT 65536
#define TEMPLATE_LIMIT 10240
#define ROLE_LIMIT 2048
#define SAME_SUBJECT_LIMIT 10

static inline void cleanup_x509(X509 **certificate) {
    X509_free(*certificate);
}

#define AUTO_X509 CLEANUP(cleanup_x509)

static int check_template_name(const struct control_call *call, const char *name) {
    struct json_object *template = json_member(registry_section(call->registry, "templates"), name, json_type_object);
    const char *type = json_text(template, "type");
    if (!topic_template_name_valid(name))
        return control_invalid(call, "templateName is not valid");
    if (template == NULL)
        return control_not_found(call, "Provisioning template", name);
    if (type == NULL || strcmp(type, "JITP") != 0)
        return control_invalid(call, "Provisioning template %.36s is not of type JITP", name);
    return 0;
}

static int check_template_body(const struct control_call *call, const char *body, const char *role) {
    AUTO_JSON struct json_object *parsed = json_parse(body, strlen(body));
    if (!json_object_is_type(parsed, json_type_object))
        return control_invalid(call, "templateBody is not a JSON object");
    return role != NULL ? 0 : control_invalid(call, "A templateBody needs a roleArn");
}

/* A template by its name has a role of its own. *ret is NULL if there is no configuration. */
static int read_configuration(const struct control_call *call, struct json_object **ret) {
    const char *body, *name, *role;
    struct json_object *configuration;
    if (control_object(call, "registrationConfig", &configuration) < 0)
        return -1;
    if (configuration == NULL) {
        *ret = NULL;
        return 0;
    }
    if (control_text(call, configuration, "templateBody", TEMPLATE_LIMIT, &body) < 0 ||
        control_text(call, configuration, "templateName", TEMPLATE_LIMIT, &name) < 0 ||
        control_text(call, configuration, "roleArn", ROLE_LIMIT, &role) < 0)
        return -1;
    if ((body == NULL) == (name == NULL))
        return control_invalid(call, "registrationConfig needs either a templateBody or a templateName");
    if (name != NULL ? check_template_name(call, name) < 0 : check_template_body(call, body, role) < 0)
        return -1;
    *ret = configuration;
    return 0;
}

static int already_exists(const struct control_call *call, const char *id) {
    AUTO_FREE char *arn = registry_arn(call->registry, "cacert", id);
    control_set(call->reply, "resourceId", id);
    control_set(call->reply, "resourceArn", arn);
    return rejection_set(call->rejection, 409, "ResourceAlreadyExistsException",
                         "The CA certificate is already registered");
}

static int check_count(const struct control_call *call, const X509 *authority) {
    unsigned count = 0;
    json_object_object_foreach(registry_authorities(call->registry), id, entry) {
        const char *pem = json_text(entry, "pem");
        AUTO_X509 X509 *other = pem != NULL ? issuer_read_certificate(pem, strlen(pem)) : NULL;
        (void)id;
        if (other != NULL && X509_NAME_cmp(X509_get_subject_name(other), X509_get_subject_name(authority)) == 0)
            count++;
    }
    if (count < SAME_SUBJECT_LIMIT)
        return 0;
    return rejection_set(call->rejection, 410, "LimitExceededException",
                         "There are %d CA certificates with that subject already", SAME_SUBJECT_LIMIT);
}

static int read_certificate(const struct control_call *call, const char *name, X509 **ret) {
    const char *pem;
    if (control_text(call, call->body, name, PEM_LIMIT, &pem) < 0)
        return -1;
    *ret = NULL;
    if (pem != NULL && (*ret = registration_read(pem, call->rejection)) == NULL)
        return -1;
    return 0;
}

/* certificateMode, API reference: with SNI_ONLY several accounts may register the CA, and nobody proves anything. */
static int check_proof(const struct control_call *call, X509 *authority, const char *mode) {
    bool wanted = strcmp(mode, "DEFAULT") == 0;
    AUTO_X509 X509 *verification = NULL;
    const char *code = json_text(registry_root(call->registry), "registrationCode");
    if (read_certificate(call, "verificationCertificate", &verification) < 0)
        return -1;
    if (wanted != (verification != NULL))
        return control_invalid(call, "verificationCertificate is required with DEFAULT, and not allowed with SNI_ONLY");
    if (!wanted)
        return 0;
    return registration_check_proof(authority, verification, code, registry_now(call->registry), call->rejection);
}

static int add_authority(const struct control_call *call, X509 *authority,
                         const struct registry_authority_settings *settings) {
    char id[ISSUER_ID_SIZE];
    if (issuer_certificate_id(authority, id) && registry_authority(call->registry, id) != NULL)
        return already_exists(call, id);
    if (check_count(call, authority) < 0)
        return -1;
    if (registry_authority_add(call->registry, authority, settings, id) < 0)
        return control_out_of_memory(call);
    AUTO_FREE char *arn = registry_arn(call->registry, "cacert", id);
    control_set(call->reply, "certificateArn", arn);
    control_set(call->reply, "certificateId", id);
    return 0;
}

int control_register_ca_certificate(const struct control_call *call) {
    static const char *const modes[] = {"DEFAULT", "SNI_ONLY", NULL};
    AUTO_X509 X509 *authority = NULL;
    bool active, automatic;
    struct registry_authority_settings settings = {0};
    if (control_flag(call, "setAsActive", &active) < 0 || control_flag(call, "allowAutoRegistration", &automatic) < 0 ||
        control_text(call, call->body, "certificateMode", 16, &settings.mode) < 0 ||
        control_one_of(call, "certificateMode", settings.mode, modes) < 0 ||
        read_configuration(call, &settings.registration_config) < 0 ||
        read_certificate(call, "caCertificate", &authority) < 0)
        return -1;
    if (authority == NULL)
        return control_invalid(call, "caCertificate is required");
    settings.status = active ? "ACTIVE" : "INACTIVE";
    settings.auto_registration = automatic ? "ENABLE" : "DISABLE";
    if (settings.mode == NULL)
        settings.mode = "DEFAULT";
    if (registration_check_authority(authority, registry_now(call->registry), call->rejection) < 0 ||
        check_proof(call, authority, settings.mode) < 0)
        return -1;
    return add_authority(call, authority, &settings);
}

static void copy(struct json_object *to, const char *name, struct json_object *from, const char *member) {
    struct json_object *value = NULL;
    if (json_object_object_get_ex(from, member, &value))
        json_object_object_add(to, name, json_object_get(value));
}

static struct json_object *summary(const struct control_call *call, const char *id, struct json_object *authority) {
    struct json_object *entry = json_object_new_object();
    AUTO_FREE char *arn = registry_arn(call->registry, "cacert", id);
    control_set(entry, "certificateArn", arn);
    control_set(entry, "certificateId", id);
    copy(entry, "status", authority, "status");
    copy(entry, "creationDate", authority, "createdAt");
    return entry;
}

static bool has_template(struct json_object *authority, const char *name) {
    const char *own = json_text(json_member(authority, "registrationConfig", json_type_object), "templateName");
    return own != NULL && strcmp(own, name) == 0;
}

int control_list_ca_certificates(const struct control_call *call) {
    static const struct control_paging paging = {"pageSize", "marker", "nextMarker", "certificates", "certificateId"};
    const char *template = control_uri_parameter(call->uri, "templateName");
    struct json_object *entries = json_object_new_array();
    json_object_object_foreach(registry_authorities(call->registry), id, authority) {
        if (template == NULL || has_template(authority, template))
            json_object_array_add(entries, summary(call, id, authority));
    }
    return control_page(&paging, call->uri, entries, call->reply, call->rejection);
}

int control_describe_ca_certificate(const struct control_call *call) {
    static const char *const members[][2] = {
        {"certificatePem", "pem"},
        {"ownedBy", "ownedBy"},
        {"autoRegistrationStatus", "autoRegistrationStatus"},
        {"lastModifiedDate", "modifiedAt"},
        {"customerVersion", "customerVersion"},
        {"generationId", "generationId"},
        {"validity", "validity"},
        {"certificateMode", "certificateMode"},
    };
    if (control_certificate_id(call) < 0)
        return -1;
    struct json_object *authority = registry_authority(call->registry, call->name);
    if (authority == NULL)
        return control_not_found(call, "CA certificate", call->name);
    struct json_object *description = summary(call, call->name, authority);
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        copy(description, members[i][0], authority, members[i][1]);
    json_object_object_add(call->reply, "certificateDescription", description);
    copy(call->reply, "registrationConfig", authority, "registrationConfig");
    return 0;
}

int control_update_ca_certificate(const struct control_call *call) {
    static const char *const statuses[] = {"ACTIVE", "INACTIVE", NULL};
    static const char *const automatic[] = {"ENABLE", "DISABLE", NULL};
    struct registry_authority_settings settings = {
        .status = control_uri_parameter(call->uri, "newStatus"),
        .auto_registration = control_uri_parameter(call->uri, "newAutoRegistrationStatus"),
    };
    bool forget;
    if (control_certificate_id(call) < 0 || control_one_of(call, "newStatus", settings.status, statuses) < 0 ||
        control_one_of(call, "newAutoRegistrationStatus", settings.auto_registration, automatic) < 0 ||
        control_boolean(call, "removeAutoRegistration", &forget) < 0 ||
        read_configuration(call, &settings.registration_config) < 0)
        return -1;
    if (forget && (settings.registration_config != NULL || settings.auto_registration != NULL))
        return control_invalid(call, "removeAutoRegistration contradicts the other parameters");
    if (forget)
        settings.auto_registration = "DISABLE";
    if (registry_authority_update(call->registry, call->name, &settings) < 0)
        return control_not_found(call, "CA certificate", call->name);
    if (forget)
        registry_authority_forget_config(call->registry, call->name);
    return 0;
}

int control_delete_ca_certificate(const struct control_call *call) {
    if (control_certificate_id(call) < 0)
        return -1;
    switch (registry_authority_delete(call->registry, call->name)) {
    case 0:
        return 0;
    case -EBUSY:
        return control_state(call, "The CA certificate must be deactivated before it can be deleted");
    default:
        return control_not_found(call, "CA certificate", call->name);
    }
}

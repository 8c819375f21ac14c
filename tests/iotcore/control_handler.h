/* The operations of the control plane, one function each. They fill the call's reply and return 0, or -1 with its
 * rejection, and then have changed nothing. */
#pragma once

#include "control_call.h"

typedef int (*control_handler)(const struct control_call *call);

/* control_account.c */
int control_get_registration_code(const struct control_call *call);
int control_delete_registration_code(const struct control_call *call);
int control_create_provisioning_template(const struct control_call *call);
int control_describe_provisioning_template(const struct control_call *call);
int control_update_provisioning_template(const struct control_call *call);
int control_delete_provisioning_template(const struct control_call *call);
int control_describe_endpoint(const struct control_call *call);

/* control_authority.c */
int control_register_ca_certificate(const struct control_call *call);
int control_list_ca_certificates(const struct control_call *call);
int control_describe_ca_certificate(const struct control_call *call);
int control_update_ca_certificate(const struct control_call *call);
int control_delete_ca_certificate(const struct control_call *call);

/* control_certificate.c */
int control_register_certificate(const struct control_call *call);
int control_register_certificate_without_ca(const struct control_call *call);
int control_list_certificates(const struct control_call *call);
int control_list_certificates_by_ca(const struct control_call *call);
int control_describe_certificate(const struct control_call *call);
int control_update_certificate(const struct control_call *call);
int control_delete_certificate(const struct control_call *call);

/* control_policy.c */
int control_attach_policy(const struct control_call *call);
int control_detach_policy(const struct control_call *call);
int control_list_attached_policies(const struct control_call *call);
int control_create_policy(const struct control_call *call);
int control_get_policy(const struct control_call *call);

/* control_thing.c */
int control_create_thing(const struct control_call *call);
int control_describe_thing(const struct control_call *call);
int control_update_thing(const struct control_call *call);
int control_delete_thing(const struct control_call *call);
int control_list_things(const struct control_call *call);
int control_attach_thing_principal(const struct control_call *call);
int control_detach_thing_principal(const struct control_call *call);
int control_list_thing_principals(const struct control_call *call);
int control_list_principal_things(const struct control_call *call);

/* control_rule.c */
int control_create_topic_rule(const struct control_call *call);
int control_replace_topic_rule(const struct control_call *call);
int control_enable_topic_rule(const struct control_call *call);
int control_disable_topic_rule(const struct control_call *call);
int control_get_topic_rule(const struct control_call *call);
int control_list_topic_rules(const struct control_call *call);
int control_delete_topic_rule(const struct control_call *call);

/* control_publish.c */
int control_publish(const struct control_call *call);

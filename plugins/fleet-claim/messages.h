/* The JSON of AWS IoT's device provisioning MQTT API (AWS IoT Developer Guide, "Device provisioning MQTT API"). Pure
 * functions: what goes in and out of the cloud, no connection. Replies are hostile input. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* The documentation gives no limit; demos of AWS reserve 512 and 1024. */
#define OWNERSHIP_TOKEN_MAX 8192

/* A reply to CreateCertificateFromCsr or CreateKeysAndCertificate. */
struct created_certificate {
    char *private_key_pem; /* secret; NULL where the reply has none */
    char *certificate_pem;
    char *certificate_id;
    char *ownership_token; /* secret: whoever has it can register the certificate */
};

/* A reply to RegisterThing. */
struct registered_thing {
    char *thing_name;           /* "" where the template makes no thing */
    char *device_configuration; /* JSON object as text, NULL for none */
};

/* What the cloud says on a rejected topic; each part may be missing. */
struct rejection {
    int status_code; /* 0: it said none */
    char error_code[64];
    char error_message[400];
};

/* Each returns the text of a request (the caller frees it, wiping the token), NULL when out of memory. */
char *create_from_csr_request(const char *request_pem);

struct parameter {
    const char *name;
    const char *value;
};
char *register_thing_request(const char *ownership_token, const struct parameter *parameters, size_t count);

/* Each returns NULL and fills *ret, or says what is wrong with the reply (a constant), leaving *ret alone. */
const char *created_certificate_parse(const char *json, size_t size, struct created_certificate *ret);
const char *registered_thing_parse(const char *json, size_t size, struct registered_thing *ret);

/* Never fails: what cannot be read is left empty. */
void rejection_parse(const char *json, size_t size, struct rejection *ret);

void created_certificate_clear(struct created_certificate *created);
void registered_thing_clear(struct registered_thing *registered);

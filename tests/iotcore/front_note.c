#include "front.h"

#include "common/cleanup.h"
#include "issuer.h"
#include "json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum front_refusal refusal_of(const char *name) {
    if (name == NULL)
        return FRONT_REFUSE_LATER;
    if (strcmp(name, "handshake-alert") == 0)
        return FRONT_REFUSE_BY_ALERT;
    if (strcmp(name, "handshake-close") == 0)
        return FRONT_REFUSE_BY_CLOSE;
    return strcmp(name, "after-handshake-close") == 0 ? FRONT_REFUSE_AFTER_HANDSHAKE : FRONT_REFUSE_LATER;
}

static const char *tls_version_of(const char *name) {
    static const char *const versions[] = {"1.2", "1.3"};
    for (size_t i = 0; name != NULL && i < sizeof versions / sizeof *versions; i++)
        if (strcmp(versions[i], name) == 0)
            return versions[i];
    return "any";
}

void front_note_read_options(struct front_visit *visit) {
    AUTO_FREE char *path = NULL;
    visit->tls_version = "any";
    if (asprintf(&path, "%s/options.json", visit->front->notes_path) < 0)
        return;
    AUTO_JSON struct json_object *options = json_parse_file(path);
    visit->refusal = refusal_of(json_text(options, "refusal"));
    visit->alert = json_object_get_int(json_member(options, "alert", json_type_int));
    visit->require_sni = json_object_get_boolean(json_member(options, "requireSni", json_type_boolean));
    visit->tls_version = tls_version_of(json_text(options, "tlsVersion"));
}

bool front_note_is_active(const struct front_visit *visit, X509 *certificate) {
    char id[ISSUER_ID_SIZE];
    AUTO_JSON struct json_object *registry = json_parse_file(visit->front->registry_path);
    if (!issuer_certificate_id(certificate, id))
        return false;
    struct json_object *certificates = json_member(registry, "certificates", json_type_object);
    const char *status = json_text(json_member(certificates, id, json_type_object), "status");
    return status != NULL && strcmp(status, "ACTIVE") == 0;
}

static void add_text(struct json_object *note, const char *name, const char *text) {
    if (text != NULL)
        json_object_object_add(note, name, json_object_new_string(text));
}

static struct json_object *describe_chain(STACK_OF(X509) * chain) {
    struct json_object *list = json_object_new_array();
    for (int i = 0; i < sk_X509_num(chain); i++) {
        AUTO_FREE char *pem = issuer_certificate_pem(sk_X509_value(chain, i));
        if (pem != NULL)
            json_object_array_add(list, json_object_new_string(pem));
    }
    return list;
}

static struct json_object *describe(const struct front_visit *visit, bool handshake) {
    struct json_object *note = json_object_new_object();
    const unsigned char *protocol;
    unsigned protocol_length;
    SSL_get0_alpn_selected(visit->ssl, &protocol, &protocol_length);
    add_text(note, "address", visit->address);
    add_text(note, "serverName", SSL_get_servername(visit->ssl, TLSEXT_NAMETYPE_host_name));
    add_text(note, "tls", SSL_get_version(visit->ssl));
    if (protocol_length > 0)
        json_object_object_add(note, "alpn", json_object_new_string_len((const char *)protocol, (int)protocol_length));
    json_object_object_add(note, "chain", describe_chain(visit->chain));
    if (handshake)
        json_object_object_add(note, "handshake", json_object_new_boolean(true));
    return note;
}

static char *note_path(const struct front_visit *visit) {
    char *path = NULL;
    return asprintf(&path, "%s/%" PRIu64 ".json", visit->front->notes_path, visit->number) >= 0 ? path : NULL;
}

int front_note_write(const struct front_visit *visit, bool handshake) {
    AUTO_FREE char *path = note_path(visit);
    AUTO_JSON struct json_object *note = describe(visit, handshake);
    if (path == NULL)
        return -ENOMEM;
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    return json_object_to_fd(fd, note, JSON_C_TO_STRING_PLAIN) < 0 ? -EIO : 0;
}

void front_note_remove(const struct front_visit *visit) {
    AUTO_FREE char *path = note_path(visit);
    if (path != NULL)
        unlink(path);
}

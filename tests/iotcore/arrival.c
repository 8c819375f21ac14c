#include "arrival.h"

#include "common/cleanup.h"
#include "json_read.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Only digits, so that no user name leads out of the folder. */
static bool is_number(const char *text) {
    return text != NULL && strspn(text, "0123456789") == strlen(text) && strlen(text) >= 1 && strlen(text) <= 20;
}

static X509 *chain_certificate(struct json_object *chain, size_t index) {
    struct json_object *pem = json_object_array_get_idx(chain, index);
    return json_object_is_type(pem, json_type_string)
               ? issuer_read_certificate(json_object_get_string(pem), (size_t)json_object_get_string_len(pem))
               : NULL;
}

static bool read_chain(struct arrival *arrival, struct json_object *chain) {
    size_t count = chain != NULL ? json_object_array_length(chain) : 0;
    if (count == 0 || count > ARRIVAL_ISSUERS + 1)
        return false;
    arrival->identity.certificate = chain_certificate(chain, 0);
    for (size_t i = 1; i < count; i++) {
        X509 *issuer = chain_certificate(chain, i);
        if (issuer == NULL)
            return false;
        arrival->issuers[arrival->issuer_count++] = issuer;
    }
    return arrival->identity.certificate != NULL;
}

static bool read_note(const struct standin *standin, const char *number, struct arrival *arrival) {
    AUTO_FREE char *path = NULL;
    if (!is_number(number) || asprintf(&path, "%s/%s.json", standin->front_path, number) < 0)
        return false;
    arrival->note = json_parse_file(path);
    unlink(path);
    const char *server_name = json_text(arrival->note, "serverName");
    arrival->identity.source_address = json_text(arrival->note, "address");
    arrival->named = server_name != NULL && strcmp(server_name, standin->host) == 0;
    arrival->handshake = json_object_get_boolean(json_member(arrival->note, "handshake", json_type_boolean));
    return read_chain(arrival, json_member(arrival->note, "chain", json_type_array));
}

bool arrival_read(const struct standin *standin, struct mosquitto *client, const char *user_name, struct arrival *ret) {
    *ret = (struct arrival){.identity.client_id = mosquitto_client_id(client)};
    if (standin->front_path != NULL) {
        if (!read_note(standin, user_name, ret))
            return false;
    } else {
        ret->identity.source_address = mosquitto_client_address(client);
        ret->identity.certificate = mosquitto_client_certificate(client);
        ret->named = true;
    }
    return ret->identity.client_id != NULL && ret->identity.certificate != NULL &&
           issuer_certificate_id(ret->identity.certificate, ret->identity.certificate_id);
}

void arrival_clear(struct arrival *arrival) {
    X509_free(arrival->identity.certificate);
    for (unsigned i = 0; i < arrival->issuer_count; i++)
        X509_free(arrival->issuers[i]);
    json_object_put(arrival->note);
    *arrival = (struct arrival){0};
}

void arrival_tell(const struct arrival *arrival, struct json_object *event) {
    static const char *const names[] = {"serverName", "tls", "alpn"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        event_text(event, names[i], json_text(arrival->note, names[i]));
}

static int write_options(const char *path, const char *temporary, struct json_object *options) {
    AUTO_CLOSE int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    if (json_object_to_fd(fd, options, JSON_C_TO_STRING_PLAIN) < 0)
        return -EIO;
    return rename(temporary, path) < 0 ? -errno : 0;
}

void arrival_write_options(const struct standin *standin) {
    AUTO_FREE char *path = NULL, *temporary = NULL;
    if (standin->front_path == NULL || asprintf(&path, "%s/options.json", standin->front_path) < 0 ||
        asprintf(&temporary, "%s.new", path) < 0)
        return;
    AUTO_JSON struct json_object *options = json_object_new_object();
    json_object_object_add(options, "refusal", json_object_new_string(option_refusal_name(standin->options.refusal)));
    json_object_object_add(options, "alert", json_object_new_int((int)standin->options.alert));
    json_object_object_add(options, "requireSni", json_object_new_boolean(standin->options.require_sni));
    json_object_object_add(options, "tlsVersion", json_object_new_string(standin->options.tls_version));
    int error = write_options(path, temporary, options);
    if (error < 0)
        mosquitto_log_printf(MOSQ_LOG_ERR, "iotcore: can't write %s: %s", path, strerror(-error));
}

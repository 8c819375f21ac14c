/* What the world is told about an identity: the facts that a check found in its files. */
#pragma once

#include "common/channel.h"
#include "common/failure.h"
#include "common/settings.h"

/* Text is padded with zeros to the end, so that two identities may be compared as memory. */
struct identity {
    char method[SETTINGS_METHOD_MAX];
    char thing_name[129];    /* AWS IoT CreateThing: 1 to 128 characters; "" if the method gives none */
    char serial_number[129]; /* of the device when it was enrolled; "" if unknown */
    char certificate_id[65]; /* AWS IoT DescribeCertificate: 64 hexadecimal digits; "" if unknown */
    char key_backend[16];
    char key_algorithm[16];
    char key_origin[16];
    uint64_t not_before_usec; /* since the epoch */
    uint64_t not_after_usec;
    char endpoint[SETTINGS_HOST_MAX];
    uint64_t issued_at_usec;                /* when it was put into use here */
    char renew_method[SETTINGS_METHOD_MAX]; /* by which it would be renewed; "" for none */
    bool imported;                          /* a certificate was imported that it can be renewed by */
    char hindrance[FAILURE_MESSAGE_MAX];    /* why it cannot be renewed, for people; "": it can */
};

/* Pure: reads the facts from the result of a check that is done. Class `internal`, step `worker`, names the field that
 * is missing, too long or out of range. */
int identity_from_result(const struct message *message, struct identity *ret, struct failure *failure);

/* The same for method and certificate id from the result of a check that has failed, where it tells them. Returns 0 or
 * -EBADMSG. */
int identity_from_failure(const struct message *message, struct identity *ret);

/* The same for the serial number alone, which may be missing: then it is "". */
int identity_serial_number(const struct message *message, char ret[129], struct failure *failure);

/* The vocabulary of jobs on the channel (channel.h): verbs, and the keys of a job and of its result. */
#pragma once

/* VERB= */
#define JOB_CHECK "check"   /* + all five files: is this identity usable? no network */
#define JOB_ENROLL "enroll" /* + configuration, checkpoint and staged if they are there: get a new identity */
#define JOB_RENEW "renew"   /* + the five files, checkpoint and staged: get a successor to this identity */
#define JOB_PROVE "prove"   /* + the five files: does the cloud accept this identity? */
#define JOB_RETIRE "retire" /* + the five files: tell the cloud that this identity has replaced those of OLD= */
#define JOB_CHECK_CONFIG "check-config" /* + configuration: are the settings and the sections of the methods right? */
#define JOB_REQUEST "request"           /* + configuration, staged if there is one: a key that waits, and its CSR */
#define JOB_IMPORT "import"             /* + the same, certificate, private-key if it came */
/* The last two for a successor also: identity, and a request with ReuseKey=yes: private-key. */
#define JOB_PLUGINS "plugins"   /* the methods that are installed, and their options */
#define JOB_DIAGNOSE "diagnose" /* + configuration, staged if there is one: what is wrong with this device? */

/* The file of a JOB_PLUGINS: for each method its name and a text about it for people, each ended by a NUL. */

/* Keys of a job. */
#define JOB_KEY_VERB "VERB"
#define JOB_KEY_GENERATION "GENERATION" /* the number the new identity will get */
#define JOB_KEY_WAITED "WAITED"         /* enroll: seconds since the cloud has answered "not yet" for the first time */
#define JOB_KEY_METHODS "METHODS"       /* diagnose: whose inputs are looked at, with blanks between; else all */
#define JOB_KEY_DEVICE "DEVICE"         /* diagnose: "no" if only these are */
#define JOB_KEY_OLD "OLD"               /* retire: ids of certificates, with blanks between */
#define JOB_KEY_SUBJECT "SUBJECT"       /* request: in place of the configured one; optional */
#define JOB_KEY_SYNCHRONISED "SYNCHRONISED" /* "yes" or "no": has somebody set the clock? By hand: not there */

/* Keys of progress. */
#define JOB_KEY_STEP "STEP" /* common/step.h; with CLASS= and MESSAGE=: why it is asked again */
/* OLD= beside STEP=retire: the cloud knows now that this certificate is replaced. */
#define JOB_KEY_NOTE "NOTE" /* beside STEP=: something worth a line in the log */

/* Keys of a result. "resume" ends an enroll whose process has held a private key in the clear: another worker goes on
 * from the checkpoint at once, as the same attempt. */
#define JOB_KEY_RESULT "RESULT" /* "done", "failed" or "resume" (below) */
#define JOB_KEY_CLASS "CLASS"   /* failed: failure_class_name(), with STEP= and MESSAGE= */
#define JOB_KEY_MESSAGE "MESSAGE"
#define JOB_KEY_RETRY_AFTER "RETRY_AFTER" /* failed: seconds that the server asked for, optional */
#define JOB_KEY_UNUSABLE                                                                                               \
    "UNUSABLE"              /* enroll failed: "yes" if nothing was tried: an input of the method is missing or wrong */
#define JOB_KEY_LOST "LOST" /* check failed: this identity can never work again here, one of: */
#define JOB_LOST_YES "yes"
#define JOB_LOST_ELSEWHERE "elsewhere" /* its key is in another TPM, where it may still work */
/* With it CERTIFICATE_ID= and METHOD= where the files still say it. */
#define JOB_KEY_REFUSED "REFUSED" /* prove failed: "yes" if the cloud itself has refused the identity, beyond doubt */

/* Keys of the result of a check that is done: the facts of the identity. Times in seconds since the epoch. The result
 * of an enroll that is done carries files only (certificate, private-key, root-ca, identity); the check of them tells
 * the facts. */
#define JOB_KEY_METHOD "METHOD"
#define JOB_KEY_THING_NAME "THING_NAME"       /* may be "" */
#define JOB_KEY_SERIAL_NUMBER "SERIAL_NUMBER" /* optional; also of a request that is done */
#define JOB_KEY_CERTIFICATE_ID "CERTIFICATE_ID"
#define JOB_KEY_KEY_BACKEND "KEY_BACKEND"
#define JOB_KEY_KEY_ALGORITHM "KEY_ALGORITHM"
#define JOB_KEY_KEY_ORIGIN "KEY_ORIGIN"
#define JOB_KEY_NOT_BEFORE "NOT_BEFORE"
#define JOB_KEY_NOT_AFTER "NOT_AFTER"
#define JOB_KEY_ENDPOINT "ENDPOINT"
#define JOB_KEY_ISSUED_AT "ISSUED_AT"       /* when it was put into use here */
#define JOB_KEY_RENEW_METHOD "RENEW_METHOD" /* by which it would be renewed, "" for none */
#define JOB_KEY_HINDRANCE "HINDRANCE"       /* why it cannot be renewed, for people; "": it can */
#define JOB_KEY_IMPORTED "IMPORTED"         /* "yes": a certificate was imported that this method renews by */
/* The file root-ca of a check that is done: the authorities of RootCA= now, where they differ from the identity's. */

/* The named steps of the way of an identity, in their order. They appear on D-Bus (Step, LastError), in
 * progress messages and in logs, so they are part of the interface. */
#pragma once

#define STEP_CLOCK "clock"                 /* waiting until the clock can be believed */
#define STEP_WORKER "worker"               /* getting a worker and its channel */
#define STEP_CONFIGURATION "configuration" /* options, serial number, names */
#define STEP_KEY "key"                     /* making or loading the device key */
#define STEP_REQUEST "request"             /* building and signing the CSR */
#define STEP_CLAIM "claim"                 /* connecting with the claim certificate */
#define STEP_IDENTITY "identity"           /* renewal: connecting with the identity in use */
#define STEP_CERTIFICATE "certificate"     /* asking for the certificate and checking it */
#define STEP_REGISTER "register"           /* RegisterThing */
#define STEP_PROVE "prove"                 /* connecting with the new certificate */
#define STEP_VERIFY "verify"               /* networkless check of the files */
#define STEP_COMMIT "commit"               /* writing them durably, the rename */
#define STEP_RETIRE "retire"               /* telling the cloud which certificate is not used any more */

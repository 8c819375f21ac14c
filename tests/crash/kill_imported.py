#!/usr/bin/env python3
"""As kill.py, of a device that is provisioned just in time: kill -9 while a request is made, a certificate is imported,
and the device enrols with it; or, where no certificate comes, by a claim.

    tests/crash/kill_imported.py [--way=jitp|key|jitr|claim] [--every=N] [--renewal]

    jitp    the device's request is signed, and a template provisions it (the default)
    key     a key and its certificate come from the factory
    jitr    the device's request is signed, and a Lambda function registers it
    claim   Methods=jitp fleet-claim, and the request is never answered

A request that was printed stays good, and an import that has given its receipt need not be repeated. --renewal (jitp,
key): the device has an identity by a claim, its successor is imported, and then the old one is retired.
"""

import kill
from imported import SUCCESSORS, WAYS
from scene import arguments

if __name__ == "__main__":
    parser = arguments("point")
    parser.add_argument("--way", choices=WAYS, default="jitp")
    options = parser.parse_args()
    if options.renewal and options.way not in SUCCESSORS:
        parser.error(f"--renewal goes with --way={' or '.join(SUCCESSORS)}")
    kill.main(options)

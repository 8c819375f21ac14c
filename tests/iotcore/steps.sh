# Read by walkthrough and factory, not a program of its own: what both show and do. CONTROL is the URL of a stand-in's
# control plane, or empty for a real account.

step() { printf '\n== %s\n' "$*"; }
note() { printf '   %s\n' "$*"; }
fail() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# show PROMPT WORD...: a command as one would type it.
show() {
    printf '%s' "$1" >&2
    shift
    for word; do
        case $word in *[!A-Za-z0-9_./:=,-]*) printf " '%s'" "$word" >&2 ;; *) printf ' %s' "$word" >&2 ;; esac
    done
    printf '\n' >&2
}
run() { show '$' "$@"; "$@"; }

# The one difference between a stand-in and a real account is --endpoint-url.
iot() {
    show '$' aws iot "$@"
    aws iot ${CONTROL:+--endpoint-url "$CONTROL"} "$@"
}

# refuses ERROR COMMAND...: the command must end with that error of AWS.
refuses() {
    error=$1
    shift
    if said=$("$@" 2>&1 >/dev/null); then fail "AWS IoT took what it should refuse"; fi
    printf '%s\n' "$said" | sed '/^$/d'
    case $said in *"($error)"*) note "refused, as it should be: $error" ;; *) fail "not $error" ;; esac
}

# use_stand_in DIRECTORY: of iotcore-setup --front --control-port=0. It verifies no signature of a request, but wants to
# see one.
use_stand_in() {
    [ -s "$1/state/control-port" ] || fail "no stand-in with a control plane runs in $1"
    CONTROL=http://127.0.0.1:$(cat "$1/state/control-port")
    ENDPOINT=localhost
    PORT=$(sed -n 's/.*"port": *\([0-9]*\).*/\1/p' "$1/front.json")
    ROOT_CA=$1/root-ca.pem
    export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=eu-central-1
    export AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
}

new_key() { run openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# prove_authority NAME CODE: who can sign the registration code has the CA's key. The key of this certificate is of no
# use afterwards.
prove_authority() {
    new_key verification.key
    run openssl req -new -key verification.key -subj "/CN=$2" -out verification.csr
    run openssl x509 -req -in verification.csr -CA "$1.pem" -CAkey "$1.key" -CAcreateserial -days 2 -sha256 \
        -out "$1-verification.pem"
}

# sign_device NAME CA: NAME.pem from NAME.csr; NAME-chain.pem is what the device sends.
sign_device() {
    printf '%s\n' basicConstraints=critical,CA:FALSE keyUsage=critical,digitalSignature extendedKeyUsage=clientAuth \
        >"$1.ext"
    run openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 90 -sha256 \
        -extfile "$1.ext" -out "$1.pem"
    cat "$1.pem" "$2.pem" >"$1-chain.pem"
}

# The fingerprint of a certificate is its id, of a CA's too.
identifier() { openssl x509 -in "$1.pem" -noout -fingerprint -sha256 | sed 's/.*=//; s/://g' | tr 'A-F' 'a-f'; }

# publish NAME CERTIFICATE KEY: what an application does, under the name of the thing. Succeeds if the cloud took it;
# else $said tells why.
publish() {
    said=$(timeout 30 mosquitto_pub -V 5 -h "$ENDPOINT" -p "$PORT" --cafile "$ROOT_CA" --cert "$2" --key "$3" \
        -i "$1" -q 1 -t "things/$1/hello" -m hello 2>&1) || return 1
    case $said in *failed* | *rror*) return 1 ;; esac
}

# Gateways: enrolld from the build directory $BUILD, each with a message bus and folders of its own, NAME.gateway. On a
# real one it is installed, and `enrollctl` is all.

PROCESSES=
end_gateways() {
    # shellcheck disable=SC2086 # a list of numbers
    [ -z "$PROCESSES" ] || kill $PROCESSES 2>/dev/null || true
    wait
}
trap end_gateways EXIT
trap 'exit 1' INT TERM

# end_process NUMBER: one of them, which may have ended already.
end_process() {
    others=
    for other in $PROCESSES; do
        [ "$other" = "$1" ] || others="$others $other"
    done
    PROCESSES=$others
    kill "$1" 2>/dev/null || true
    wait "$1" || true
}

# wait_until WHAT COMMAND...: for $PATIENCE seconds.
PATIENCE=30
wait_until() {
    what=$1
    shift
    end=$(($(date +%s) + PATIENCE))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$end" ] || fail "not within $PATIENCE s: $what"
        sleep 0.1
    done
}

start_bus() {
    cat >"$1/bus.conf" <<EOF
<busconfig>
  <type>custom</type>
  <listen>unix:path=$1/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/><allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/><allow receive_type="method_return"/>
    <allow receive_type="error"/><allow receive_type="signal"/>
  </policy>
</busconfig>
EOF
    dbus-daemon "--config-file=$1/bus.conf" --nofork --nopidfile >"$1/bus.log" 2>&1 &
    PROCESSES="$PROCESSES $!"
    wait_until "a message bus in $1" test -S "$1/bus"
}

# start_gateway NAME: its serial number is its name.
start_gateway() {
    place=$PWD/$1.gateway
    mkdir -p "$place/run" "$place/state"
    cat >"$place/enrolld.conf" <<EOF
[Agent]
Methods=jitp
SerialNumber=literal:$1
ThingName=%c
ClockWait=0s
VolatileState=yes
[Request]
Subject=CN=%s,O=Example
[Cloud]
Endpoint=$ENDPOINT
Port=$PORT
RootCA=$ROOT_CA
[Key]
Backend=file
[Retry]
NotYet=2s 10s
EOF
    [ -S "$place/bus" ] || start_bus "$place"
    DBUS_SYSTEM_BUS_ADDRESS=unix:path=$place/bus ENROLLD_WORKER=$BUILD/enrolld-worker \
        ENROLLD_PLUGIN_DIR=$BUILD/plugins/.libs STATE_DIRECTORY=$place/state RUNTIME_DIRECTORY=$place/run \
        "$BUILD/enrolld" "--config=$place/enrolld.conf" >"$place/log" 2>&1 &
    echo $! >"$place/pid"
    PROCESSES="$PROCESSES $!"
    wait_until "enrolld in $place" gateway_answers "$1"
}

# forget_gateway NAME: gives up its identity, and is started anew.
forget_gateway() {
    note "on $1 enrolld is stopped, /var/lib/enrolld is deleted, and enrolld is started"
    read -r process <"$1.gateway/pid"
    end_process "$process"
    rm -r "$1.gateway/state"
    start_gateway "$1"
}

gateway_quietly() {
    at=$PWD/$1.gateway/bus
    shift
    DBUS_SYSTEM_BUS_ADDRESS=unix:path=$at "$BUILD/enrollctl" "$@"
}

# A gateway that has no identity yet answers with exit code 3, one that does not run with 5.
gateway_answers() {
    gateway_quietly "$1" status || [ $? -eq 3 ]
}

# new_gateway NAME CA: on the line.
new_gateway() {
    start_gateway "$1"
    fill_gateway "$1" "$2"
}

# fill_gateway NAME CA: the key stays in the gateway; the request goes out, the certificate comes in.
fill_gateway() {
    gateway "$1" request >"$1.csr"
    sign_device "$1" "$2"
    gateway "$1" import "$1-chain.pem"
}

# gateway NAME VERB...: enrollctl on that gateway.
gateway() {
    prompt="$1 \$"
    on=$1
    shift
    show "$prompt" enrollctl "$@"
    gateway_quietly "$on" "$@"
}

# gateway_comes_online NAME: a gateway comes back until it is let in, for a refusal of the first connections is part of
# the protocol. AWS IoT takes no two connections of one client id within a second, and enrolld may have used the
# application's.
gateway_comes_online() {
    gateway "$1" wait --timeout=120
    sleep 1.1
    online "$1" || fail "$1 is not let in: $said"
}

# gateway_stays_out NAME: six seconds are three connections or four.
gateway_stays_out() {
    code=0
    gateway "$1" wait --timeout=6 || code=$?
    [ "$code" -eq 4 ] || fail "$1 is let in, and should not be, or has failed: exit code $code"
    note "$1 is refused"
}

# online NAME: an application on that gateway publishes with the identity in current/.
online() {
    current=$1.gateway/state/current
    publish "$1" "$current/certificate.pem" "$current/private.pem"
}

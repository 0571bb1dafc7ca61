#!/bin/sh
# Makes the certificates of the tests anew. They are good until the year 2126, but for the one that is over.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

key "$work/authority-key.pem"
openssl req -x509 -new -key "$work/authority-key.pem" -subj "/CN=Authority of the tests" -days 36524 -out authority.pem
cat > "$work/database.cnf" <<END
[ca]
default_ca = tests
[tests]
new_certs_dir = $work
database = $work/index
serial = $work/serial
default_md = sha256
policy = any
[any]
commonName = supplied
[names]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
END
: > "$work/index"
echo 01 > "$work/serial"

# Name, beginning and end of a certificate for this machine, and what its subject is called.
certificate() {
    key "$1-key.pem"
    openssl req -new -key "$1-key.pem" -subj "/CN=$4" -out "$work/$1.csr"
    openssl ca -batch -notext -config "$work/database.cnf" -extensions names -startdate "$2" -enddate "$3" \
        -cert authority.pem -keyfile "$work/authority-key.pem" -in "$work/$1.csr" -out "$1.pem" 2>/dev/null
}

certificate server 20260101000000Z 21260101000000Z "server"
certificate next 20260101000000Z 21260101000000Z "next"
certificate over 20200101000000Z 20210101000000Z "over"
rm over-key.pem

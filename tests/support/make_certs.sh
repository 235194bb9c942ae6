#!/bin/sh
# make_certs.sh DIR: throw-away certificates for the TLS tests, P-256, valid for a day.
#   ca, other-ca       two independent authorities
#   server, server2    for localhost, 127.0.0.1 and ::1 (server2: the same again, to reload)
#   wronghost          for other.example, by ca
#   expired            for localhost, by ca, ended in 2021
#   client             CN=scraper, O="Tests, Inc", by ca;  stranger: by ca too;  client-expired;
#                      client-other: by other-ca
# NAME.pem and NAME.key each; broken.pem is no certificate.
set -eu
mkdir -p "$1"
cd "$1"
exec 2> make_certs.log

authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Test $1" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
        -keyout "$1.key" -out "$1.pem"
}
leaf() { # name authority subject usage names [start end]
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$3" -keyout "$1.key" -out "$1.csr"
    printf 'basicConstraints=CA:FALSE\nextendedKeyUsage=%s\n%s\n' "$4" "${5:+subjectAltName=$5}" > "$1.ext"
    rm -rf "$1.db"; mkdir "$1.db"; : > "$1.db/index"
    cat > "$1.cnf" <<END
[ca]
default_ca = it
[it]
database = $1.db/index
new_certs_dir = $1.db
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
email_in_dn = no
[any]
commonName = supplied
organizationName = optional
organizationalUnitName = optional
countryName = optional
END
    if [ $# -gt 5 ]; then span="-startdate $6 -enddate $7"; else span="-days 1"; fi
    # shellcheck disable=SC2086
    openssl ca -batch -config "$1.cnf" -cert "$2.pem" -keyfile "$2.key" -in "$1.csr" -extfile "$1.ext" $span -notext -preserveDN -out "$1.pem"
}
here=DNS:localhost,IP:127.0.0.1,IP:::1
authority ca
authority other-ca
leaf server ca /CN=localhost serverAuth "$here"
leaf server2 ca /CN=localhost serverAuth "$here"
leaf wronghost ca /CN=other.example serverAuth DNS:other.example
leaf expired ca /CN=localhost serverAuth "$here" 20200101000000Z 20210101000000Z
leaf client ca '/C=DE/O=Tests, Inc/CN=scraper' clientAuth ''
leaf stranger ca /CN=stranger clientAuth ''
leaf client-expired ca /CN=scraper clientAuth '' 20200101000000Z 20210101000000Z
leaf client-other other-ca /CN=scraper clientAuth ''
echo 'not a certificate' > broken.pem
rm -rf ./*.csr ./*.ext ./*.cnf ./*.db

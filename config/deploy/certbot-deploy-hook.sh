#!/bin/sh
# For /etc/letsencrypt/renewal-hooks/deploy/, where certbot calls it after each renewal with $RENEWED_LINEAGE.
#
# nginx is told to read its certificate again. A relay that has the certificate itself cannot read certbot's folder, and
# should not: it gets copies in /etc/frost-relay/tls, whose group (setgid: `install -d -m 2750 -g frost-relay-tls`) they
# inherit, and is told to take them up. Nobody is disconnected by either.
set -eu

: "${RENEWED_LINEAGE:?is not set: certbot calls this, or you with RENEWED_LINEAGE=/etc/letsencrypt/live/NAME}"
folder=/etc/frost-relay/tls

if [ -d "$folder" ]; then
    umask 027
    for each in fullchain.pem privkey.pem; do # at no time is a file there that is not whole
        cat "$RENEWED_LINEAGE/$each" >"$folder/.$each.new"
        mv -f "$folder/.$each.new" "$folder/$each"
    done
    if systemctl --quiet is-active frost-relay.service; then
        systemctl reload frost-relay.service
    fi
fi
if systemctl --quiet is-active nginx.service; then
    systemctl reload nginx.service
fi

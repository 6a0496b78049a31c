#!/bin/sh
# Ray binds HAProxy's pages of statistics and metrics to every interface and has no option for it: bind them to loopback.
for argument in "$@"; do
    case "$argument" in
    *.cfg) sed -i -e 's/bind \*:/bind 127.0.0.1:/' -e 's/bind :/bind 127.0.0.1:/' "$argument" ;;
    esac
done
exec "$SAFEGUARD_HAPROXY" "$@"

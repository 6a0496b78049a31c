#!/bin/sh
# What Ray has no options for: HAProxy's pages of statistics and metrics are bound to loopback instead of every interface
# (the REST API's own address, SAFEGUARD_HTTP_HOST, stays), the application learns who called, and callers do not learn what
# answers.
statistics=${RAY_SERVE_HAPROXY_STATS_PORT:-[0-9]*}
for argument in "$@"; do
    case "$argument" in
    *.cfg) sed -i -e "s/bind \*:\($statistics\)\([^0-9]\|\$\)/bind 127.0.0.1:\1\2/" -e 's/bind :/bind 127.0.0.1:/' \
        -e 's/^defaults$/defaults\n    option forwardfor/' \
        -e 's/^frontend http_frontend$/frontend http_frontend\n    http-response del-header server/' "$argument" ;;
    esac
done
exec "$SAFEGUARD_HAPROXY" "$@"

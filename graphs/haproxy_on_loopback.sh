#!/bin/sh
# What Ray has no options for: HAProxy's pages of statistics and metrics are bound to loopback instead of every interface
# (the REST API's own address, SAFEGUARD_HTTP_HOST, stays), the application learns who called, and callers do not learn what
# answers. Who is turned away, by Serve with a line of text or by HAProxy with a 500, gets a problem that can be tried again.
statistics=${RAY_SERVE_HAPROXY_STATS_PORT:-[0-9]*}
busy="status 503 content-type application\/problem+json file '$(dirname "$0" | sed 's/[\/&]/\\&/g')\/haproxy_busy.json' hdr retry-after 2"
for argument in "$@"; do
    case "$argument" in
    *.cfg) sed -i -e "s/bind \*:\($statistics\)\([^0-9]\|\$\)/bind 127.0.0.1:\1\2/" -e 's/bind :/bind 127.0.0.1:/' \
        -e 's/^defaults$/defaults\n    option forwardfor/' \
        -e "s/^ *errorfile 503 .*/    http-error $busy/" \
        -e "s/^frontend http_frontend\$/&\n    http-response del-header server\n    http-response return $busy if { status 503 } !{ res.hdr(content-type) -m beg application\/problem }/" \
        "$argument" ;;
    esac
done
exec "$SAFEGUARD_HAPROXY" "$@"

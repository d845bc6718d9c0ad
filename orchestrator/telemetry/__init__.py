"""What others can watch gpudeck by: Prometheus metrics, an access log, OpenTelemetry spans. All of it off the request
path: the gateway counts and hands over finished records, everything else happens at a scrape or in a thread."""

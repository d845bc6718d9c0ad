"""Configurations of the others: two upstreams and a proxy of nginx, a proxy of HAProxy. Pure: text from values.

They are set up as somebody would who wants speed from them: one thread, kept connections to the upstreams, round robin,
no log, bodies streamed. They check no key and record nothing; the gateway beside them does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SLUG: Final = "bench"
STREAM_SLUG: Final = "stream"
PACED_SLUG: Final = "paced"
KEY: Final = "gd_bench_0123456789abcdefghijklmnopqrstuv"
SMALL_BYTES: Final = 200
LARGE_BYTES: Final = 1_000_000
CONNECTIONS_MAX: Final = 4_096
_KEPT: Final = 100_000_000
"""Requests of one connection before nginx would close it: never, here."""

_NGINX_HEAD: Final = """\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    sendfile on;
    keepalive_requests {kept};
    keepalive_timeout 300s;
    client_max_body_size 0;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""


def nginx_upstream(ports: tuple[int, int], root: str) -> str:
    """Two servers on 127.0.0.1. /small, /sink and /large answer with and without the prefix: the gateway takes it
    off, as it does for its workers, the other proxies leave it on. `root` holds a file `large`.

    `return` alone would answer an upload before it came, which ends a connection: /sink reads the body whole, into
    memory, and then asks a server of its own for the answer."""
    listens = "".join(f"        listen 127.0.0.1:{port} backlog=4096;\n" for port in ports)
    small = "a" * SMALL_BYTES
    return (
        _NGINX_HEAD.format(kept=_KEPT)
        + f"""
    server {{
{listens}
        root {root};
        default_type application/octet-stream;
        location ~ /small$ {{ return 200 "{small}"; }}
        location ~ /sink$ {{
            client_body_buffer_size 2m;
            proxy_pass http://unix:{root}/taken.sock;
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
        }}
        location ~ ^/v1/{SLUG}/large$ {{ rewrite ^ /large break; }}
        location = /large {{ }}
    }}
    server {{ listen unix:{root}/taken.sock; return 200 "taken"; }}
}}
"""
    )


def nginx_proxy(port: int, workers: tuple[int, ...], streams: tuple[int, ...], paced: tuple[int, ...]) -> str:
    """A proxy on 127.0.0.1:`port`: /stream goes to `streams`, /paced to `paced`, everything else to `workers`, each in
    turn."""
    forward = 'proxy_http_version 1.1; proxy_set_header Connection "";'
    return (
        _NGINX_HEAD.format(kept=_KEPT)
        + f"""
    upstream workers {{ {_members(workers)} keepalive 512; keepalive_requests {_KEPT}; }}
    upstream streams {{ {_members(streams)} keepalive 512; keepalive_requests {_KEPT}; }}
    upstream paced {{ {_members(paced)} keepalive 512; keepalive_requests {_KEPT}; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://workers; proxy_request_buffering off; {forward} }}
        location ~ /stream$ {{ proxy_pass http://streams; proxy_buffering off; {forward} }}
        location ~ /paced$ {{ proxy_pass http://paced; {forward} }}
        proxy_buffer_size 16k; proxy_buffers 16 64k; proxy_busy_buffers_size 128k;
    }}
}}
"""
    )


def haproxy_proxy(port: int, workers: tuple[int, ...], streams: tuple[int, ...], paced: tuple[int, ...]) -> str:
    """The same in HAProxy's words."""

    def servers(ports: tuple[int, ...]) -> str:
        return "".join(f"    server w{port} 127.0.0.1:{port} pool-max-conn 512\n" for port in ports)

    return f"""\
global
    nbthread 1
    maxconn {CONNECTIONS_MAX}
    tune.bufsize 65536
defaults
    mode http
    option http-keep-alive
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 300s
    timeout server 300s
frontend bench
    bind 127.0.0.1:{port} backlog 4096
    use_backend streams if {{ path_end /stream }}
    use_backend paced if {{ path_end /paced }}
    default_backend workers
backend workers
    balance roundrobin
{servers(workers)}
backend streams
    balance roundrobin
{servers(streams)}
backend paced
    balance roundrobin
{servers(paced)}
"""


def load_script(method: str, body_bytes: int, key: str, *, fresh: Sequence[str] = ()) -> str:
    """A script for wrk: what it sends, and its figures as one JSON line on stderr. `fresh` are keys of FRESH: what each
    request has of its own, so that no head comes twice."""
    body = f'wrk.body = string.rep("x", {body_bytes})\n' if body_bytes else ""
    if fresh:
        body += _EACH.format(fresh="\n".join(f"  {FRESH[what]}" for what in fresh))
    return (
        f'wrk.method = "{method}"\nwrk.headers["x-api-key"] = "{key}"\n{body}'
        + """
done = function(summary, latency, requests)
  local e = summary.errors
  io.stderr:write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, "errors": %d}',
    summary.requests, summary.duration, latency:percentile(50.0), latency:percentile(99.0),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
    )


FRESH: Final = {
    "id": 'wrk.headers["x-request-id"] = "bench-" .. n',
    "trace": 'wrk.headers["traceparent"] = string.format("00-%032x-%016x-01", n, n)',
    "query": 'path = wrk.path .. "?n=" .. n',
}
_EACH: Final = """\
local n = 0
request = function()
  n = n + 1
  local path = wrk.path
{fresh}
  return wrk.format(nil, path)
end
"""


def _members(ports: tuple[int, ...]) -> str:
    return " ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)

"""The dashboard in a browser, on this host.

`gpudeck web` serves one page and one WebSocket; behind each open page runs a dashboard of its own as a child process.
The browser's terminal is the bundle of textual-serve (the extra `gpudeck[web]`), the protocol to the child is that of
Textual's own web driver. textual-serve's server is not used: it asks nobody who they are, and whoever reaches this
program can start containers.
"""

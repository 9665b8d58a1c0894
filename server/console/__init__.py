"""Console: the centre's own pages, for people on the server's own machine, rendered on the server.

    request ─► guard (this machine only) ─► figures (one snapshot) ─► picture (geometry) ─► templates ─► HTML, CSS, no script

Reading order: pages, guard, figures, picture. Nothing is loaded from elsewhere and nothing runs in the browser: the
Content-Security-Policy forbids it. May import: server, schema, sync.
"""

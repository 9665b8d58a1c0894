"""`python -m bench` is `outpost bench`."""

from __future__ import annotations

import sys

from schema.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", *sys.argv[1:]]))

"""A reader that polls database files with Python's own sqlite3 and counts receipts that are not whole; not a test itself.

    python -I reader.py path path …     polls until its standard input closes; prints one JSON document per file

A receipt is whole with two lines and one payment; lines and payments without their receipt are not whole either.
"""

import json
import sqlite3
import sys
import threading

QUERY = """
SELECT (SELECT COUNT(*) FROM sale),
       (SELECT COUNT(*) FROM sale_line),
       (SELECT COUNT(*) FROM payment),
       (SELECT COUNT(*) FROM sale s WHERE (SELECT COUNT(*) FROM sale_line l WHERE l.sale_id = s.id) <> 2
                                       OR (SELECT COUNT(*) FROM payment p WHERE p.sale_id = s.id) <> 1)
"""


def main(paths: list[str]) -> None:
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    found = [{"polls": 0, "sizes": [], "broken": []} for _ in paths]
    connections = [sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=30) for path in paths]
    ended = False
    while not ended:
        ended = done.wait(0.02)  # and once more after it: what the last exchange brought counts too
        for connection, seen in zip(connections, found, strict=True):
            sales, lines, payments, broken = connection.execute(QUERY).fetchone()
            seen["polls"] += 1
            if not seen["sizes"] or seen["sizes"][-1] != sales:
                seen["sizes"].append(sales)
            if broken or (lines, payments) != (2 * sales, sales):
                seen["broken"].append([sales, lines, payments, broken])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])

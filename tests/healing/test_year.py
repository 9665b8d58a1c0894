"""A laptop is in a drawer for a year. The centre goes on; so did the laptop's owner, a little. Then it syncs."""

from __future__ import annotations

import random

from server import backup
from tests.world import World

DAYS, CHANGES_A_DAY, OWN = 365, 200, 1_000
CONTACTS = 2_000


def test_a_year_away(world: World) -> None:
    chance = random.Random(365)
    laptop, office = world.node("laptop", "branch:LON"), world.node("office", "branch:LON")
    connection = world.database.dialect.open(world.database.path)
    rows = [(f"c{number}", "person", f"name {number}", "LON") for number in range(CONTACTS)]
    connection.executemany("INSERT INTO contact (id, kind, name, branch_id) VALUES (?, ?, ?, ?)", rows)
    world.settle(2)
    theirs: dict[str, str] = {}
    for day in range(DAYS):
        connection.execute("BEGIN")
        for turn in range(CHANGES_A_DAY):
            key, phone = f"c{chance.randrange(CONTACTS)}", f"{day}-{turn}"
            connection.execute("UPDATE contact SET phone = ? WHERE id = ?", (phone, key))
            theirs[key] = phone
        connection.execute("COMMIT")
        office.sync()
        if day % 50 == 0:
            backup.backup(world.database, world.folder / f"backup-{day}", world.clock.read())
    connection.close()
    mine: dict[str, str] = {}
    laptop.sql("BEGIN")
    for turn in range(OWN // 2):
        key, phone = f"c{chance.randrange(CONTACTS)}", f"mine {turn}"
        laptop.sql("UPDATE contact SET phone = ? WHERE id = ?", phone, key)
        mine[key] = phone
    for turn in range(OWN // 2):
        laptop.sql(
            "INSERT INTO sale (id, number, kind, branch_id, sold_ms, currency, total_minor)"
            f" VALUES ('s{turn}', 'n', 'sale', 'LON', 1, 'GBP', {turn})"
        )
    laptop.sql("COMMIT")
    report = laptop.sync(rows=500)
    assert report.pushed == OWN // 2 + len(mine)
    assert laptop.unsynced() == 0
    world.settle(2)
    assert world.agree()
    assert world.sql("SELECT COUNT(*), SUM(total_minor) FROM sale") == [(OWN // 2, sum(range(OWN // 2)))]
    doubtful = {key for key in mine if key in theirs}
    assert len(doubtful) > OWN // 4
    recorded = {each["key"]: (each["mine"], each["theirs"]) for each in laptop.conflicts()}
    assert recorded == {key: (mine[key], theirs[key]) for key in doubtful}
    standing = dict(world.sql("SELECT id, phone FROM contact"))
    assert all(standing[key] in (mine[key], theirs[key]) for key in doubtful)

"""The real code of nodes and a server in one process, with a seeded network, disk and clock: same seed, same trace.

history.py    one history: joins, writes, exchanges, mishaps, then quiet, then the last questions
actors.py     what people and programs type           network.py   what happens to messages
mishaps.py    what happens to processes, disks, clocks and files; `--faults` names the kinds
upgrades.py   programs replaced by newer ones (fault `schema`); later.py their declaration; skew.py rows of every version in the
              oracle's words
disk.py       files and connections, used again; a process that dies before one of its statements
oracle.py     what ought to be, in dictionaries       causes.py    who knew what
lives.py      what the centre held at every version, and what became of every transaction, in each of its lives
checks.py     the judge                               final.py     its last questions

What is looked at when:
  after every exchange, crash, copy, and between pages   a node's rows = the centre's at its cursor, in its scope, and its own
                                                         pending work, cell by cell; the cursor has not fallen
  at every new version of the centre                     nothing overwritten or deleted unseen and unrecorded; conflicts were
                                                         ones, and their rule decided them; sales whole; no orphans
  at rest                                                equal rows; outbox and bookkeeping empty; every transaction has its
                                                         verdict, everything typed was sealed; every accepted value is current,
                                                         on record or overwritten knowingly; differences counted once; documents
                                                         unchanged; takings per branch and day; rights; known conflicts; refused
                                                         work kept. One history in four asks the engine's own verify as well
Of a node of either version its own columns are compared; what it does not know must be at the centre as it was.
While a node says that it heals from a restore of the centre, its rows are not looked at; it must be done when all is quiet.

Not simulated: writes that the disk had not kept when the power went (tests/processes replays those; here what was written
stays), more than two versions of the declaration, work that is copied before it is sealed (RULES §2 c), a server on another
database than SQLite.
"""

"""Time for leases: seconds that pass as they do, whatever is done to the clock of the machine."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def store_clock(db: sqlite3.Connection, lease_seconds: float) -> Callable[[], float]:
    """A monotonic clock that all processes over one store share until the machine starts anew.

    It began with the machine's clock, in seconds since 1970, when the first process of this boot opened the store.
    That one also cuts open leases that would last longer than new ones: the machine's clock has gone back since they
    were given. Where the system does not tell one boot from another (only Linux does), each process counts as first.

    Args:
        db: with the tables of the store, inside a transaction.
        lease_seconds: of new leases.
    """
    boot = BOOT_ID.read_text().strip() if BOOT_ID.is_file() else None
    row = db.execute("SELECT value FROM meta WHERE key = 'clock'").fetchone()
    begun = json.loads(row[0]) if row else {}
    offset = begun.get("offset", 0.0)
    if boot is None or begun.get("boot") != boot:
        offset = time.time() - time.monotonic()
        begun = {"boot": boot, "offset": offset}
        db.execute("INSERT OR REPLACE INTO meta VALUES ('clock', ?)", (json.dumps(begun),))
        latest = time.time() + lease_seconds
        db.execute("UPDATE assignments SET expires = ? WHERE state = 'open' AND expires > ?", (latest, latest))
    return lambda: time.monotonic() + offset

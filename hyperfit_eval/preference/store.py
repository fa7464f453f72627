"""The annotators' answers: a SQLite file that survives SIGKILL and serves several processes.

Every change is one transaction that begins with the write lock (BEGIN IMMEDIATE), so that two
annotators cannot take the last slot of a pair: whoever comes second sees it taken. The write-ahead log
is synced before a commit returns (synchronous=FULL), so that an acknowledged answer is on the disk.
"""

import hashlib
import random
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HyperfitError
from .clock import store_clock
from .schema import UNDO, VERSION, statements
from .study import CHOICES, STORE_FILE, Study, read_study

LEASE_SECONDS = 20 * 60
"""How long a pair stays with an annotator who does not answer."""
MAX_LEASE_SECONDS = 24 * 3600
BUSY_SECONDS = 20
"""How long a call waits for other processes that write."""
MAX_NAME = 60

_FREE = """
    SELECT id FROM pairs
    WHERE is_check = ?
      AND NOT EXISTS (SELECT 1 FROM assignments WHERE pair = pairs.id AND annotator = ?)
      AND (is_check OR ? > (
        SELECT count(*) FROM assignments
        WHERE pair = pairs.id AND (state = 'answered' OR (state = 'open' AND expires > ?))))
    ORDER BY random() LIMIT 1
"""


class Taken(Exception):
    """An answer that comes too late: the pair went back to the pool and others finished it."""


class Conflict(Exception):
    """An answer to a pair that this annotator has answered otherwise, or was never shown."""


@dataclass(frozen=True)
class Offer:
    """The work of an annotator: judge `pair`, or, without one, wait for others' open pairs or stop."""

    pair: str | None
    finished: bool = False
    """Nothing will come any more, unless others leave pairs open."""


@dataclass(frozen=True)
class Answer:
    """An answer that counts."""

    pair: str
    annotator: int
    choice: str
    seconds: float | None
    """Time with the pair on the screen, pauses left out."""
    at: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Annotator:
    """A person who annotates; the name is for the study's owner alone."""

    id: int
    name: str


class Store:
    """The answers of one study. Threads may share it; other processes open their own.

    Args:
        folder: of the study.
        study: read from it.
        lease_seconds: how long a pair stays with an annotator who does not answer.
    Raises:
        HyperfitError: the file is of another study or a later version, or is no database; a lease out of range.
    """

    def __init__(self, folder: Path, study: Study | None = None, lease_seconds: float = LEASE_SECONDS) -> None:
        if not 0 < lease_seconds <= MAX_LEASE_SECONDS:  # also of NaN
            longest = MAX_LEASE_SECONDS // 60
            raise HyperfitError(f"a lease of {lease_seconds / 60:g} minutes; expected more than 0, {longest} at most")
        self.study = read_study(folder) if study is None else study
        self.path, self._lease = folder / STORE_FILE, lease_seconds
        self._lock, self._random = threading.Lock(), random.SystemRandom()
        try:
            self._db = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            _write_ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            with self._transaction() as db:
                self._prepare(db)
        except sqlite3.Error as error:
            raise HyperfitError(f"{self.path}: cannot be used ({error}); is it whole, and on a local disk?") from error

    def close(self) -> None:
        """Close the file; nothing depends on it."""
        self._db.close()

    def add_annotator(self, name: str, token: str | None = None) -> str:
        """Make an account; returns its token, of which only a hash is kept.

        Args:
            name: for the study's owner.
            token: a secret of the caller's, a random one by default. The same one once more changes nothing.
        Raises:
            HyperfitError: an empty name, or one of more than 60 characters.
        """
        name = " ".join(name.split())
        if not 0 < len(name) <= MAX_NAME:
            raise HyperfitError(f"a name of {len(name)} characters; expected 1 to {MAX_NAME}")
        token = token or secrets.token_urlsafe(18)
        with self._transaction() as db:
            row = (name, _hash(token), time.time())
            insert = "INSERT INTO annotators (name, token_hash, created) VALUES (?, ?, ?)"
            db.execute(f"{insert} ON CONFLICT (token_hash) DO NOTHING", row)
        return token

    def annotator(self, token: str) -> Annotator | None:
        """The owner of a token; None where it is unknown."""
        rows = self._read("SELECT id, name FROM annotators WHERE token_hash = ?", _hash(token))
        return Annotator(*rows[0]) if rows else None

    def annotators(self) -> list[Annotator]:
        """All of them, in the order in which they came."""
        return [Annotator(*row) for row in self._read("SELECT id, name FROM annotators ORDER BY id")]

    def next(self, annotator: int) -> Offer:
        """The pair that this annotator has open, or a random one that lacks annotations, which is then theirs.

        A pair whose time ran out is theirs again if nobody took its slot, and is never shown again if somebody did.
        """
        with self._transaction() as db:
            for pair, expires in _open(db, annotator):
                if self._renew(db, pair, annotator, expires):
                    return Offer(pair)
            drawn = self._draw(db, annotator)
            if drawn is not None:
                now = self._now()
                row = (drawn, annotator, now, now + self._lease)
                db.execute("INSERT INTO assignments VALUES (?, ?, ?, ?, 'open')", row)
                return Offer(drawn)
            return Offer(None, finished=not self._others_hold(db, annotator))

    def answer(self, annotator: int, pair: str, choice: str, seconds: float | None = None) -> None:
        """Store an answer; on return it is on the disk. The same answer once more changes nothing.

        Raises:
            HyperfitError: another choice than `study.CHOICES`.
            Taken: the time ran out and others finished the pair.
            Conflict: answered otherwise before, or never shown to this annotator.
        """
        if choice not in CHOICES:
            raise HyperfitError(f"choice {choice!r:.20}: expected {', '.join(CHOICES)}")
        late = False
        with self._transaction() as db:
            query = "SELECT state, assigned, expires FROM assignments WHERE pair = ? AND annotator = ?"
            row = db.execute(query, (pair, annotator)).fetchone()
            if row is None:
                raise Conflict("this pair was not given to you")
            state, assigned, expires = row
            if state == "answered":
                current = "SELECT choice FROM current WHERE pair = ? AND annotator = ?"
                if db.execute(current, (pair, annotator)).fetchone() != (choice,):
                    raise Conflict("you have answered this pair already; undo that first")
                return
            late = state == "lost" or not self._renew(db, pair, annotator, expires)
            if not late:
                spent = self._now() - assigned
                if seconds is not None:  # unknown where the machine's clock went back between two boots
                    seconds = min(max(seconds, 0.0), spent) if spent >= 0 else None
                row = (pair, annotator, choice, seconds, time.time())
                db.execute("INSERT INTO answers (pair, annotator, choice, seconds, at) VALUES (?, ?, ?, ?, ?)", row)
                _set_state(db, pair, annotator, "answered")
        if late:  # after the commit, which keeps the state 'lost'
            raise Taken("this pair went back to the others while you were away")

    def undo(self, annotator: int, answer: int) -> str | None:
        """Take one of the annotator's answers back and give its pair to them again.

        A pair that they have open meanwhile stays theirs and comes afterwards.

        Args:
            annotator: who.
            answer: its number, from `last_answer`. One that does not count any more changes nothing, so that the
                same call sent twice does not take a second answer back.
        Returns:
            The pair, or None where nothing was changed.
        """
        with self._transaction() as db:
            query = "SELECT pair FROM current WHERE annotator = ? AND id = ?"
            last = db.execute(query, (annotator, answer)).fetchone()
            if last is None:
                return None
            now = self._now()
            row = (last[0], annotator, UNDO, time.time())
            db.execute("INSERT INTO answers (pair, annotator, choice, at) VALUES (?, ?, ?, ?)", row)
            # The newest assignment is offered first.
            db.execute(
                "UPDATE assignments SET state = 'open', assigned = ?, expires = ? WHERE pair = ? AND annotator = ?",
                (now, now + self._lease, last[0], annotator),
            )
            return str(last[0])

    def answers(self) -> list[Answer]:
        """The answers that count, in the order in which they were given."""
        # Earlier versions stored negative seconds where the machine's clock went back.
        seconds = "CASE WHEN seconds >= 0 THEN seconds END"
        rows = self._read(f"SELECT pair, annotator, choice, {seconds}, at FROM current ORDER BY id")
        return [Answer(*row) for row in rows]

    def answered(self, annotator: int) -> int:
        """How many pairs this annotator has answered."""
        return self._count("SELECT count(*) FROM current WHERE annotator = ?", annotator)

    def last_answer(self, annotator: int) -> int | None:
        """Number of the newest answer of this annotator that counts; None where there is none."""
        number = self._read("SELECT max(id) FROM current WHERE annotator = ?", annotator)[0][0]
        return None if number is None else int(number)

    def left_for(self, annotator: int) -> int:
        """How many pairs this annotator may still get, and the attention checks that will come among them.

        The checks are counted as expected, so that the number falls by one after each answer: were they left out, it
        would stand still after a check, and tell it from other pairs.
        """
        count = """
            SELECT count(*) FROM pairs WHERE NOT is_check AND ? > (
                SELECT count(*) FROM assignments WHERE pair = pairs.id AND state = 'answered')
            AND NOT EXISTS (
                SELECT 1 FROM assignments WHERE pair = pairs.id AND annotator = ? AND state <> 'open')
        """
        left = self._count(count, self.study.annotations, annotator)
        answered = [
            self.study.by_id[pair] for (pair,) in self._read("SELECT pair FROM current WHERE annotator = ?", annotator)
        ]
        checks, rate = sum(pair.is_check for pair in answered), self.study.check_rate
        expected = round(rate / (1 - rate) * (left + len(answered) - checks))
        return left + max(expected - checks, 0) if left else 0

    def open_count(self) -> int:
        """How many pairs are with an annotator at this moment."""
        return self._count("SELECT count(*) FROM assignments WHERE state = 'open' AND expires > ?", self._now())

    def undone(self) -> int:
        """How many answers were taken back."""
        return self._count("SELECT count(*) FROM answers WHERE choice = ?", UNDO)

    def _prepare(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise HyperfitError(f"{self.path}: version {version} is later than {VERSION}; pip install -U hyperfit-eval")
        if version == 0:
            for statement in statements():
                db.execute(statement)
            db.execute("INSERT INTO meta VALUES ('study', ?)", (self.study.fingerprint,))
            db.executemany("INSERT INTO pairs VALUES (?, ?)", [(p.id, int(p.is_check)) for p in self.study.pairs])
            db.execute(f"PRAGMA user_version = {VERSION}")
        (study,) = db.execute("SELECT value FROM meta WHERE key = 'study'").fetchone()
        if study != self.study.fingerprint:
            raise HyperfitError(f"{self.path}: answers to another study ({study}); keep each study in its own folder")
        self._now = store_clock(db, self._lease)

    def _draw(self, db: sqlite3.Connection, annotator: int) -> str | None:
        """A random pair for this annotator: an attention check at the study's rate, else one from the pool."""
        check = self._random.random() < self.study.check_rate
        for is_check in (1, 0) if check else (0,):
            values = (is_check, annotator, self.study.annotations, self._now())
            row = db.execute(_FREE, values).fetchone()
            if row is not None:
                return str(row[0])
        return None

    def _renew(self, db: sqlite3.Connection, pair: str, annotator: int, expires: float) -> bool:
        """Prolong an open assignment; False, and it is lost, where its time ran out and its slot is taken."""
        now = self._now()
        if expires <= now:
            (is_check,) = db.execute("SELECT is_check FROM pairs WHERE id = ?", (pair,)).fetchone()
            (held,) = db.execute(
                "SELECT count(*) FROM assignments WHERE pair = ? AND annotator <> ? "
                "AND (state = 'answered' OR (state = 'open' AND expires > ?))",
                (pair, annotator, now),
            ).fetchone()
            if not is_check and held >= self.study.annotations:
                _set_state(db, pair, annotator, "lost")
                return False
        db.execute(
            "UPDATE assignments SET expires = ? WHERE pair = ? AND annotator = ?", (now + self._lease, pair, annotator)
        )
        return True

    def _others_hold(self, db: sqlite3.Connection, annotator: int) -> bool:
        """Whether a pair that this annotator never saw may still come back from others."""
        query = """
            SELECT 1 FROM assignments JOIN pairs ON pairs.id = pair
            WHERE state = 'open' AND expires > ? AND annotator <> ? AND NOT is_check
              AND NOT EXISTS (SELECT 1 FROM assignments AS own WHERE own.pair = assignments.pair AND own.annotator = ?)
            LIMIT 1
        """
        return db.execute(query, (self._now(), annotator, annotator)).fetchone() is not None

    def _read(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def _count(self, query: str, *values: object) -> int:
        return int(self._read(query, *values)[0][0])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself has ended it where the disk is full
                    self._db.execute("ROLLBACK")
                raise


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite does not wait for other processes here, as it does elsewhere."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _open(db: sqlite3.Connection, annotator: int) -> list[tuple[str, float]]:
    """Pairs that an annotator has open, with the times when they go back; the newest first."""
    query = "SELECT pair, expires FROM assignments WHERE annotator = ? AND state = 'open' ORDER BY assigned DESC"
    return db.execute(query, (annotator,)).fetchall()


def _set_state(db: sqlite3.Connection, pair: str, annotator: int, state: str) -> None:
    db.execute("UPDATE assignments SET state = ? WHERE pair = ? AND annotator = ?", (state, pair, annotator))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()

"""The tables of `annotations.sqlite` (docs/formats.md)."""

import sqlite3
from collections.abc import Iterator

VERSION = 1
UNDO = "undo"
"""Choice of an answer that takes back the one before it."""

_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE pairs (id TEXT PRIMARY KEY, is_check INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE annotators (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, token_hash TEXT NOT NULL UNIQUE, created REAL NOT NULL
);
-- One row for each pair that was shown to an annotator. `state`: open until `expires`, then answered or lost.
CREATE TABLE assignments (
    pair TEXT NOT NULL REFERENCES pairs, annotator INTEGER NOT NULL REFERENCES annotators,
    assigned REAL NOT NULL, expires REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'answered', 'lost')),
    PRIMARY KEY (pair, annotator)
) WITHOUT ROWID;
CREATE INDEX assignments_of_annotator ON assignments (annotator, state);
-- Only ever appended to: an answer that was taken back is followed by a row '{UNDO}'.
CREATE TABLE answers (
    id INTEGER PRIMARY KEY AUTOINCREMENT, pair TEXT NOT NULL, annotator INTEGER NOT NULL,
    choice TEXT NOT NULL CHECK (choice IN ('first', 'second', 'equal', '{UNDO}')),
    seconds REAL, at REAL NOT NULL,
    FOREIGN KEY (pair, annotator) REFERENCES assignments
);
CREATE INDEX answers_of_annotator ON answers (annotator, id);
CREATE TRIGGER answers_stay BEFORE UPDATE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only appended'); END;
CREATE TRIGGER answers_are_kept BEFORE DELETE ON answers BEGIN SELECT RAISE(ABORT, 'answers are only appended'); END;
-- The last row of an annotator for a pair counts, unless it takes the answer back.
CREATE VIEW current AS
    SELECT * FROM answers
    WHERE id IN (SELECT max(id) FROM answers GROUP BY pair, annotator) AND choice <> '{UNDO}';
"""


def statements() -> Iterator[str]:
    """Statements that make the tables, to run inside a transaction (executescript would commit first)."""
    statement = ""
    for line in _SCHEMA.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""

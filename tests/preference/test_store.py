"""The store: leases, last slots, undo, and what survives."""

import sqlite3
import threading
from collections import Counter

import numpy as np
import preference_study as invented
import pytest

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.preference import clock as clock_module
from hyperfit_eval.preference import store as module
from hyperfit_eval.preference.progress import progress
from hyperfit_eval.preference.store import Conflict, Store, Taken
from hyperfit_eval.preference.study import CHOICES


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Clocks to turn by hand: `now` goes on as time does, `wall` is what the machine shows and may be set."""

    class Clock:
        now, wall = 1000.0, 1.7e9

        @classmethod
        def time(cls):
            return cls.wall + cls.now

        @classmethod
        def monotonic(cls):
            return cls.now

    boot = tmp_path / "boot_id"
    boot.write_text("this boot")
    monkeypatch.setattr(clock_module, "BOOT_ID", boot)
    for part in (module, clock_module):
        monkeypatch.setattr(part, "time", Clock)
    return Clock


@pytest.fixture
def make(tmp_path):
    stores = []

    def make(lease_seconds=60.0, **settings):
        study = invented.written(tmp_path / "study", **settings) if not stores else stores[0].study
        stores.append(Store(tmp_path / "study", study, lease_seconds))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def people(store, count):
    return [store.annotator(store.add_annotator(f"person {i}")).id for i in range(count)]


def test_by_hand_one_pair_for_three_people(make):
    store = make(models=("base",), contexts=1, scenarios=[128])
    (pair,) = store.study.pairs
    a, b, c, d = people(store, 4)
    assert [store.next(person).pair for person in (a, b, c)] == [pair.id] * 3
    waiting = store.next(d)  # three hold the three slots
    assert (waiting.pair, waiting.finished) == (None, False)
    for person, choice in ((a, "first"), (b, "second"), (c, "equal")):
        store.answer(person, pair.id, choice, seconds=1.0)
        assert store.next(person).pair is None
    assert store.next(d).finished
    assert [(answer.annotator, answer.choice) for answer in store.answers()] == [
        (a, "first"), (b, "second"), (c, "equal"),
    ]  # fmt: skip
    with pytest.raises(Conflict, match="this pair was not given to you"):
        store.answer(d, pair.id, "first")


def test_the_same_pair_until_it_is_answered_and_never_again(make):
    store = make(contexts=3)
    (a,) = people(store, 1)
    seen = []
    while (offer := store.next(a)).pair:
        assert store.next(a) == offer  # a reload, or coming back after a pause
        store.answer(a, offer.pair, "first")
        seen.append(offer.pair)
    assert sorted(seen) == sorted(pair.id for pair in store.study.pairs)
    assert offer.finished and store.answered(a) == len(seen) == 12 and store.left_for(a) == 0


def test_sending_twice_counts_once(make):
    store = make()
    (a,) = people(store, 1)
    pair = store.next(a).pair
    for _ in range(2):
        store.answer(a, pair, "first")
    with pytest.raises(Conflict, match="answered this pair already; undo that first"):
        store.answer(a, pair, "second")
    assert len(store.answers()) == 1
    with pytest.raises(HyperfitError, match="choice 'best': expected first, second, equal"):
        store.answer(a, pair, "best")


def test_a_pair_left_open_goes_back(make, clock):
    store = make(models=("base",), contexts=1, scenarios=[128], annotations=1)
    (pair,) = store.study.pairs
    a, b, c = people(store, 3)
    assert store.next(a).pair == pair.id
    assert store.next(b) == module.Offer(None)
    clock.now += 61
    assert store.open_count() == 0
    assert store.next(b).pair == pair.id
    with pytest.raises(Taken, match="this pair went back to the others while you were away"):
        store.answer(a, pair.id, "first")
    store.answer(b, pair.id, "second")
    with pytest.raises(Taken):
        store.answer(a, pair.id, "first")
    assert store.next(a).finished and store.next(c).finished
    assert [answer.annotator for answer in store.answers()] == [b]


def test_late_but_nobody_took_it(make, clock):
    store = make(models=("base",), contexts=1, scenarios=[128], annotations=1)
    (pair,) = store.study.pairs
    a, b = people(store, 2)
    store.next(a)
    clock.now += 61
    assert store.next(a).pair == pair.id  # theirs again
    assert store.next(b).pair is None
    clock.now += 61
    store.answer(a, pair.id, "first", seconds=1000)
    assert store.answers()[0].seconds == 122  # no more than went by
    assert store.next(b).finished


YEARS = 10 * 365 * 24 * 3600.0


@pytest.mark.parametrize("jump", [-YEARS, -3600.0, 3600.0, YEARS])
def test_the_machines_clock_may_be_set(make, clock, monkeypatch, jump):
    """Leases of 60 s and time spent go on as time does, also in a process that starts afterwards."""
    store = make(models=("base",), contexts=2, scenarios=[128], annotations=1)
    a, b = people(store, 2)
    for person in (a, b):
        store.next(person)
    clock.now += 30
    clock.wall += jump
    later = make()
    assert later.open_count() == store.open_count() == 2
    assert later.next(b).pair == store.next(b).pair  # now theirs for 60 s more
    store.answer(a, store.next(a).pair, "first", seconds=25.0)
    later.answer(b, store.next(b).pair, "first", seconds=1e9)
    assert [answer.seconds for answer in store.answers()] == [25.0, 30.0]
    assert [answer.at for answer in store.answers()] == [clock.time()] * 2
    store.undo(a, store.last_answer(a))
    assert store.open_count() == later.open_count() == 1
    clock.now += 61
    assert store.open_count() == later.open_count() == 0
    monkeypatch.setattr("hyperfit_eval.preference.progress.time", clock)
    clock.wall -= YEARS
    row = progress(store).annotators[1]
    assert row.last == 0.0 and progress(store).last_hour == 0


@pytest.mark.parametrize("jump", [-YEARS, -3600.0, 3600.0, YEARS])
def test_the_machine_starts_anew_with_another_time(make, clock, jump):
    """No pair stays leased for longer than a new one, and no negative time is stored."""
    store = make(models=("base",), contexts=1, scenarios=[128], annotations=1)
    a, b = people(store, 2)
    (pair,) = store.study.pairs
    store.next(a)
    clock_module.BOOT_ID.write_text("another boot")
    clock.now, clock.wall = 5.0, clock.wall + clock.now + jump
    store = make()
    assert store.open_count() == (jump < 0)  # forward: the lease has run out
    clock.now += 61
    assert store.open_count() == 0 and store.next(b).pair == pair.id
    clock.now += 10
    store.answer(b, pair.id, "first", seconds=7.0)
    with pytest.raises(Taken):
        store.answer(a, pair.id, "first", seconds=7.0)
    assert [answer.seconds for answer in store.answers()] == [7.0]


def test_time_is_unknown_where_the_clock_went_back_between_two_boots(make, clock, monkeypatch, tmp_path):
    store = make()
    (a,) = people(store, 1)
    pair = store.next(a).pair
    monkeypatch.setattr(clock_module, "BOOT_ID", tmp_path / "no such file")  # another system than Linux
    clock.wall -= YEARS
    store = make()
    store.answer(a, pair, "first", seconds=7.0)
    assert [answer.seconds for answer in store.answers()] == [None]


def test_negative_times_of_earlier_versions_are_unknown(make):
    store = make()
    (a,) = people(store, 1)
    pair = store.next(a).pair
    row = (pair, a, "first", -3.1e8, 1.0)
    store._db.execute("INSERT INTO answers (pair, annotator, choice, seconds, at) VALUES (?, ?, ?, ?, ?)", row)
    assert [answer.seconds for answer in store.answers()] == [None] and progress(store).hours_left is None


@pytest.mark.parametrize("minutes", [0, -1, 1441, float("inf"), float("nan")])
def test_a_lease_that_is_none(make, minutes):
    with pytest.raises(HyperfitError, match=rf"^a lease of {minutes} minutes; expected more than 0, 1440 at most$"):
        make(lease_seconds=60 * minutes)


def test_undo_is_a_row_of_its_own(make):
    store = make()
    (a,) = people(store, 1)
    assert store.last_answer(a) is None and store.undo(a, 1) is None
    one = store.next(a).pair
    store.answer(a, one, "first")
    two = store.next(a).pair
    assert store.undo(a, store.last_answer(a)) == one
    assert store.next(a).pair == one and store.answers() == [] and store.undone() == 1
    store.answer(a, one, "equal")
    assert [answer.choice for answer in store.answers()] == ["equal"]
    assert store.next(a).pair == two  # was open meanwhile, and stayed theirs
    store.answer(a, two, "first")
    assert [store.undo(a, store.last_answer(a)) for _ in range(2)] == [two, one]
    rows = sqlite3.connect(store.path)
    assert [row[0] for row in rows.execute("SELECT choice FROM answers ORDER BY id")] == [
        "first", "undo", "equal", "first", "undo", "undo",
    ]  # fmt: skip
    for change in ("DELETE FROM answers", "UPDATE answers SET choice = 'equal'"):
        with pytest.raises(sqlite3.IntegrityError, match="answers are only appended"):
            rows.execute(change)
    assert rows.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    rows.close()


def test_an_undo_sent_twice_takes_one_answer_back(make):
    store = make()
    a, b = people(store, 2)
    for _ in range(2):
        store.answer(a, store.next(a).pair, "first")
    number = store.last_answer(a)
    assert store.undo(b, number) is None  # another's
    pair = store.undo(a, number)
    for _ in range(2):
        assert store.undo(a, number) is None
    assert len(store.answers()) == 1 and store.undone() == 1 and store.next(a).pair == pair
    store.answer(a, pair, "second")
    assert store.undo(a, number) is None  # arrives late: the pair has a new answer
    assert [answer.choice for answer in store.answers()] == ["first", "second"]


def test_an_account_asked_for_twice_is_one(make):
    store = make()
    assert store.add_annotator("Ann", "0" * 32) == store.add_annotator("Ann", "0" * 32) == "0" * 32
    store.add_annotator("Ann")
    assert len(store.annotators()) == 2


def test_attention_checks_come_at_their_rate_and_need_no_slots(make):
    store = make(contexts=20, sources=("fiction", "news"), check_rate=0.2, annotations=1)
    a, b = people(store, 2)
    checks = {pair.id for pair in store.study.pairs if pair.is_check}
    assert len(checks) == 40
    seen = []
    for _ in range(100):
        seen.append(store.next(a).pair)
        store.answer(a, seen[-1], "first")
    assert 2 < sum(pair in checks for pair in seen) < 38  # 20 expected, standard deviation 4
    assert len(set(seen)) == 100
    while pair := store.next(b).pair:  # checks that the first has answered are still there
        store.answer(b, pair, "first")
    answered = Counter(answer.pair for answer in store.answers())
    assert max(answered[pair] for pair in checks) == 2
    assert {answered[pair.id] for pair in store.study.pairs if not pair.is_check} == {1}


def test_what_is_left_falls_by_one_whatever_was_answered(make):
    """A number that stands still after an attention check would tell it from other pairs."""
    store = make(contexts=20, sources=("fiction", "news"), check_rate=0.1)
    (a,) = people(store, 1)
    left = [store.left_for(a)]
    assert left[0] == 160 + round(160 / 9)
    for _ in range(60):
        store.answer(a, store.next(a).pair, "first")
        left.append(store.left_for(a))
    assert left[0] - left[-1] == 60 and set(np.diff(left)) == {-1}


def test_many_at_once_lose_and_duplicate_nothing(make):
    """Threads over two connections, as in two processes; the server's test has real processes."""
    stores = [make(models=("base", "hyper"), contexts=5), make()]
    said, failures = [], []

    def work(person, store):
        try:
            number = 0
            while not (offer := store.next(person)).finished:
                if offer.pair is None:
                    continue
                choice = CHOICES[(person + number) % 3]
                store.answer(person, offer.pair, choice)
                said.append((offer.pair, person, choice))
                number += 1
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(person, stores[person % 2])) for person in people(stores[0], 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    stored = [(answer.pair, answer.annotator, answer.choice) for answer in stores[0].answers()]
    assert sorted(stored) == sorted(said)
    assert Counter(pair for pair, _, _ in stored) == {pair.id: 3 for pair in stores[0].study.pairs}


def test_tokens_are_kept_as_hashes_alone(make):
    store = make()
    token = store.add_annotator("  Ann   Lee ")
    assert store.annotator(token).name == "Ann Lee"
    assert store.annotator("other") is None
    log = store.path.with_name(f"{store.path.name}-wal")
    written = store.path.read_bytes() + log.read_bytes()
    assert b"Ann Lee" in written and token.encode() not in written
    for name in ("", "x" * 61):
        with pytest.raises(HyperfitError, match=f"a name of {len(name)} characters; expected 1 to 60"):
            store.add_annotator(name)


def test_refused(tmp_path, make):
    store = make()
    (tmp_path / "other").mkdir()
    other = invented.written(tmp_path / "other", contexts=2)
    (tmp_path / "other" / "annotations.sqlite").write_bytes(b"no database at all, " * 100)
    with pytest.raises(HyperfitError, match=r"annotations.sqlite: cannot be used .* is it whole, and on a local disk"):
        Store(tmp_path / "other", other)
    with pytest.raises(HyperfitError, match="answers to another study"):
        Store(store.path.parent, other)

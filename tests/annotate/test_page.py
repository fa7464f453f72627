"""The pages in headless Chromium.

With HYPERFIT_SCREENSHOTS=FOLDER the screenshots of docs/preference.md are written there.
"""

import dataclasses
import os
import random
import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import preference_study as invented
import pytest
import uvicorn
from browser import start_browser
from hyperfit_annotate.access import access_for
from hyperfit_annotate.app import create_app

from hyperfit_eval.preference import store as store_module
from hyperfit_eval.preference.pairs import make_study
from hyperfit_eval.preference.store import Store
from hyperfit_eval.preference.study import write_study
from hyperfit_eval.records import Continuation
from hyperfit_eval.texts.contexts import demo_texts

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="pages are driven by selenium").Keys

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SHOTS = os.environ.get("HYPERFIT_SCREENSHOTS")
HOSTILE = '<img src=x onerror="window.hacked = 1"><script>window.hacked = 1</script> &amp; </p>'
# What the shipped base model writes, greedily, after the first of the shipped texts.
LOOP = (
    " The Reds were not to be seen, but they were not to be seen. They were not to be seen, but they were to be seen."
)
LOOPING = " were noted, and the other two were on the road." + 12 * LOOP


def records():
    """The shipped texts, and beside them a model that loops, or writes HTML."""
    for number, text in enumerate(demo_texts().passages[:8]):
        words = text.text.split(" ")
        generated = (f"{HOSTILE} " if number % 2 else "") + LOOPING
        yield Continuation(
            id=text.id,
            source=text.source,
            context_ids=[number] * 32,
            original_ids=list(range(224)),
            generated_ids=[number] * 224,
            context_text=" ".join(words[:24]),
            original_text=" " + " ".join(words[24:190]),
            generated_text=generated[:900].rsplit(" ", 1)[0],
            original_text_at_128=" " + " ".join(words[24:96]),
            generated_text_at_128=generated[:420].rsplit(" ", 1)[0],
        )


@pytest.fixture
def folder(tmp_path):
    study = make_study([("looping", invented.generation(), list(records()))], scenarios=[128], check_rate=0, seed=0)
    write_study(tmp_path, study)
    return tmp_path


@contextmanager
def served(folder, access, port=0):
    """The server in a thread of this process; yields its port."""
    store = Store(folder)
    with socket.create_server(("127.0.0.1", port)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(store, access), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join()
            store.close()


@pytest.fixture(scope="module")
def browser():
    driver = start_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(browser):
    browser.get("about:blank")
    screen(browser, 1280, 860)
    return Page(browser)


def screen(browser, width, height, mobile=False):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": mobile})


class Page:
    """What a person does with the page."""

    def __init__(self, browser):
        self.browser = browser

    def run(self, script):
        return self.browser.execute_script(script)

    def until(self, script, seconds=10.0):
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not (value := self.run(f"return {script}")):
            assert time.monotonic() < end, f"{script}: {self.run('return document.body.innerText')}"
            time.sleep(0.02)
        return value

    def click(self, selector):
        self.browser.find_element("css selector", selector).click()

    def press(self, key):
        self.browser.find_element("css selector", "body").send_keys(key)

    def text(self, identifier):
        return self.run(f"return document.getElementById('{identifier}').textContent")

    def at_pair(self):
        """Wait until a pair can be judged; returns its three texts."""
        self.until(
            "pair && !busy && !document.getElementById('work').hidden && performance.now() - shownAt > SETTLE_MS"
        )
        return tuple(self.text(part) for part in ("context", "first", "second"))

    def done(self, count):
        self.until(f"document.getElementById('count').textContent.startsWith('{count} done')")

    def join(self, address, name="Ann"):
        self.browser.get(address)
        self.until("!document.getElementById('join').hidden")
        self.run(f"document.getElementById('name').value = '{name}'")
        self.click("#join button")
        self.until("!document.getElementById('account').hidden")
        link = self.run("return document.getElementById('link').value")
        self.click("#go")
        return link

    def shot(self, name):
        if SHOTS:
            self.browser.save_screenshot(str(Path(SHOTS) / f"annotate_{name}.png"))


@pytest.mark.slow
def test_a_session_from_the_link_to_the_end(page, folder):
    with served(folder, access_for("127.0.0.1", None)) as port:
        page.browser.get(f"http://127.0.0.1:{port}/")
        page.until("!document.getElementById('join').hidden")
        page.shot("instructions")
        link = page.join(f"http://127.0.0.1:{port}/?")
        assert "/?#me=" in link
        page.run("window.stayed = 1")
        seen = [page.at_pair()]
        page.press("1")
        page.done(1)
        seen.append(page.at_pair())
        page.click("[data-choice=equal]")
        page.done(2)
        seen.append(page.at_pair())
        page.press(Keys.BACKSPACE)  # the pair before comes back
        page.done(1)
        assert page.at_pair() == seen[1]
        page.press("2")
        page.done(2)
        assert page.at_pair() == seen[2]  # was open meanwhile

        page.press("p")
        assert page.text("message-title") == "Paused"
        page.press("1")  # nothing is chosen while the texts are away
        page.click("#resume")
        assert page.at_pair() == seen[2]
        page.done(2)

        page.click("#help")  # the instructions hide the pair: no key judges or undoes it
        page.press(Keys.BACKSPACE)
        page.press("1")
        page.click("#go")
        assert page.at_pair() == seen[2]
        page.done(2)

        page.browser.get("about:blank")  # closed, and opened again by the link
        page.browser.get(link)
        assert page.at_pair() == seen[2]
        page.run("window.stayed = 1")
        for count in range(3, 9):
            if not any(HOSTILE in text for text in page.at_pair()):
                page.shot("pair")
            page.press(Keys.ARROW_RIGHT)
            page.done(count)
        page.until("document.getElementById('message-title').textContent === 'All done'")
        assert page.run("return window.stayed") == 1  # no reload
        assert page.run("return window.hacked") is None
    store = Store(folder)
    choices = {answer.pair: answer.choice for answer in store.answers()}
    seconds = [answer.seconds for answer in store.answers()]
    pairs = store.study.by_id
    store.close()
    assert len(choices) == 8 and all(0.3 < value < 30 for value in seconds)
    by_text = {(pair.context_text, *pair.shown): pair.id for pair in pairs.values()}
    assert (choices[by_text[seen[0]]], choices[by_text[seen[1]]]) == ("first", "second")


def test_html_in_a_continuation_is_text(page, folder):
    with served(folder, access_for("127.0.0.1", None)) as port:
        page.join(f"http://127.0.0.1:{port}/")
        for count in range(1, 9):
            texts = page.at_pair()
            if HOSTILE in "".join(texts):
                assert page.run("return document.querySelectorAll('article img, article script').length") == 0
                assert "<script>" in page.run("return document.getElementById('work').innerText")
                break
            page.press("0")
            page.done(count)
        else:
            raise AssertionError("no hostile text among the pairs")
        assert page.run("return window.hacked") is None


# How far the first and the last character of each paragraph are from the left of their element.
ENDS = """
const [text] = document.getElementById(arguments[0]).childNodes, range = new Range();
const left = (place) => {
  range.setStart(text, place);
  range.setEnd(text, place + 1);
  return range.getBoundingClientRect().left - text.parentNode.getBoundingClientRect().left;
};
return [...text.data.matchAll(/.+/g)].map((found) => [left(found.index), left(found.index + found[0].length - 1)]);
"""


def test_right_to_left(page, tmp_path):
    """A Hebrew text begins at the right and ends with its full stop at the left; the English one beside it does not."""
    hebrew = "אני קורא ספר על Linux ועל הים."
    record = dataclasses.replace(next(records()), context_text=hebrew, original_text_at_128=f" {hebrew}\n\nEnglish.")
    write_study(tmp_path, make_study([("m", invented.generation(), [record])], scenarios=[128], check_rate=0, seed=0))
    access = access_for("127.0.0.1", None)
    with served(tmp_path, access) as port:
        page.join(f"http://127.0.0.1:{port}/", name="דנה")
        texts = dict(zip(("context", "first", "second"), page.at_pair(), strict=True))
        assert sum(text.startswith(hebrew) for text in texts.values()) == 2
        for part, text in texts.items():
            for paragraph, (begin, end) in zip(
                text.split("\n\n"), page.browser.execute_script(ENDS, part), strict=True
            ):
                assert begin > end + 100 if paragraph == hebrew else begin < 1
        page.browser.get(f"http://127.0.0.1:{port}/admin#{access.token}")
        page.until("document.querySelectorAll('#people bdi').length === 1")
        assert page.text("people").startswith("1  דנה")


@pytest.mark.slow
def test_an_answer_waits_for_a_server_that_is_away(page, folder):
    access = access_for("127.0.0.1", None)
    with served(folder, access) as port:
        page.join(f"http://127.0.0.1:{port}/")
        page.at_pair()
    page.press("1")
    page.until("document.getElementById('notice').textContent.startsWith('Not saved yet')")
    with served(folder, access, port):
        page.done(1)
        page.at_pair()
        assert page.run("return document.getElementById('notice').hidden")


def refusing(status, body):
    """Script that gives the next call this reply, and all others the server's."""
    reply = f"new Response({body!r}, {{ status: {status} }})"
    return f"const real = window.fetch; window.fetch = async () => {{ window.fetch = real; return {reply}; }}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body"), [(404, "<html>"), (408, '{"detail": "slow"}'), (429, '{"detail": "many"}'), (200, "<html>")]
)
def test_what_a_proxy_answers_does_not_drop_a_choice(page, folder, status, body):
    with served(folder, access_for("127.0.0.1", None)) as port:
        page.join(f"http://127.0.0.1:{port}/")
        page.at_pair()
        page.run(refusing(status, body))
        page.press("1")
        page.until("document.getElementById('notice').textContent.startsWith('Not saved yet')")
        page.done(1)


@pytest.mark.slow
def test_try_again(page, folder):
    with served(folder, access_for("127.0.0.1", None)) as port:
        page.join(f"http://127.0.0.1:{port}/")
        page.at_pair()
        page.run(refusing(409, '{"detail": "not now"}'))
        page.press("1")
        page.until("document.getElementById('message-text').textContent === 'Not now.'")
        page.click("#again")
        page.done(1)
        page.at_pair()
        page.press("p")
        assert not page.run("return [...document.querySelectorAll('#again')].some((button) => !button.hidden)")


@pytest.mark.slow
def test_a_repeated_call_takes_back_one_answer_and_makes_one_account(page, folder):
    """The server has the call, and its reply is lost."""
    lost = (
        "const real = window.fetch; window.fetch = async (...given) => "
        "{ window.fetch = real; await real(...given); throw new TypeError('lost'); }"
    )
    with served(folder, access_for("127.0.0.1", None)) as port:
        page.browser.get(f"http://127.0.0.1:{port}/")
        page.until("!document.getElementById('join').hidden")
        page.run(f"{lost}; document.getElementById('name').value = 'Ann'")
        page.click("#join button")
        page.until("!document.getElementById('account').hidden")
        page.click("#go")
        for count in (1, 2):
            page.at_pair()
            page.press("1")
            page.done(count)
        page.at_pair()
        page.run(lost)
        page.press(Keys.BACKSPACE)
        page.done(1)
        page.at_pair()
    store = Store(folder)
    assert (len(store.annotators()), len(store.answers()), store.undone()) == (1, 1, 1)
    store.close()


def test_on_a_phone(page, folder):
    screen(page.browser, 390, 844, mobile=True)
    with served(folder, access_for("127.0.0.1", None)) as port:
        page.join(f"http://127.0.0.1:{port}/")
        page.at_pair()
        page.shot("phone")
        assert page.run("return document.documentElement.scrollWidth") <= 390
        places = "[...document.querySelectorAll('.pair article, .choices button')]"
        boxes = page.run(f"return {places}.map((element) => element.getBoundingClientRect().toJSON())")
        first, second, *buttons = boxes
        assert second["top"] >= first["bottom"]  # one below the other
        for box in buttons:  # always in reach, large enough for a thumb
            assert box["bottom"] <= 844 and box["height"] >= 44 and box["width"] >= 90
        page.run("window.scrollTo(0, document.body.scrollHeight)")
        covered = page.run(
            "return document.getElementById('second').getBoundingClientRect().bottom"
            " > document.querySelector('.choices').getBoundingClientRect().top"
        )
        assert not covered
        page.click("[data-choice=second]")
        page.done(1)


def test_with_a_token(page, folder):
    access = access_for("0.0.0.0", "a-token-for-the-tests")
    with served(folder, access) as port:
        address = f"http://127.0.0.1:{port}"
        page.browser.get(f"{address}/")
        page.until("!document.getElementById('join').hidden")
        page.run("document.getElementById('name').value = 'Eve'")
        page.click("#join button")
        page.until("document.getElementById('notice').textContent.startsWith('An invitation is needed')")
        page.browser.get("about:blank")
        page.join(f"{address}/#join={access.invitation}")
        page.at_pair()
        page.browser.get(f"{address}/#me=somebody-else")
        page.until("document.getElementById('message-text').textContent.startsWith('This link is not known here')")


@pytest.mark.slow
def test_admin_page(page, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    study = invented.written(folder, models=("base, greedy", "hyperfitted, greedy"), contexts=12, check_rate=0.1)
    store, generator, now = Store(folder, study), random.Random(0), time.time()
    for name, bias, failing in (("Ann", 0.5, 0.0), ("Bo", 0.5, 0.1), ("<b>Cy</b>", 0.8, 0.7)):
        person = store.annotator(store.add_annotator(name)).id
        clock = now - 40 * 45
        for _ in range(40):
            monkeypatch.setattr(store, "_now", lambda at=clock: at)
            pair = study.by_id[store.next(person).pair]
            clock += generator.uniform(10, 70)
            if pair.is_check:
                choice = invented.choice_of(pair, "model" if generator.random() < failing else "original")
            elif generator.random() < 0.6:
                choice = invented.choice_of(pair, "original" if pair.other.startswith("base") else "model")
            else:
                choice = "first" if generator.random() < bias else "second"
            monkeypatch.setattr(store, "_now", lambda at=clock: at)
            monkeypatch.setattr(store_module.time, "time", lambda at=clock: at)
            store.answer(person, pair.id, choice, seconds=1000)
    monkeypatch.undo()
    count = sum(not study.by_id[answer.pair].is_check for answer in store.answers())
    store.close()
    access = access_for("127.0.0.1", None)
    with served(folder, access) as port:
        page.browser.get(f"http://127.0.0.1:{port}/admin#wrong")
        page.until("document.getElementById('notice').textContent.includes('needs the token')")
        page.browser.get("about:blank")
        page.browser.get(f"http://127.0.0.1:{port}/admin#{access.token}")
        page.until("document.querySelectorAll('#people tr').length === 3")
        assert f"{count} / 144" in page.text("numbers") and "<b>Cy</b>" in page.text("people")
        page.shot("admin")
        page.run("document.getElementById('name').value = 'Di'")
        page.click("#add button")
        page.until("document.querySelectorAll('#people tr').length === 4")
        link = page.run("return document.getElementById('link').value")
        page.browser.get(link)
        page.at_pair()

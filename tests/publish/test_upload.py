"""Pushing a folder to a stand-in of the Hub with the Hub's own client: whole, interrupted, refused."""

import random

import pytest
from hub_stand_in import TOKEN, connected

from hyperfit_eval.errors import HyperfitError
from hyperfit_eval.publish.upload import Destination, upload

REPO = "ada/little"
# Of the Hub's client, about how it calls its own HTTP client.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The stand-in, and two tries more without waiting."""
    monkeypatch.setattr("hyperfit_eval.publish.upload.WAITS", (0.0, 0.0))
    with connected(monkeypatch, tmp_path / "home") as hub:
        yield hub


@pytest.fixture
def folder(tmp_path):
    """A small repository: a card, a large file, a file in a folder."""
    folder = tmp_path / "staged"
    (folder / ".eval_results").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Little\n")
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    (folder / "run.json").write_text("{}")
    (folder / ".eval_results" / "hyperfit.yaml").write_text("[]")
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def quiet(line):
    """Say nothing."""


def test_all_files_are_there_after_one_commit(hub, folder):
    address = upload(folder, Destination(REPO, private=True, message="First"))
    repository = hub.repositories[REPO]
    assert address == f"{hub.url}/{REPO}/commit/{repository.branches['main']}"
    assert repository.private and repository.messages == ["initial commit", "First"]
    assert repository.tree("main") == {".gitattributes": b"", **contents(folder)}
    # The card is validated before any content is sent, and the commit comes last.
    places = [
        next(i for i, line in enumerate(hub.seen) if part in line) for part in ("validate", "/large/", "/commit/")
    ]
    assert places == sorted(places) and places[-1] == len(hub.seen) - 1


def test_to_xet_storage_as_the_client_does_by_default(hub, folder, monkeypatch):
    pytest.importorskip("hf_xet")
    monkeypatch.setenv("HF_XET_CACHE", str(folder.parent / "xet"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", False)
    (folder / "model.safetensors").write_bytes(random.Random(0).randbytes(200_000))
    upload(folder, Destination(REPO))
    assert hub.repositories[REPO].tree("main") == {".gitattributes": b"", **contents(folder)}
    assert hub.count("POST /v1/xorbs/") == 1 and hub.count("PUT /large/") == 0


def test_the_same_again_changes_nothing_and_new_weights_replace_the_old(hub, folder):
    upload(folder, Destination(REPO))
    head = hub.repositories[REPO].branches["main"]
    assert upload(folder, Destination(REPO)) == f"{hub.url}/{REPO}/commit/{head}"
    assert hub.count("PUT /large/") == 1
    # Shards in place of one file: the old file, left there, would be the one that is loaded.
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"more")
    upload(folder, Destination(REPO, message="Second"))
    assert hub.repositories[REPO].tree("main") == {".gitattributes": b"", **contents(folder)}
    assert hub.repositories[REPO].messages[-1] == "Second"


def test_parts_of_an_earlier_tokenizer_do_not_stay(hub, folder):
    old = (
        "added_tokens.json",
        "special_tokens_map.json",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
        "sp.model",
    )
    for name in (*old, "tokenizer.json", "history.png"):
        (folder / name).write_bytes(b"{}")
    upload(folder, Destination(REPO))
    hub.repositories[REPO].messages.clear()
    for name in old:
        (folder / name).unlink()
    upload(folder, Destination(REPO))
    assert hub.repositories[REPO].tree("main") == {".gitattributes": b"", **contents(folder)}
    assert len(hub.repositories[REPO].messages) == 1


def test_an_interrupted_push_leaves_the_branch_as_it_was_and_goes_on(hub, folder):
    (folder / "second.safetensors").write_bytes(b"more" * 50)
    hub.fail("/commit/", 503, times=9)
    with pytest.raises(HyperfitError, match=rf"^{REPO}: the Hub fails \(503\), also after waiting; give the same comm"):
        upload(folder, Destination(REPO), quiet)
    assert hub.repositories[REPO].tree("main") == {".gitattributes": b""}
    assert hub.count("PUT /large/") == 2 and hub.count("/commit/") == 3
    hub.faults.clear()
    upload(folder, Destination(REPO))
    assert hub.count("PUT /large/") == 2  # nothing twice
    assert hub.repositories[REPO].tree("main") == {".gitattributes": b"", **contents(folder)}
    assert len(hub.repositories[REPO].messages) == 2


def test_a_file_that_cannot_be_sent_leaves_the_branch_as_it_was(hub, folder):
    hub.fail("PUT /large/", 403)
    with pytest.raises(HyperfitError, match=r"the token may not write there \(403\); use one with write access to ada"):
        upload(folder, Destination(REPO), quiet)
    assert hub.repositories[REPO].messages == ["initial commit"]


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, folder):
    lines = []
    hub.fail("/commit/", 502, after=True)
    address = upload(folder, Destination(REPO), lines.append)
    assert len(hub.repositories[REPO].messages) == 2
    assert address.endswith(hub.repositories[REPO].branches["main"])
    assert len(lines) == 1 and lines[0].startswith("The Hub did not take it (") and lines[0].endswith("again in 0 s.")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_tried_again(hub, folder, status):
    for match in ("/api/repos/create", "GET /api/models/", "/branch/", "/commit/"):
        hub.fail(match, status)
    upload(folder, Destination(REPO, revision="v2"), quiet)
    assert hub.repositories[REPO].tree("v2") == {".gitattributes": b"", **contents(folder)}
    assert not any(fault.times for fault in hub.faults)


@pytest.mark.parametrize(
    ("match", "status", "line"),
    [
        ("create", 401, "the Hub does not accept the token (401); run `hf auth login`, or set HF_TOKEN to a valid one"),
        ("create", 403, "the token may not write there (403); use one with write access to ada"),
        ("/tree/", 404, "no such repository that this token can see (404); check name and token"),
        ("/commit/", 409, "changed by somebody else during the push (409); look at it, then push again"),
        ("/commit/", 412, "changed by somebody else during the push (412); look at it, then push again"),
        ("create", 429, "too many requests (429), also after waiting; give the same command again later"),
        ("create", 500, "the Hub fails (500), also after waiting; give the same command again later"),
    ],
)
def test_what_the_hub_refuses_is_one_line(hub, folder, match, status, line):
    hub.fail(match, status, times=9)
    with pytest.raises(HyperfitError) as raised:
        upload(folder, Destination(REPO), quiet)
    assert str(raised.value) == f"{REPO}: {line}"
    assert TOKEN not in str(raised.value)


def test_without_token_network_or_name_nothing_is_tried(hub, folder, monkeypatch):
    for repo in ("little", "a/b/c", "ada/lit tle"):
        with pytest.raises(HyperfitError, match=f"--repo {repo}: .*expected USER/NAME"):
            upload(folder, Destination(repo))
    with pytest.raises(HyperfitError, match="--create-pr opens a pull request against main: leave out --revision dev"):
        upload(folder, Destination(REPO, revision="dev", create_pr=True))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HyperfitError, match="HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it"):
        upload(folder, Destination(REPO))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HyperfitError, match="no Hub token: run `hf auth login`, or set HF_TOKEN to one that may write"):
        upload(folder, Destination(REPO))
    assert hub.seen == []
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HyperfitError, match=r"the Hub cannot be reached \(.*\); check the network and give the same"):
        upload(folder, Destination(REPO), quiet)


def test_another_models_repository_is_not_overwritten(hub, folder):
    repository = hub.add(REPO, {"model.safetensors": b"another"})
    with pytest.raises(HyperfitError, match=rf"{REPO} \(main\) holds a model that was not pushed by this program"):
        upload(folder, Destination(REPO))
    with pytest.raises(HyperfitError, match=f"{REPO} is there already, and public; make it private on the Hub first"):
        upload(folder, Destination(REPO, private=True))
    assert repository.tree("main") == {".gitattributes": b"", "model.safetensors": b"another"}


def test_a_push_without_weights_removes_none(hub, folder, tmp_path):
    upload(folder, Destination(REPO))
    before = hub.repositories[REPO].tree("main")
    blocker = tmp_path / "blocker"
    blocker.mkdir()
    (blocker / "README.md").write_text("# The blocker")
    with pytest.raises(HyperfitError, match=rf"{REPO} \(main\) holds a model that this push would take the place of; "):
        upload(blocker, Destination(REPO))
    assert hub.repositories[REPO].tree("main") == before


def test_a_branch_or_a_pull_request_leaves_main_alone(hub, folder):
    repository = hub.add(REPO, {})
    upload(folder, Destination(REPO, revision="v2"))
    assert repository.tree("v2").keys() == {".gitattributes", *contents(folder)}
    lines = []
    address = upload(folder, Destination(REPO, create_pr=True), lines.append)
    assert address == f"{hub.url}/{REPO}/discussions/1"
    assert lines == [
        f"Pull request {address}. If this breaks off, go on with --revision refs/pr/1 in place of --create-pr."
    ]
    assert repository.tree("refs/pr/1").keys() == {".gitattributes", *contents(folder)}
    assert repository.tree("main") == {".gitattributes": b""}
    (folder / "run.json").write_text("[]")
    upload(folder, Destination(REPO, revision="refs/pr/1"))
    assert repository.tree("refs/pr/1")["run.json"] == b"[]"


def test_a_card_that_the_hub_refuses_is_not_followed_by_files(hub, folder):
    (folder / "README.md").write_text("---\ntags: []\n---\n# Little\n")
    with pytest.raises(
        HyperfitError, match=r"refused by the Hub \(400\): Invalid metadata in README.md. - license is r"
    ):
        upload(folder, Destination(REPO), quiet)
    assert hub.count("PUT /large/") == 0 and hub.repositories[REPO].messages == ["initial commit"]

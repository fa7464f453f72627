"""The training script starts alone: what its head says is what the package is called and needs."""

import re
import tomllib

from paths import ROOT


def test_the_head_of_the_script_names_this_package():
    text = (ROOT / "scripts" / "hyperfit.py").read_text()
    # The expression of PEP 723.
    found = re.findall(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", text)
    assert [kind for kind, *_ in found] == ["script"]
    head = tomllib.loads("".join(line.removeprefix("#").removeprefix(" ") for line in found[0][1].splitlines(True)))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert head == {"requires-python": project["requires-python"], "dependencies": [f"{project['name']}[reports]"]}

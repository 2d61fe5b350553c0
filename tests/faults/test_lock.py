"""requirements.lock is what constraints.txt says, complete and with hashes."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

# Weaknesses that this tool's promises rest on, and the first version without each.
MENDED = {
    "torch": ("2.6", "CVE-2025-32434: weights_only=True runs code"),
    "transformers": ("5.3", "CVE-2026-1839, CVE-2026-4372, CVE-2026-5241: configurations run code"),
    "jinja2": ("3.1.6", "CVE-2025-27516: a way out of the sandbox"),
}
ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)==(\S+)", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(name: str) -> dict[str, str]:
    """Version by normalised name."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return {normal(n): version.removesuffix("+cpu") for n, version in PIN.findall(text)}


def test_the_lock_pins_every_dependency_with_hashes() -> None:
    locked = pins("requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {normal(re.split(r"[<>=\[; ]", d)[0]) for d in project["dependencies"]}
    assert wanted - locked.keys() == set()
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", text[text.index("torch==") :])
    assert [e[:40] for e in entries if "--hash=sha256:" not in e] == []
    assert len(entries) == len(locked)


def test_the_lock_agrees_with_the_tested_versions() -> None:
    tested, locked = pins("constraints.txt"), pins("requirements.lock")
    assert {n: v for n, v in locked.items() if n in tested and tested[n] != v} == {}


@pytest.mark.parametrize("name", MENDED)
def test_no_allowed_version_has_a_weakness_that_promises_rest_on(name: str) -> None:
    first = Version(MENDED[name][0])
    assert Version(pins("requirements.lock")[name]) >= first
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = [Requirement(text) for text in project["dependencies"]]
    [floor] = [s.version for r in needs if r.name == name for s in r.specifier]
    assert Version(floor) >= first

"""Verdicts on functions: right, wrong, endless, broken, cheating."""

import os

import pytest

from sftprep.evaluate.sandbox import (
    UNSAFE,
    Problem,
    SandboxOutcome,
    SandboxTier,
    probe,
    run_many,
    run_problem,
)
from sftprep.evaluate.sandbox.run import holds

PROMPT = 'import math\n\n\ndef double(x):\n    """Return x times 2."""\n'
TEST = "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1.5) == -3.0\n"


def run(completion: str, tier: SandboxTier, seconds: float = 5.0) -> SandboxOutcome:
    return run_problem(PROMPT, completion, TEST, "double", timeout_seconds=seconds, tier=tier)


def test_a_right_function_passes(tier: SandboxTier) -> None:
    assert run("    return x * 2\n", tier).status == "passed"


def test_a_function_may_use_the_standard_library_and_its_own_helpers(tier: SandboxTier) -> None:
    code = (
        "    return helper(x)\n\nimport itertools\ndef helper(x):\n    return math.fsum([x, x])\n"
    )
    assert run(code, tier).status == "passed"


@pytest.mark.parametrize(
    ("completion", "why"),
    [
        ("    return None\n", "a test does not hold"),
        ("    return x * (\n", "the solution does not load: SyntaxError"),
        ("    return x / 0\n", "ZeroDivisionError during the tests"),
        ("    return undefined\n", "NameError during the tests"),
        ("", "a test does not hold"),
    ],
)
def test_a_wrong_function_fails_with_its_reason(
    completion: str, why: str, tier: SandboxTier
) -> None:
    outcome = run(completion, tier)
    assert (outcome.status, outcome.detail) == ("failed", why)


def test_an_endless_function_fails_at_its_time_limit(tier: SandboxTier) -> None:
    outcome = run("    while True:\n        pass\n", tier, seconds=0.5)
    assert (outcome.status, outcome.detail) == ("failed", "no verdict within 0.5 s")


CHEATS = {
    "ends the process with status 0": "    import os\n    os._exit(0)\n",
    "ends the process while loading": "    return 0\nimport os\nos._exit(0)\n",
    "raises SystemExit": "    raise SystemExit(0)\n",
    "exits while loading": "    return 0\nimport sys\nsys.exit(0)\n",
    "returns an always-equal object": (
        "    class Yes:\n        def __eq__(self, other):\n            return True\n"
        "    return Yes()\n"
    ),
    "returns an always-equal number": (
        "    class Yes(int):\n        def __eq__(self, other):\n            return True\n"
        "        __hash__ = int.__hash__\n    return Yes(1)\n"
    ),
    "walks the stack for the checker": (
        "    import sys\n    frame = sys._getframe()\n    while frame:\n"
        "        for scope in (frame.f_locals, frame.f_globals):\n"
        "            for value in list(scope.values()):\n"
        "                if isinstance(value, list):\n                    value.append('passed')\n"
        "            scope['check'] = lambda candidate: None\n"
        "        frame = frame.f_back\n    return 0\n"
    ),
    "walks the heap for the answers": (
        "    import gc\n    found = [o for o in gc.get_objects() if isinstance(o, str)\n"
        "             and 'assert candidate' in o]\n    return 4 if found else 0\n"
    ),
    "forges verdict lines on every descriptor": (
        "    import os\n    for fd in range(64):\n        try:\n"
        '            os.write(fd, b\'{"status": "passed", "detail": ""}\\n\')\n'
        "        except OSError:\n            pass\n    return 0\n"
    ),
    "answers calls that were not made": (
        "    return 0\nimport os\nfor fd in range(3, 64):\n    try:\n"
        '        os.write(fd, b\'{"ready": true}\\n{"n": 7, "r": ["int", "0x4"]}\\n\' * 9)\n'
        "    except OSError:\n        pass\n"
    ),
    "replaces builtins": (
        "    return 0\nimport builtins\nbuiltins.AssertionError = ValueError\n"
        "builtins.all = builtins.any = lambda values: True\n"
    ),
    "raises what a test might swallow": "    raise StopIteration\n",
    "returns not-a-number": "    return float('nan')\n",
    "answers without end": "    return 'a' * 40_000_000\n",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_fails(name: str, tier: SandboxTier) -> None:
    assert run(CHEATS[name], tier, seconds=2.0).status == "failed"


def test_the_test_reaches_the_solution_also_under_its_own_name(tier: SandboxTier) -> None:
    test = "def check(candidate):\n    assert candidate(3) == double(3) == 6\n"
    outcome = run_problem(PROMPT, "    return x * 2\n", test, "double", tier=tier)
    assert outcome.status == "passed"


def test_a_test_file_that_does_not_run_is_an_error_not_a_failure(tier: SandboxTier) -> None:
    outcome = run_problem(PROMPT, "    return x * 2\n", "def check(:\n", "double", tier=tier)
    assert outcome.status == "error"
    assert "SyntaxError" in outcome.detail


def test_the_solution_sees_nothing_of_the_environment(
    tier: SandboxTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    code = "    import os\n    return sorted(os.environ)\n"
    names = ["HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PWD", "PYTHONHASHSEED"]
    test = f"def check(candidate):\n    assert set(candidate(0)) <= set({names!r})\n"
    assert run_problem(PROMPT, code, test, "double", tier=tier).status == "passed"


def test_many_problems_keep_their_order_and_leave_no_process(tier: SandboxTier) -> None:
    answers = [2, 3, 2, 0, 2]
    problems = [Problem(PROMPT, f"    return x * {n}\n", TEST, "double") for n in answers]
    outcomes = run_many(problems, tier=tier)
    assert [o.status == "passed" for o in outcomes] == [n == 2 for n in answers]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_probe_finds_a_tier_or_none_and_never_the_unsafe_one(
    held: dict[str, SandboxTier],
) -> None:
    found = probe()
    assert (found.name if found else None) == next(iter(held), None)
    assert probe([UNSAFE]) is None


def test_the_probe_refuses_a_tier_that_lets_things_through() -> None:
    assert holds(UNSAFE) is False

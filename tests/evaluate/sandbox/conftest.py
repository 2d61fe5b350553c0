"""The tiers this machine offers."""

import pytest

from sftprep.evaluate.sandbox import SandboxTier
from sftprep.evaluate.sandbox.run import holds
from sftprep.evaluate.sandbox.tier import candidates

NAMES = ("bwrap+landlock+seccomp", "landlock+seccomp", "bwrap+seccomp")


@pytest.fixture(scope="session")
def held() -> dict[str, SandboxTier]:
    """Tiers that pass the start-up probe here."""
    return {tier.name: tier for tier in candidates() if holds(tier)}


@pytest.fixture(params=NAMES)
def tier(request: pytest.FixtureRequest, held: dict[str, SandboxTier]) -> SandboxTier:
    """Each tier in turn; those this machine lacks are skipped."""
    if request.param not in held:
        pytest.skip(f"{request.param} does not hold on this machine")
    return held[request.param]

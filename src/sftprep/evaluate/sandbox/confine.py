"""The order in which a fresh process closes itself in. Standard library only.

Limits, no new privileges, Landlock, user nobody, and last the system-call filter: each step needs
calls that the next one takes away.
"""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING or __package__:
    from sftprep.evaluate.sandbox import landlock, limits, seccomp
else:  # inside the sandbox the files stand alone
    import landlock
    import limits
    import seccomp


class Confinement(NamedTuple):
    """Which layers a process puts on, what stays readable, and what is imported before."""

    landlock: bool
    seccomp: bool
    readable: tuple[str, ...]
    cpu_seconds: int
    preload: tuple[str, ...]


def confine(rules: Confinement) -> None:
    """Put on all layers, for good; nothing of the benchmark has been read before.

    Raises:
        OSError: a layer is refused. The caller must not go on.
    """
    limits.preload(rules.preload)
    limits.limit_resources(rules.cpu_seconds)
    limits.lock_privileges()
    if rules.landlock:
        landlock.restrict(rules.readable)
    if rules.landlock or rules.seccomp:
        limits.leave_root()
        # A change of user makes the parent-death signal and the dumpable flag fall back.
        limits.lock_privileges()
    if rules.seccomp:
        seccomp.restrict()

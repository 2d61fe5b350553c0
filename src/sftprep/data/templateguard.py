"""A chat template comes with a model and is a program: it may loop for ever or eat all memory.

Jinja's sandbox (which transformers uses) keeps it from Python objects, but bounds neither time nor
memory. So a foreign template is first rendered in a child process with limits; later renderings in
this process, whose texts a template may have waited for, have limits too.
"""

import json
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType

from sftprep.errors import ModelError

CPU_SECONDS = 2
WALL_SECONDS = 30.0  # a busy machine may take long to start Python
MEMORY_BYTES = 1 << 30
RENDER_SECONDS = 10.0
STATM = Path("/proc/self/statm")  # its first number: pages of address space
# Tags that transformers adds to Jinja; they print nothing.
_GENERATION = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")
# Role sequences that a template may treat differently.
ROLES = (
    ("user",),
    ("user", "assistant"),
    ("system", "user", "assistant"),
    ("user", "assistant", "user", "assistant", "user", "assistant"),
)
# Exit 0 whatever a template raises: what is wrong with it is found out by the real rendering.
_CHILD = """
import json, resource, sys
sys.path[:], template, roles, cpu, memory = json.load(sys.stdin)
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
def stop(message=""):
    raise ValueError(message)
space = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
space.globals.update(raise_exception=stop, strftime_now=lambda form: "2026")
space.filters["tojson"] = lambda value, **settings: json.dumps(value)
for names in roles:
    messages = [{"role": name, "content": "text"} for name in names]
    for generate in (False, True):
        try:
            text = space.from_string(template).render(
                messages=messages, add_generation_prompt=generate, bos_token="<s>", eos_token="</s>",
                unk_token="<u>", pad_token="<p>", tools=None, documents=None)
        except MemoryError:
            sys.exit(9)
        except Exception:
            continue
        if len(text) > 1 << 20:
            sys.exit(8)
"""  # noqa: E501


@cache
def check_template(template: str, where: str) -> None:
    """Render a foreign template within limits of time and memory.

    Raises:
        ModelError: it does not end within 2 s of CPU time, needs more than 1 GiB, or writes more
            than 1 MiB for six short messages.
    """
    plain = _GENERATION.sub("", template)
    order = json.dumps([sys.path, plain, ROLES, CPU_SECONDS, MEMORY_BYTES])
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _CHILD],
            input=order.encode("utf-8", "surrogatepass"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=WALL_SECONDS,
            check=False,
        )
        status = done.returncode
    except subprocess.TimeoutExpired:
        status = -signal.SIGXCPU
    if status in (0, 1):  # 1: the child could not start; the limit per rendering still holds
        return
    what = {
        -signal.SIGXCPU: f"does not end within {CPU_SECONDS} s",
        -signal.SIGKILL: f"does not end within {CPU_SECONDS} s",
        8: "writes more than 1 MiB for six short messages",
        9: f"needs more than {MEMORY_BYTES >> 20} MiB",
    }.get(status, f"kills its process (status {status})")
    raise ModelError(
        f"{where}: the chat template {what}. Do not trust this model; to use its weights all the "
        "same set model.chat_template: plain."
    )


@contextmanager
def limited_rendering() -> Iterator[None]:
    """Stop a rendering in the main thread after 10 s, or when it needs more than 1 GiB.

    Raises:
        ModelError: it took longer or needed more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        with _limited_time(), _limited_memory():
            yield
    except MemoryError as error:
        raise ModelError(
            f"the chat template needs more than {MEMORY_BYTES >> 20} MiB for one conversation. "
            "Use model.chat_template: plain."
        ) from error


@contextmanager
def _limited_time() -> Iterator[None]:
    def too_long(number: int, frame: FrameType | None) -> None:
        raise ModelError(
            f"the chat template did not end within {RENDER_SECONDS:.0f} s on one conversation. "
            "Use model.chat_template: plain."
        )

    before = signal.signal(signal.SIGALRM, too_long)
    timer = signal.setitimer(signal.ITIMER_REAL, RENDER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Allow this process 1 GiB of addresses beyond what it has (Linux only)."""
    if not STATM.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(STATM.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
    limit = most if soft == resource.RLIM_INFINITY else min(most, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

"""Which code made a result: a digest of what trains and measures.

A result stays valid when the code changes, as most changes move no number. Reports say
which results were made by which code, so that a doubt can be followed.
"""

import functools
import hashlib
from pathlib import Path

PACKAGES = ("clients", "models", "server", "strategies")
LENGTH = 10


@functools.lru_cache(maxsize=1)
def code_digest() -> str:
    """Return ten hexadecimal digits that change with any line of the code.

    Returns:
        Of SHA-256 over the names and bytes of all Python files of `PACKAGES`, as they
        are when it is asked for the first time in a process.
    """
    root = Path(__file__).parents[2]
    found = hashlib.sha256()
    for path in sorted(one for name in PACKAGES for one in (root / name).rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + b"\0")
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()[:LENGTH]

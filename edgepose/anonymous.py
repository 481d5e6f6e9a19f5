"""Texts without what says whose machine they come from, for reports that are sent to others."""

from __future__ import annotations

import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from .devices import device_names

#: Folders of people, as systems lay them out.
_HOMES = re.compile(r"/(?:home|Users)/[^/\s'\":;,]+")


#: Folders that every system has, where nothing is called after a person or a project.
_SYSTEM = frozenset(("", "bin", "dev", "etc", "lib", "lib64", "opt", "proc", "sbin", "sys", "usr"))


class Anonymiser:
    """Replaces in texts the folders of people, of Python and the current one, and this machine's name and addresses."""

    def __init__(self) -> None:
        known = {str(Path.cwd()): "<here>", sys.prefix: "<python>", tempfile.gettempdir(): "<tmp>"}
        own = {f: word for f, word in known.items() if f.split("/")[1:2][0] not in _SYSTEM}
        own |= {home: "~" for home in (str(Path.home()),) if home.count("/") and len(home) > 1}
        # The longest first, for one may lie in another.
        self._folders = sorted(own.items(), key=lambda pair: -len(pair[0]))
        host = socket.gethostname()
        names = {host, host.partition(".")[0]} - set(device_names()) - {"", "localhost"}
        words = sorted(names | _addresses(), key=len, reverse=True)
        self._words = re.compile(r"(?<![\w.])(?:" + "|".join(map(re.escape, words)) + r")(?![\w])") if words else None

    def text(self, text: str) -> str:
        """The text without them."""
        for folder, word in self._folders:
            text = re.sub(re.escape(folder) + r"(?=[/\s'\":;,)\].]|$)", word, text)
        text = _HOMES.sub("~", text)
        return self._words.sub("<host>", text) if self._words else text

    def data(self, value: Any) -> Any:
        """Plain data with all its texts made so."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.data(v) for key, v in value.items()}
        return [self.data(v) for v in value] if isinstance(value, (list, tuple)) else value


def _addresses() -> set[str]:
    """This machine's own IPv4 addresses, as the kernel lists them, without asking anybody."""
    try:
        table = Path("/proc/net/fib_trie").read_text(encoding="ascii", errors="replace")
    except OSError:
        return set()
    found = set(re.findall(r"\|-- ([\d.]+)\n\s+/32 host LOCAL", table))
    return {a for a in found if not a.startswith("127.")}

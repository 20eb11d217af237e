"""A file that has no name before it is whole, so that nothing of it is left by whoever is stopped meanwhile.

    with unnamed(out) as new:
        …                                   write to `new.file`, an empty one of mode 0600; make it durable
        new.appear(replace=False)           now it is there, under the name that was given, and durably so

A file without a name (Linux: `O_TMPFILE`) is gone once the process is, even one that was killed; `linkat` gives it a
name. Where the system, or the file system, has no such thing, it is in a hidden folder beside its place, which whoever
is killed leaves behind.
"""

import errno
import os
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from translog.guard import fsync_folder

_MODE = 0o600
_OPENED = Path("/proc/self/fd")
"""Where Linux has a name for what is open."""


@dataclass(frozen=True, slots=True)
class New:
    """A file that is being written."""

    file: BinaryIO
    _name: Callable[[Path], None]
    _place: Path

    def appear(self, *, replace: bool) -> None:
        """Give it its name. Raises FileExistsError if another file has that, unless it is to be replaced."""
        if replace:
            beside = self._place.with_name(f".{self._place.name}.{secrets.token_hex(8)}")
            self._name(beside)
            try:
                beside.replace(self._place)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
        else:
            try:
                self._name(self._place)
            except FileExistsError:  # which would name the file that was to be called so
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self._place)) from None
        fsync_folder(self._place.parent)


@contextmanager
def unnamed(out: Path) -> Generator[New]:
    """A new file that is to be at `out`, whose folder is there. Raises OSError if none can be written there."""
    place = out.absolute()
    nameless = _nameless(place.parent)
    if nameless is not None:
        with open(nameless, "wb") as file:  # noqa: PTH123
            # A folder's number, though none is needed, has Python follow the name that /proc has for the file.
            yield New(file, lambda name: os.link(_OPENED / str(nameless), name, src_dir_fd=0), place)
        return
    with TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as folder:
        made = Path(folder) / place.name
        with open(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "wb") as file:  # noqa: PTH123
            yield New(file, lambda name: _rename(made, name), place)


def _rename(made: Path, name: Path) -> None:
    """Not a link: those file systems that have no files without a name may have no links either."""
    if name.exists():
        raise FileExistsError
    made.rename(name)


def _nameless(folder: Path) -> int | None:
    """A new file without a name in that folder; None if there can be none."""
    if not hasattr(os, "O_TMPFILE") or not _OPENED.is_dir():
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, _MODE)
    except OSError:  # the file system has none; whatever else is wrong is found by whoever tries a named one
        return None

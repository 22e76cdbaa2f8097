"""Whose machine code is run: this user's own and root's, where nobody else can have changed it.

A kernel is code that runs in this process. Its name and checksum say what it should be, and anyone
can write both; so the folder and the file must be such that no other user could have put it there.
Where users have no numbers (Windows), a folder below the home is this user's by its ACL.
"""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path

_told: set[Path] = set()  # folders, one warning each


class KernelCacheWarning(UserWarning):
    """Kernels are in the cache and not used, because another user may have written them."""


def _writers(found: os.stat_result) -> str:
    """Who beside this user and root may write here, or "".

    A sticky folder, as /tmp is, is no exception: who may write there can link one of this user's
    kernels under the name of another.
    """
    me = os.geteuid()
    if found.st_uid not in (me, 0):
        return f"it belongs to user {found.st_uid} and this process runs as user {me}"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to it (its mode is {stat.S_IMODE(found.st_mode):o})"
    return ""


def objection(place: Path) -> str:
    """Why kernels in this folder are not to be loaded; "" where nothing is wrong or it's missing.

    Raises OSError where the folder can't be looked at.
    """
    if not hasattr(os, "geteuid"):
        return ""
    try:
        return _writers(os.stat(place))
    except (FileNotFoundError, NotADirectoryError):
        return ""


def read(place: Path, name: str) -> bytes | None:
    """The content of a file that only this user or root can have written, else None.

    A file that others may have written is told of by one KernelCacheWarning for each folder. Raises
    OSError where there is none, or it can't be read; a link is none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    if not hasattr(os, "geteuid"):
        return (place / name).read_bytes()
    # What is checked is what is open: neither can be exchanged in between.
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        why_folder = _writers(os.fstat(folder))
        descriptor = os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            return None
        if why_folder:
            warn(place, f"the folder is not safe: {why_folder}")
            return None
        if why := _writers(found):
            warn(place, f"{name} is not safe: {why}")
            return None
        data = file.read()
        _mark_used(descriptor, found)
        return data


def _mark_used(descriptor: int, found: os.stat_result) -> None:
    """The access time is what eviction goes by; many disks are mounted not to keep it."""
    import time

    try:
        os.utime(descriptor, ns=(time.time_ns(), found.st_mtime_ns))
    except (OSError, TypeError):  # root's file, a read-only disk; a system without futimens
        return


def warn(place: Path, why: str) -> None:
    """One warning a folder: what is not used, why, and what to do."""
    if place in _told:
        return
    _told.add(place)
    warnings.warn(
        f"kernel cache {place}: {why}. Kernels there are not run, but compiled anew. If nobody "
        f"else has written there, `chown -R $(id -un) {place}; chmod -R go-w {place}` makes it "
        "this user's alone; otherwise set $MINIGRAD_CACHE_DIR to a folder of your own.",
        KernelCacheWarning,
        stacklevel=3,
    )

"""Files that are whole or not there: written beside, then moved into place. A process that is killed leaves a .part file."""

import errno
import os
import shutil
from pathlib import Path

from ledvolume.errors import OutputError


def write_whole(path: Path, data: bytes) -> int:
    """Returns the number of bytes. Raises OutputError; the file is then what it was before.

    Each process has a .part file of its own: two may write the same frame, and it is the same.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(words(path, error, len(data))) from error
    return len(data)


def words(path: Path, error: OSError, size: int) -> str:
    """What to say of a file of a size that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = next((f for f in (path.parent, *path.parent.parents) if f.is_dir()), Path("/"))
        free = shutil.disk_usage(folder).free / 1e6
        return (
            f"{path}: the disk is full: {size / 1e6:.1f} MB to write, {free:.1f} MB free in {folder}. "
            "What was written before is whole: make space and go on from there"
        )
    return f"{path}: cannot write: {error.strerror or error}. Is the folder writable, and is the disk still there?"


def remove_parts(folder: Path) -> int:
    """Remove what killed processes left below a folder, when none is writing there; returns how many."""
    parts = list(Path(folder).rglob("*.part"))
    for part in parts:
        part.unlink(missing_ok=True)
    return len(parts)

"""What an MPCDI is made of: a zip with mpcdi.xml and what it names, or that XML beside its files.

Nothing is believed: zip bombs are refused before they are unpacked, names lead nowhere but to a file beside mpcdi.xml, and XML
with a DTD or with entities (billion laughs, files of others) is not read.
"""

import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.parsers import expat

from calibration.exchange.wall import bytes_of
from ledvolume.errors import ConfigError

MOST_XML_BYTES = 16 << 20
MOST_FILES = 4096
MOST_DEPTH = 64
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, IndexError)


class Archive:
    """The members of a zip: names only, no paths; never more of them than is asked for."""

    def __init__(self, data: bytes, file: Path):
        self._file = file
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            infos = self._zip.infolist()
        except _ZIP_ERRORS as error:
            raise ConfigError(file, "file", "a zip with mpcdi.xml", str(error)) from None
        if len(infos) > MOST_FILES:
            raise ConfigError(file, "file", f"at most {MOST_FILES} files in the zip", len(infos))
        self._infos = {info.filename.lower(): info for info in infos}

    def read(self, name: str, most: int) -> bytes:
        """Raises ConfigError."""
        info = self._infos.get(_plain(name, self._file).lower())
        if info is None:
            raise ConfigError(self._file, name, "a file of this name in the zip", sorted(self._infos)[:8])
        if info.file_size > most:
            raise ConfigError(self._file, name, f"at most {most} bytes", info.file_size)
        try:
            with self._zip.open(info) as opened:
                return opened.read(most)
        except _ZIP_ERRORS as error:
            raise ConfigError(self._file, name, "a file in the zip that can be unpacked", str(error)) from None


class Folder:
    """The files beside an XML that was taken out of its zip."""

    def __init__(self, file: Path):
        self._file = file

    def read(self, name: str, most: int) -> bytes:
        """Raises ConfigError."""
        return bytes_of(self._file.parent / _plain(name, self._file), most)


def _plain(name: str, file: Path) -> str:
    """A file's name that leads nowhere else. Raises ConfigError."""
    path = PurePosixPath(name.replace("\\", "/"))
    if not name or path.is_absolute() or ":" in name or "\0" in name or len(path.parts) != 1 or path.name in ("..", "."):
        raise ConfigError(file, "path", "the name of a file beside mpcdi.xml, without a folder", name)
    return path.name


def xml_of(data: bytes, file: Path) -> ElementTree.Element:
    """The root of an XML document without DTD, entities and name spaces. Raises ConfigError."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = 0

    def start(tag, attributes):
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise ConfigError(file, "file", f"at most {MOST_DEPTH} levels of XML", depth)
        builder.start(tag, attributes)

    def end(tag):
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_):
        raise ConfigError(file, "DOCTYPE", "XML without a DTD and without entities", "one")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, builder.data
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    parser.UnparsedEntityDeclHandler = parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, LookupError, ValueError, AssertionError) as error:
        raise ConfigError(file, "file", "XML that can be read", str(error)) from None

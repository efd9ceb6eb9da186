"""Archives of corpora, made in memory."""

import io
import tarfile

import soundfile


def add(archive, name, data):
    """Add a file to an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def encoded(wave, kind):
    """Return samples as the bytes of an audio file."""
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, format=kind, subtype="PCM_16")
    return file.getvalue()

"""Reading a file that holds a secret: it must be a regular file that nobody but its owner can read.

Must never show what is in it, wait for it (a FIFO), or read more of it than it was asked for.
"""

from __future__ import annotations

import os
import stat

from config.errors import ConfigError


def read_private_file(path: str, key: str, at_most_bytes: int) -> bytes:
    """What is in the file that the setting `key` names, as far as `at_most_bytes`.

    Raises FileNotFoundError, and ConfigError for all else that is wrong with it.
    """
    try:
        # O_NONBLOCK: a FIFO of that name must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            _check_mode(os.fstat(descriptor).st_mode, path, key)
            return os.read(descriptor, at_most_bytes)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(key, path, f"a file that can be read ({error.strerror})") from error
    except ValueError as error:  # a path that holds a zero byte
        raise ConfigError(key, path, f"a path ({error})") from error


def _check_mode(mode: int, path: str, key: str) -> None:
    if not stat.S_ISREG(mode):
        raise ConfigError(key, path, "a regular file")
    if mode & 0o077:
        raise ConfigError(key, path, f"a file for its owner only, mode 0600 and not {mode & 0o777:04o}")

"""Keeps a WSS listener's certificate the one that is in its files, and says in time that it ends.

Begins with the certificate that the listener served last, and looks at the files every few seconds, through symbolic
links as certbot makes them. Files that change are left alone until they rest for one look, since cert and key are
written one after the other. Must never let go of a certificate that works for one that does not: a bad one is refused,
counted and logged, once, and the next look is for a better one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from actors import log, metrics
from actors.board import BoardRow
from config.errors import ConfigError
from transports.certificate import Certificate
from transports.kept_certificates import KeptCertificate

LOOK_S: Final = 2.0
WARN_S: Final = 14 * 86_400
"""How long before its end a certificate is warned of, once a day."""
_DAY_S: Final = 86_400
_logger = log.get_logger("certificate")

Signature = tuple[tuple[int, ...], ...]


class CertificateKeeper:
    """The certificate of one worker. `kept` is what the listener's workers hand on to those who come after them.

    `unix_s` is the wall clock, which certificates go by.

    `speaks`: whether this worker is the one of its listener that counts and logs; all of them look.
    """

    def __init__(
        self,
        certificate: Certificate,
        files: tuple[str, str],
        kept: KeptCertificate,
        row: BoardRow,
        unix_s: Callable[[], float],
        *,
        speaks: bool,
    ) -> None:
        self._certificate = certificate
        self._files = files
        self._kept = kept
        self._row = row
        self._unix_s = unix_s
        self._speaks = speaks
        self._seen = _signature(files)
        # What is served is what was kept. Files that hold something else are news.
        self._tried = self._seen if kept.holds(files) else ()
        self._warn_at_s = 0.0
        self._show()

    def look(self) -> None:
        """Every LOOK_S: take a new certificate once its files have come to rest, and mind the end of the old one."""
        seen = _signature(self._files)
        if seen != self._tried and seen == self._seen:
            self._load()
        self._seen = seen
        self._mind_the_end()

    def use(self, files: tuple[str, str]) -> None:
        """Take what is in these files now."""
        self._files = files
        self._load()

    def _load(self) -> None:
        self._tried = self._seen = _signature(self._files)
        try:
            self._certificate.load(*self._files, self._unix_s())
        except ConfigError as error:
            self._say("refused")
            if self._speaks:
                _logger.error("certificate refused, the one before is kept", error=str(error))
            return
        self._keep()
        self._warn_at_s = 0.0
        self._say("ok")
        self._show()

    def _keep(self) -> None:
        """For the worker that will come after one of us. All of the listener's do it, with the same content."""
        try:
            self._kept.keep(self._files)
        except OSError as error:  # gone again: the next look sees it
            _logger.warning("certificate served, and not kept for successors", error=error.strerror)

    def _say(self, outcome: str) -> None:
        if self._speaks:
            metrics.CERTIFICATE_LOADS.labels(outcome).inc()

    def _show(self) -> None:
        self._row.certificate_expires_unix_s = self._certificate.expires_unix_s
        if self._speaks:
            days = round(self._days_left(), 1)
            _logger.info("certificate served", cert_file=self._files[0], days_left=days)

    def _days_left(self) -> float:
        return (self._certificate.expires_unix_s - self._unix_s()) / _DAY_S

    def _mind_the_end(self) -> None:
        now = self._unix_s()
        # Also when the clock was put back: what is due later than a day from now would be due never.
        if not self._speaks or self._certificate.expires_unix_s - now > WARN_S or now < self._warn_at_s <= now + _DAY_S:
            return
        self._warn_at_s = now + _DAY_S
        days = self._days_left()
        if days > 0:
            _logger.warning("certificate ends soon", cert_file=self._files[0], days_left=round(days, 1))
        else:
            _logger.error(
                "certificate has ended, clients refuse it", cert_file=self._files[0], days_ago=round(-days, 1)
            )


def _signature(files: tuple[str, str]) -> Signature:
    """What changes when a file is written, replaced, or its symbolic link points elsewhere; () for one that is gone."""
    return tuple(_one_signature(file) for file in files)


def _one_signature(file: str) -> tuple[int, ...]:
    try:
        found = os.stat(file)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

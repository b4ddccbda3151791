"""Watches the free space on the disk of `var`: an alert, once a day, and when it is time to make room.

Workers need no space to answer, so a full disk stops collecting and nights, but no answers.
"""

import datetime as dt
import logging
import shutil
import time
from pathlib import Path

from quality.alerts.alert_file import Alert, raise_alert

log = logging.getLogger(__name__)

LOOK_S = 30.0
AGAIN_S = 600.0
"""How long the next try to make room waits: what is needed now may be free to go then."""


class SpaceWatch:
    """The disk of one `var` folder."""

    def __init__(self, var: Path, least_mb: int) -> None:
        self._var, self._least = var, least_mb << 20
        self._looked = self._made_room = float("-inf")

    def is_time_to_make_room(self) -> bool:
        """Whether less than the least is free, and the last try is long enough ago. Raises the alert `disk_low`."""
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return False
        self._looked = now
        free = shutil.disk_usage(self._var).free if self._var.exists() else self._least
        if free >= self._least or now - self._made_room < AGAIN_S:
            return False
        self._made_room = now
        self._alert(free)
        return True

    def _alert(self, free: int) -> None:
        text = f"{free >> 20:,} MB are free on the disk of {self._var}, less than [batch] least_free_mb"
        text += f" ({self._least >> 20:,}): the least valuable files go first (python -m batch tidy --make-room)"
        try:
            raise_alert(
                self._var, Alert(id=f"disk_low:{dt.datetime.now(dt.UTC):%Y-%m-%d}", alert="disk_low", text=text)
            )
        except OSError as error:  # the disk may be full
            log.error("%s; the alert cannot be written: %s", text, error)

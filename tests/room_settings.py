"""The class of settings of each room."""

import msgspec

from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from quality.settings import QualitySettings
from server.settings import ServerSettings
from stream.settings import StreamSettings

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "stream": StreamSettings,
    "quality": QualitySettings,
    "batch": BatchSettings,
    "server": ServerSettings,
    "loadtest": WorldSettings,
}

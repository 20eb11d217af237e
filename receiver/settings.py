"""The settings: environment variables `RESCIND_*`, over a TOML file, over the defaults.

The TOML file is `rescind.toml` in the data folder, or the one that `RESCIND_CONFIG` names; its members are the
fields below.
"""

import os
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

DEFAULT_DATA = Path("rescind-data")
CONFIG_FILE = "rescind.toml"


def default_guard() -> Path:
    """The user's state folder (XDG Base Directory), outside any data folder."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "rescind" / "guard"


class Settings(BaseSettings):
    """All that an operator may set. Sizes are bytes, times seconds."""

    model_config = SettingsConfigDict(env_prefix="RESCIND_", extra="forbid")

    data: Path = DEFAULT_DATA
    database_url: str | None = None  # SQLite in the data folder unless set
    data_key: SecretStr | None = None  # base64 of 32 bytes; the data folder's data.key unless set
    guard: Path = Field(default_factory=default_guard)
    require_guard: bool = False  # refuse a database that is not empty and has no guard
    origin: str | None = None  # base of the log origins, at first use only: host/path

    publish_interval: float = Field(default=1.0, gt=0, le=60)
    max_body: int = Field(default=256 * 1024, ge=1024, le=16 * 1024 * 1024)
    request_timeout: float = Field(default=10.0, gt=0)  # for headers and body to arrive
    relay_timeout: float = Field(default=30.0, gt=0, le=600)  # for a call that is passed on to be answered
    queue: int = Field(default=4096, ge=1)  # deliveries waiting to be recorded, before 503
    refusals_per_minute: int = Field(default=600, ge=1)  # 401s and 404s for one address, before 429
    trusted_proxies: str = ""  # addresses or networks, separated by commas, whose X-Forwarded-For is believed
    subscription_networks: str = ""  # addresses or networks, separated by commas, that subscriptions may call besides
    exports: Path | None = None  # where the files of exports are put: `exports` in the data folder unless set
    exports_kept: int = Field(default=7, ge=1, le=365)  # days before such a file is removed
    public_log: bool = True  # False: checkpoint and tiles need a key with scope `audit`
    public_metrics: bool = True  # False: /metrics, /health/ready, /schema need a key with scope `operate`

    @property
    def url(self) -> str:
        """The database's URL."""
        # In a URL these two would begin something else than a path.
        path = str(self.data / "rescind.db").replace("%", "%25").replace("?", "%3F")
        return self.database_url or f"sqlite:///{path}"

    @property
    def export_folder(self) -> Path:
        """Where the files of exports are put; receivers on several hosts that share a database should share it."""
        return self.exports or self.data / "exports"

    @field_validator("trusted_proxies", "subscription_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        for one in value.split(","):
            if one.strip():
                ip_network(one.strip(), strict=False)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        data = init_settings().get("data") or env_settings().get("data") or DEFAULT_DATA
        named = os.environ.get("RESCIND_CONFIG")
        file = Path(named or Path(data) / CONFIG_FILE)
        if named and not file.is_file():
            raise ValueError(f"RESCIND_CONFIG names {file}, and there is no such file")
        try:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{file} is not TOML: {error}") from error


def load(**given: Any) -> Settings:
    """The settings, with what a command was given over everything else. Raises pydantic's ValidationError, or
    ValueError for a file that cannot be read.
    """
    known = {f"RESCIND_{name.upper()}" for name in (*Settings.model_fields, "config")}
    unknown = sorted(name for name in os.environ if name.startswith("RESCIND_") and name not in known)
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no setting; there are {', '.join(sorted(known))}")
    return Settings(**{name: value for name, value in given.items() if value is not None})

"""Where files live. platformdirs decides; GPUDECK_HOME moves all of them below one directory.

Both processes must agree on these paths before they can speak, so they are part of the contract.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import platformdirs

HOME_VARIABLE = "GPUDECK_HOME"
SOCKET_PATH_BYTES_MAX = 100
"""sun_path holds 108 bytes; the margin is for the name of a temporary file beside the socket."""


class Places(NamedTuple):
    """Absolute directories, none of them created here."""

    config: Path
    data: Path
    state: Path
    runtime: Path

    @property
    def settings_file(self) -> Path:
        return self.config / "config.toml"

    @property
    def models_dir(self) -> Path:
        return self.config / "models"

    @property
    def prices_dir(self) -> Path:
        return self.config / "prices"

    @property
    def ledger_file(self) -> Path:
        return self.data / "ledger.db"

    @property
    def metrics_file(self) -> Path:
        """History of traffic: no money in it."""
        return self.data / "metrics.db"

    @property
    def deferred_file(self) -> Path:
        """Asynchronous calls that are not over, and results that are kept."""
        return self.data / "deferred.db"

    @property
    def webhook_key_file(self) -> Path:
        """What the secrets that sign webhooks are derived from."""
        return self.data / "webhook.key"

    @property
    def simulated_file(self) -> Path:
        """Its presence says that everything here was made by a lab (contract/lab.py)."""
        return self.data / "SIMULATED"

    @property
    def lock_file(self) -> Path:
        return self.data / "orchestrator.lock"

    @property
    def clock_file(self) -> Path:
        """How the clock of the running process was set, for the next one."""
        return self.data / "clock.json"

    @property
    def workers_dir(self) -> Path:
        """Records and logs of the process engine's workers."""
        return self.state / "workers"

    @property
    def loadtests_dir(self) -> Path:
        """Results of load tests, a folder for each endpoint."""
        return self.state / "loadtests"

    @property
    def log_file(self) -> Path:
        return self.state / "orchestrator.log"

    @property
    def access_log_file(self) -> Path:
        """One JSON object a line for every request, where the settings ask for it."""
        return self.state / "access.log"

    @property
    def secrets_dir(self) -> Path:
        """What containers are handed of their endpoints' secrets; in memory where the runtime directory is."""
        return self.runtime / "secrets"

    @property
    def socket_file(self) -> Path:
        return self.runtime / "control.sock"


def places(environ: Mapping[str, str] = os.environ) -> Places:
    """The directories for this user. Raises ValueError when the socket's path would be too long for the kernel."""
    home = environ.get(HOME_VARIABLE)
    if home:
        root = Path(home).expanduser().absolute()
        found = Places(root / "config", root / "data", root / "state", root / "run")
    else:
        dirs = platformdirs.PlatformDirs("gpudeck", appauthor=False)
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR (containers, su) platformdirs falls back to /tmp/runtime-UID and warns on stderr,
            # in every command anew. The fallback is right: the socket's directory is made 0700 whatever its parent.
            warnings.simplefilter("ignore")
            found = Places(dirs.user_config_path, dirs.user_data_path, dirs.user_state_path, dirs.user_runtime_path)
    length = len(os.fsencode(found.socket_file))
    if length > SOCKET_PATH_BYTES_MAX:
        raise ValueError(
            f"{HOME_VARIABLE}: the socket path {found.socket_file} has {length} bytes, the kernel allows "
            f"{SOCKET_PATH_BYTES_MAX}; choose a shorter directory"
        )
    return found

"""A host whose orchestrator mails to a server of the test, at prices that use up credit in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.contract.snapshot import AccountView
from tests.e2e.host import Host

PRICES = """
extends = "2025-seed"
[prices.L40]
per_hour = 1.00
per_second = 2.50
"""


@dataclass
class MailedHost(Host):
    """`settings` are environment variables without their prefix."""

    settings: dict[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | {f"GPUDECK_{name}": value for name, value in self.settings.items()}

    async def account(self, name: str = "local") -> AccountView:
        return next(a for a in (await self.snapshot()).accounts if a.name == name)


def mailed_host(home: Path, smtp_port: int, **settings: str) -> MailedHost:
    """Not started. Mails go, not encrypted, to `smtp_port` of this host, unless `settings` say otherwise."""
    prices = home / "config" / "prices" / "steep.toml"
    prices.parent.mkdir(parents=True)
    prices.write_text(PRICES)
    given = {
        "PRICE_BOOK": "steep", "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(smtp_port), "SMTP_SECURITY": "none",
        "MAIL_FROM": "deck@example.org", "MAIL_TO": "op@example.org",
    }  # fmt: skip
    return MailedHost(home, "process", settings=given | settings)

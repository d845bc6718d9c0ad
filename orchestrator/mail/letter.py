"""A queued mail as a message: the same bytes at every attempt, so that a second copy is recognised as one."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP

from orchestrator.contract.base import SECOND_NS
from orchestrator.core.writes import MailKey, MailQueued


def message_id(key: MailKey, instance: str) -> str:
    """The dedupe key as a Message-ID. The account's name is hashed: it may hold blanks, and mail servers log ids. Short
    enough for a line: a folded Message-ID is read with a leading blank by some."""
    account = hashlib.sha256(key.account.encode()).hexdigest()[:16]
    return f"<{key.kind}.{key.crossing_no}.{account}@{instance[:12]}.gpudeck.invalid>"


def compose(mail: MailQueued, *, sender: str, recipient: str, instance: str) -> EmailMessage:
    """Plain text in ASCII-safe encoding. Dated at the crossing, whenever it is sent."""
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    message["From"] = f"gpudeck <{sender}>"
    message["To"] = recipient
    message["Subject"] = mail.subject
    message["Date"] = datetime.fromtimestamp(mail.at_ns // SECOND_NS, UTC)
    message["Message-ID"] = message_id(mail.key, instance)
    message["Auto-Submitted"] = "auto-generated"
    message["X-Gpudeck-Key"] = f"{mail.key.account}/{mail.key.kind}/{mail.key.crossing_no}"
    message.set_content(mail.body)
    return message

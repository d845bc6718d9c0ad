"""The modal dialogs, by name.

A factory gets the newest snapshot and the slug the dialog is about (None where it is about none), the one of EDIT also
`changes` to begin with, and returns the screen to push. A dialog asks by posting messages (`CommandRequested`,
`QuestionAsked`) and hears back by `CommandAnswered` and `QuestionAnswered`; it never sees the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.screen import Screen

from app.messages import Dialog
from app.screens.dialogs.accounts import AccountsDialog
from app.screens.dialogs.confirm import DeleteDialog, DisableDialog
from app.screens.dialogs.create import CreateDialog
from app.screens.dialogs.edit import open_edit
from app.screens.dialogs.keys import KeysDialog
from app.screens.dialogs.quit import QuitDialog
from app.screens.dialogs.top_up import TopUpDialog

DialogFactory = Callable[..., Screen[Any]]

DIALOGS: dict[Dialog, DialogFactory] = {
    Dialog.CREATE: CreateDialog,
    Dialog.EDIT: open_edit,
    Dialog.DELETE: DeleteDialog,
    Dialog.DISABLE: DisableDialog,
    Dialog.KEYS: KeysDialog,
    Dialog.TOP_UP: TopUpDialog,
    Dialog.ACCOUNTS: AccountsDialog,
    Dialog.QUIT: QuitDialog,
}

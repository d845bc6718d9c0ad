"""The dashboard in a real browser."""

from __future__ import annotations

import pytest

from tests.app.web.browser import PROGRAM, browser
from tests.app.web.conftest import Start, needs_terminal
from tests.waiting import until

pytestmark = [needs_terminal, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]


async def test_a_page_without_the_token_is_refused_and_with_it_is_the_dashboard(start: Start) -> None:
    served = await start()
    async with browser() as page:
        await page.open(f"{served.base}/")
        await until(lambda: page.statuses.get(f"{served.base}/") == 401, 30, "the refusal")
        await page.reads("printed, with its token")
        await page.call("Page.navigate", url=served.address)
        await until(lambda: "sketch" in page.output, 60, "the endpoint's name")
        assert await page.evaluate("location.href") == f"{served.base}/"
        assert await page.evaluate("document.cookie") == "", "scripts can read the cookie"
        await until(lambda: "SIMULATED" in page.output, 30)
        assert "esc closes" not in page.output
        await page.press("?")
        await until(lambda: "esc closes" in page.output, 30, "the help")
        assert set(page.statuses.values()) <= {200, 303, 401, 101}, page.statuses

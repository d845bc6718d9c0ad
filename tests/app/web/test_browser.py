"""The dashboard in a real browser."""

from __future__ import annotations

import pytest

from tests.app.web.browser import PATIENCE_S, PROGRAM, browser
from tests.app.web.conftest import Start, needs_terminal
from tests.waiting import until

pytestmark = [needs_terminal, pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")]


@pytest.mark.timeout(400)
async def test_a_page_without_the_token_is_refused_and_with_it_is_the_dashboard(start: Start) -> None:
    served = await start()
    async with browser() as page:
        await page.open(f"{served.base}/")
        await until(lambda: page.statuses.get(f"{served.base}/") == 401, PATIENCE_S, "the refusal")
        await page.becomes("document.body.innerText.includes('printed, with its token')")
        await page.call("Page.navigate", url=served.address)
        await until(lambda: "sketch" in page.output, PATIENCE_S, "the endpoint's name")
        assert await page.evaluate("location.href") == f"{served.base}/"
        assert await page.evaluate("document.cookie") == "", "scripts can read the cookie"
        await until(lambda: "SIMULATED" in page.output, PATIENCE_S)
        assert "esc closes" not in page.output
        await page.becomes("document.activeElement.classList.contains('xterm-helper-textarea')")
        await page.press("?")
        await until(lambda: "esc closes" in page.output, PATIENCE_S, "the help")
        assert set(page.statuses.values()) <= {101, 200, 204, 303, 401}, page.statuses

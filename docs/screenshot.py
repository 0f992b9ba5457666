"""The pictures of the report in the docs: ``python docs/screenshot.py RUN docs/figures``.

RUN is a run of ``safeeraser bench --quick`` with its report. ``report.png`` is the beginning of its page,
``answers.png`` the first everyday thing that po refuses to talk about.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

REFUSED = "#set=safe&method=po&verdict=refusal+of+a+safe+picture"


def main(run: str, folder: str) -> None:
    """Open, wait, take the pictures."""
    address = (Path(run).resolve() / "report" / "index.html").as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, fragment, height in (("report", "", 1290), ("answers", REFUSED, 850)):
            page = browser.new_page(viewport={"width": 1440, "height": height}, color_scheme="light")
            page.goto(address + fragment)
            page.wait_for_selector("#detail .answer")
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder) / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

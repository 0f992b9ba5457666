"""Screenshots of the report for the docs: ``python docs/screenshot.py RUN docs/figures``.

RUN is a run of ``safeeraser bench --quick`` with its report. ``report.png`` is the beginning of its page,
``answers.png`` the first everyday thing that po refuses to talk about, ``answers-phone.png`` the same on a phone in the
dark.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

REFUSED = "#set=safe&method=po&verdict=refusal+of+a+safe+image"
SHOTS = {
    "report": ("", 1440, 1290, "light"),
    "answers": (REFUSED, 1440, 850, "light"),
    "answers-phone": (REFUSED, 390, 844, "dark"),
}
"""What is shown of the page, width and height of the window, and the scheme, by the file's name."""


def main(run: str, folder: str) -> None:
    """Open, wait, take the screenshots."""
    address = (Path(run).resolve() / "report" / "index.html").as_uri()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name, (fragment, width, height, scheme) in SHOTS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(address + fragment)
            page.wait_for_selector("#detail .answer")
            page.wait_for_timeout(300)
            page.screenshot(path=Path(folder) / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

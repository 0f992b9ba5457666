"""The picture of the response browser in README: ``python docs/screenshot.py RUN docs/figures/answers.png``.

RUN is a run of ``safeeraser bench --quick``. It shows the first everyday thing that po refuses to talk about and po+pd
does not.
"""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(run: str, picture: str) -> None:
    """Filter, choose, take the picture."""
    page_file = Path(run).resolve() / "report" / "index.html"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 850}, color_scheme="light")
        page.goto(page_file.as_uri())
        page.wait_for_selector("#list a")
        page.select_option("select[name=set]", "safe")
        page.select_option("select[name=method]", label="po seed 0")
        page.select_option("select[name=verdict]", "refusal of a safe picture")
        page.wait_for_timeout(500)  # the list follows the filters a little later
        page.locator("#list a").first.click()
        page.wait_for_timeout(300)
        page.evaluate("document.querySelector('#browser').scrollIntoView()")
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A Chromium for the tests of pages."""

import shutil

import pytest


@pytest.fixture(scope="package")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "no chromium: 'make browser' says how to get one"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()

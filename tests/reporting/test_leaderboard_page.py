"""The page in a real browser: sorts, filters, opens details, asks no host for anything.

Needs Chromium and chromedriver (`apt-get install chromium chromium-driver`) and the Python package
selenium; skipped where they are absent.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import simulated

from saebench.records import store
from saebench.reporting import leaderboard

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("chrome")
pytestmark = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="no Chromium: apt-get install chromium chromium-driver"
)
NAMES = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "x" * 300, "=cmd()", "🦄"]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.binary_location = str(BROWSER)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page")
    simulated.populate(out, 8, ("ioi", "ravel"))
    for i, name in enumerate(NAMES):
        store.save(simulated.sae(50 + i, name=name), simulated.outcomes(), out)
    leaderboard.build(out)
    return out / "leaderboard" / "index.html"


def show(browser, page: Path, width: int = 1280, dark: bool = False) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page.as_uri())


def names(browser) -> list[str]:
    return browser.execute_script(
        "return [...document.querySelectorAll('tbody.sae .name bdi')].map(e => e.textContent)"
    )


def column(browser, title: str) -> list[float]:
    return browser.execute_script(
        "return [...document.querySelectorAll(`tbody.sae td[data-label='${arguments[0]}'] .value`)]"
        ".map(e => Number(e.textContent.replace('−', '-')))",
        title,
    )


def choose(browser, key: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(browser.find_element("id", f"filter-{key}")).select_by_value(value)


def quiet(browser) -> None:
    """No console message, no dialog, no request but the page itself."""
    assert browser.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {m["params"]["request"]["url"] for m in sent if m["method"] == "Network.requestWillBeSent"}
    assert all(url.startswith(("file:", "data:")) for url in urls)
    assert len([url for url in urls if url.startswith("file:")]) == 1
    assert browser.execute_script("return typeof data.rows") == "object"


def test_it_sorts_by_mouse_and_by_keyboard(browser, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    means = column(browser, "Mean")
    known = [mean for mean in means if mean is not None]
    assert len(means) == 13 and means[: len(known)] == known == sorted(known, reverse=True)
    head = browser.find_element("css selector", "button[data-key='control']")
    head.click()
    values = column(browser, "Control")
    assert values == sorted(values, reverse=True)
    assert head.find_element("xpath", "..").get_attribute("aria-sort") == "descending"
    head.send_keys(Keys.ENTER)
    assert column(browser, "Control") == sorted(values)
    name = browser.find_element("css selector", "button[data-key='name']")
    name.click()
    assert names(browser) == sorted(names(browser), key=str.lower)
    undefined = browser.find_element("css selector", "button[data-key='occlusion']")
    for _ in range(2):
        undefined.click()
        cells = browser.find_elements("css selector", "tbody.sae td[data-label='Occlusion']")
        gone = ["undefined" in cell.text for cell in cells]
        assert any(gone) and gone == sorted(gone), "undefined stands last in either direction"
    quiet(browser)


def test_it_filters(browser, page: Path) -> None:
    show(browser, page)
    choose(browser, "task", "ravel")
    assert len(names(browser)) == 8 and not set(names(browser)) & set(NAMES)
    for trained_as in ("batchtopk", "jumprelu", "topk"):
        choose(browser, "architecture", trained_as)
        assert names(browser) and all(name.startswith(f"{trained_as}-") for name in names(browser))
    controls = browser.find_elements("css selector", "tbody.control .name")
    assert len(controls) == 4, "references stay in sight"
    browser.find_element("id", "search").send_keys("no such thing")
    assert "Nothing matches" in browser.find_element("id", "table").text
    show(browser, page)
    choose(browser, "task", "")
    assert len(names(browser)) == 21
    quiet(browser)


def test_a_detail_opens_with_its_charts_and_links(browser, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    show(browser, page)
    button = browser.find_element("css selector", "tbody.sae .name button")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-expanded") == "true"
    detail = browser.find_element("css selector", "tr.detail")
    titles = [h.text for h in detail.find_elements("tag name", "h3")]
    for title in (
        "edit success, agnostic",
        "edit success, aware",
        "weak coverage, minus:io",
        "Control",
        "Occlusion",
        "Over-splitting",
    ):
        assert title in titles
    assert len(detail.find_elements("css selector", "svg polyline")) >= 3 * 6 + 1
    for link in detail.find_elements("css selector", "dl a"):
        file = page.parent / link.get_dom_attribute("href").replace("%3D", "=").replace("%40", "@")
        assert file.is_file()
    detail.find_element("tag name", "summary").click()
    time.sleep(0.2)
    assert len(detail.find_elements("css selector", "table.numbers tbody tr")) > 50
    button.click()
    assert not browser.find_elements("css selector", "tr.detail")
    quiet(browser)


def test_hostile_names_are_shown_as_text(browser, page: Path) -> None:
    show(browser, page)
    assert set(NAMES) <= set(names(browser))
    for button in browser.find_elements("css selector", "tbody.sae .name button")[:13]:
        browser.execute_script("arguments[0].click()", button)
    assert not browser.find_elements("css selector", "main img, main script")
    quiet(browser)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_and_is_readable(browser, page: Path, width: int, dark: bool) -> None:
    show(browser, page, width, dark)
    browser.find_element("css selector", "tbody.sae .name button").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    contrast = browser.execute_script(CONTRAST)
    assert all(ratio >= 4.5 for ratio in contrast.values()), contrast
    quiet(browser)


# WCAG's contrast ratio of text colours against the page
CONTRAST = """
const parse = (c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => {
  v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
const light = (c) => { const [r, g, b] = parse(c); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = light(getComputedStyle(document.body).backgroundColor), out = {};
for (const at of ['.lead', '.ci', '.sub', '.value', '.name bdi', 'footer a', 'thead button', 'dt']) {
  const ink = light(getComputedStyle(document.querySelector(at)).color);
  out[at] = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
}
return out;
"""


def test_it_prints(browser, page: Path) -> None:
    show(browser, page)
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert len(pdf["data"]) > 20_000


@pytest.mark.slow
def test_a_sort_of_500_rows_draws_only_the_first(browser, tmp_path: Path) -> None:
    simulated.populate(tmp_path, 494, ("ioi", "ravel", "synthetic/a", "synthetic/b", "synthetic/c"))
    leaderboard.build(tmp_path)
    show(browser, tmp_path / "leaderboard" / "index.html")
    browser.execute_script("document.querySelector(\"button[data-key='control']\").click()")
    # few rows, not a fast machine, are what makes it quick
    assert 0 < browser.execute_script("return document.querySelectorAll('tbody tr').length") <= 70
    quiet(browser)

"""The report in a real browser: light and dark, wide and narrow, no errors, no requests."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gate.example_run import write_run
from tests.report.test_page import PAYLOADS, poison, write_models

from sftprep.gate import judge
from sftprep.recipe import load_recipe
from sftprep.report import render_report

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("browser") / "run", steps=200)
    write_models(run)
    judge(load_recipe(run.recipe).recipe, run)
    poison(run, "".join(PAYLOADS))
    return render_report(run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_report_opens_without_errors_dialogs_or_requests(
    browser: Any, report: Path, scheme: str, width: int
) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 800}, offline=True
    )
    page = context.new_page()
    noise: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(dialog.message))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert noise == []
    assert requests == [report.as_uri()]
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) <= 0
    context.close()


CONTRAST = """
() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => { const [r, g, b] = parse(c).slice(0, 3).map(v => {
    v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor; const p = parse(c);
    if (p.length < 4 || p[3] > 0.99) return c; } return 'rgb(255, 255, 255)'; };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || e.closest('svg')) continue;
    const a = light(getComputedStyle(e).color), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2));
  }
  return [...new Set(bad)];
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(
    browser: Any, report: Path, scheme: str
) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.evaluate(CONTRAST) == []
    context.close()


def test_the_keyboard_reaches_the_sections_and_opens_what_is_folded(
    browser: Any, report: Path
) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the sections"
    folded = page.locator("details > summary", has_text="Numbers behind the curves")
    folded.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("region", name="Numbers behind the curves").is_visible()
    page.get_by_role("link", name="Benchmarks", exact=True).press("Enter")
    assert page.evaluate("location.hash") == "#benchmarks"
    top = page.locator("#benchmarks h2").bounding_box()["y"]
    assert 40 <= top <= 200  # below the bar that stays at the top
    page.close()


UNNAMED = """
() => [
  ...[...document.querySelectorAll('svg')].filter(e => e.getAttribute('role') !== 'img'
    || !e.getAttribute('aria-label')).map(e => 'svg without a name'),
  ...[...document.querySelectorAll('thead th')].filter(e => e.scope !== 'col')
    .map(e => 'th without scope: ' + e.textContent),
  ...[...document.querySelectorAll('[role=region], nav, article')]
    .filter(e => !e.getAttribute('aria-label')).map(e => e.tagName + ' without a name'),
  ...[...document.querySelectorAll('main > section')].filter(e => !e.querySelector('h2'))
    .map(e => 'section without a heading: ' + e.id),
  ...[...document.querySelectorAll('th')].filter(e => !e.textContent.trim())
    .map(e => 'empty heading in ' + e.closest('section').id),
  ...[...document.querySelectorAll('[role=region]')].map(e => e.getAttribute('aria-label'))
    .filter((name, place, all) => all.indexOf(name) !== place).map(name => 'two regions: ' + name),
  ...[...document.querySelectorAll('section')].filter(e => e.querySelector('svg')
    && !e.querySelector('table')).map(e => 'plot without a table: ' + e.id),
]
"""


def test_a_screen_reader_finds_names_scopes_headings_and_tables_behind_plots(
    browser: Any, report: Path
) -> None:
    page = browser.new_page()
    page.goto(report.as_uri())
    assert page.evaluate(UNNAMED) == []
    assert page.evaluate("document.documentElement.lang") == "en"
    page.close()


UNREACHED = """
() => [...document.querySelectorAll('body *')].filter(e => {
  const style = getComputedStyle(e);
  const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY)
    && (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight);
  return scrolls && e.tabIndex < 0 && !e.querySelector('a, button, summary, [tabindex]');
}).map(e => e.tagName + '.' + e.className)
"""


def test_whatever_scrolls_on_a_telephone_can_be_reached_with_the_keyboard(
    browser: Any, report: Path
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.locator(".plot").count() >= 4
    assert page.evaluate(UNREACHED) == []
    page.close()


def test_on_paper_the_verdict_and_the_lines_to_sign_are_there_and_the_bar_is_not(
    browser: Any, report: Path
) -> None:
    page = browser.new_page(color_scheme="dark")
    page.emulate_media(media="print")
    page.goto(report.as_uri())
    assert page.get_by_label("Verdict").is_visible()
    assert page.get_by_role("heading", name="Sign-off").is_visible()
    assert page.locator(".strip").is_hidden()
    assert page.locator("rect.bar").first.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) == []
    page.close()

"""leaderboard.html in a browser: it sorts, filters, fits a phone, and asks nobody for anything."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_cells import failure, results

from ultrabench_eval.cells import Cells
from ultrabench_eval.report import write

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: the machine's own, else playwright's."""
    playwright = pytest.importorskip(
        "playwright.sync_api",
        reason="needs playwright; install it with pip install 'ultrabench-eval[browser]'",
    )
    with playwright.sync_playwright() as driver:
        found = next(filter(None, map(shutil.which, _NAMES)), None)
        found = found or driver.chromium.executable_path
        if not Path(found).is_file():
            pytest.skip("needs Chromium; install it with `playwright install chromium`")
        opened = driver.chromium.launch(executable_path=found)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with much in it: protocols, conditions, a failure, a long name, eight tasks."""
    cells = Cells(tmp_path_factory.mktemp("run"))
    results(
        cells,
        models=("good", "fair", "pixels", f"timm/vit_{'very_' * 12}large"),
        tasks=("aul", "busbra", "gbcu", "mmotu", "fatty_liver", "pocus", "tn5000", "butterfly"),
        protocols=("paper-1", "tuned-2"),
        fractions=(10,),
        synthetic=True,
    )
    cells.fail(failure("broken", "aul", "a reason " * 40))
    write.write(cells)
    return cells.out / "leaderboard.html"


class Watch:
    """What a page asked for and complained of."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.errors.append(message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[tuple[Page, Watch]]:
    page = browser.new_page(viewport=DESK)
    watch = Watch(page)
    page.goto(file.as_uri())
    yield page, watch
    assert [url for url in watch.requests if not url.startswith("data:")] == [file.as_uri()]
    assert watch.errors == []
    page.close()


BOARD = ".board:not([hidden])"


def rows(page: Page, column: int) -> list[str]:
    """Texts of a column of the table that is shown, without hidden rows."""
    found: list[str] = page.eval_on_selector_all(
        f"{BOARD} tbody tr:not([hidden])",
        f"rows => rows.map(row => row.cells[{column}].innerText.trim())",
    )
    return found


def head(page: Page, text: str) -> Any:
    return page.locator(f"{BOARD} thead th").filter(has_text=text)


def test_a_click_sorts_falling_then_rising_then_as_it_was(opened: tuple[Page, Watch]) -> None:
    page, _ = opened
    first = rows(page, 0)
    column = head(page, "aul")
    place = column.evaluate("th => th.cellIndex")

    def numbers() -> list[float]:
        return [float(text.split()[0]) for text in rows(page, place) if text != "error"]

    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    assert rows(page, place)[-1] == "error"  # a hole stands last
    column.get_by_role("button").press("Enter")  # by keyboard as well
    assert column.get_attribute("aria-sort") == "ascending"
    assert numbers() == sorted(numbers())
    assert rows(page, place)[-1] == "error"
    column.get_by_role("button").click()
    assert column.get_attribute("aria-sort") is None
    assert rows(page, 0) == first


def test_names_sort_rising_first_and_only_one_column_is_sorted(
    opened: tuple[Page, Watch],
) -> None:
    page, _ = opened
    head(page, "busbra").get_by_role("button").click()
    head(page, "model").get_by_role("button").click()
    names = rows(page, 0)
    assert names == sorted(names)
    assert page.locator(f"{BOARD} [aria-sort]").count() == 1


def test_models_are_filtered_by_parts_of_their_names(opened: tuple[Page, Watch]) -> None:
    page, _ = opened
    page.get_by_role("searchbox", name="Models").fill("GOO, timm")
    assert sorted(text.split()[0][:4] for text in rows(page, 0)) == ["good", "timm"]
    assert "2 of 5 models" in page.locator("#status").inner_text()
    page.get_by_role("searchbox", name="Models").fill("")
    page.get_by_label("show floors").uncheck()
    assert not [text for text in rows(page, 0) if "floor" in text]


def test_tasks_are_filtered_in_tables_and_cards(opened: tuple[Page, Watch]) -> None:
    page, _ = opened
    page.get_by_role("checkbox", name="mmotu").uncheck()
    assert page.locator(f"{BOARD} thead th:visible").filter(has_text="mmotu").count() == 0
    assert page.locator("article:visible").count() == 7
    shown = page.eval_on_selector_all(
        f"{BOARD} tbody tr",
        "rows => rows.map(row => [...row.cells].filter(cell => !cell.hidden).length)",
    )
    assert len(set(shown)) == 1
    page.get_by_role("checkbox", name="mmotu").check()
    assert page.locator("article:visible").count() == 8


def test_one_condition_of_one_protocol_is_shown_at_a_time(opened: tuple[Page, Watch]) -> None:
    page, _ = opened
    assert page.locator(BOARD).count() == 1
    page.get_by_label("Condition").select_option(
        label="10 % of the training images, clean test images"
    )
    page.get_by_label("Probe and protocol").select_option(label="linear probe, protocol tuned-2")
    (title,) = page.locator(f"{BOARD} h3").all_inner_texts()
    assert title.startswith("linear probe, protocol tuned-2: 10 % of the training images")
    assert page.locator("#ranks [data-probing]:visible").count() == 2  # table and diagram


def test_a_phone_scrolls_tables_and_not_the_page(browser: Any, file: Path) -> None:
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport=PHONE, color_scheme=scheme)
        page.goto(file.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]
        box = page.locator(f"{BOARD} .box")
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        page.close()


def test_without_script_everything_is_there(browser: Any, file: Path) -> None:
    context = browser.new_context(java_script_enabled=False, viewport=DESK)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator(".board:visible").count() == 2 * 2
    assert page.locator("form:visible").count() == 0
    context.close()


def test_what_is_folded_is_printed(opened: tuple[Page, Watch]) -> None:
    page, _ = opened
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    page.emulate_media(media="print")
    assert page.locator("form:visible").count() == 0
    assert page.locator("nav:visible").count() == 0
    assert page.locator(f"{BOARD} table").is_visible()


def test_the_page_can_be_used_by_those_who_do_not_see_it(opened: tuple[Page, Watch]) -> None:
    page, _ = opened
    for table in page.locator("table").all():
        assert table.locator("th:not([scope])").count() == 0
    assert page.locator("svg:not([aria-label])").count() == 0
    assert page.locator("img:not([alt])").count() == 0
    assert page.locator("#controls input, #controls select").count() > 3
    unnamed = page.eval_on_selector_all(
        "#controls input, #controls select", "all => all.filter(one => !one.labels.length).length"
    )
    assert unnamed == 0
    # Boxes that scroll can be reached and scrolled by keyboard.
    assert page.locator(".box:not([tabindex]), .box:not([aria-label])").count() == 0

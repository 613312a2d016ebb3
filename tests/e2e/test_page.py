"""The operator page in a real browser; conftest.py serves it over a small synthetic cell."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from controller.core.commands import Acknowledge, Answer, Start, Transition
from controller.core.frame import PromptView
from controller.core.states import State, Verb
from controller.web import vendor
from drivers.tags import Quality

pytestmark = pytest.mark.browser


def verb(page: Page, name: str) -> Any:
    return page.get_by_role("group", name="Batch").get_by_role("button", name=name, exact=True)


def test_shows_live_values_of_every_unit(page: Page, served: Any) -> None:
    expect(page.locator("[data-test=mode]")).to_have_text("SIMULATED ×60")
    expect(page.locator("[data-test=link]")).to_contain_text("Link up · scan 1.7 ms")
    expect(page.locator("g.unit")).to_have_count(8)
    expect(page.locator("[data-point='TT-301'] .number")).to_contain_text("°C")
    expect(page.locator("[data-test=purity]")).to_contain_text("99.41")
    shown = page.locator("[data-point='AT-202'] .number").text_content() or ""
    expect(page.locator("[data-point='AT-202'] .number")).not_to_have_text(shown)  # it follows the plant
    assert abs(float(shown.split()[0]) - 512.0) <= 21.0


def test_bad_and_uncertain_are_marked_and_never_shown_as_a_number(page: Page, served: Any) -> None:
    served.plant.quality = {"AT-301": Quality.BAD, "TT-301": Quality.UNCERTAIN}
    bad = page.locator("[data-point='AT-301']")
    expect(bad).to_have_attribute("data-quality", "2")
    expect(bad.locator(".number")).to_have_text("— BAD")
    expect(page.locator("[data-point='TT-301'] .number")).to_contain_text("?")
    served.plant.quality = {}
    expect(bad.locator(".number")).to_contain_text("4.")


def test_echoes_a_command_within_a_second(page: Page, served: Any) -> None:
    verb(page, "HOLD").click()
    expect(page.locator("[data-test=echo]")).to_contain_text("HOLD: accepted", timeout=1000)
    expect(page.locator("[data-test=batch-state]")).to_have_text("HELD", timeout=1000)
    assert served.plant.got == [Transition(who="operator", verb=Verb.HOLD)]


def test_echoes_a_refusal_with_its_reason(page: Page, served: Any) -> None:
    served.plant.refuse = "T-201 is locked by maintenance"
    verb(page, "PAUSE").click()
    expect(page.locator("[data-test=echo]")).to_have_text("✕ PAUSE: refused: T-201 is locked by maintenance", timeout=1000)


def test_an_invalid_command_says_why_and_is_not_sent(page: Page, served: Any) -> None:
    restart = verb(page, "RESTART")
    expect(restart).to_have_attribute("aria-disabled", "true")
    why = "RESTART is valid from HELD; the batch is RUNNING"
    expect(restart).to_have_attribute("title", why)
    expect(restart).to_have_attribute("aria-description", why)
    restart.focus()
    assert why in page.evaluate("getComputedStyle(document.activeElement, '::after').content")
    page.keyboard.press("Enter")
    expect(page.locator("[data-test=echo]")).to_contain_text(why)
    assert served.plant.got == []


def test_stop_asks_first(page: Page, served: Any) -> None:
    verb(page, "STOP").click()
    page.get_by_role("button", name="No, keep it").click()
    verb(page, "STOP").click()
    page.get_by_label("Reason").fill("leak at the press")
    page.get_by_role("button", name="Yes, STOP").click()
    expect(page.locator("[data-test=batch-state]")).to_have_text("STOPPED")
    assert served.plant.got == [Transition(who="operator", why="leak at the press", verb=Verb.STOP)]


def test_says_within_3_s_that_control_is_silent_and_refuses_commands(page: Page, served: Any) -> None:
    served.plant.mute = True
    muted = time.monotonic()
    expect(page.locator("[data-test=stale]")).to_contain_text("NO DATA", timeout=4500)
    # the newest frame may have been up to a pace older than the moment control fell silent
    assert 2.5 <= time.monotonic() - muted <= 4.0
    expect(page.locator("[data-test=main]")).to_have_class("at-overview stale")
    verb(page, "HOLD").click(force=True)  # it is marked as disabled; people press it all the same
    expect(page.locator("[data-test=echo]")).to_contain_text("no data for")
    served.plant.mute = False
    expect(page.locator("[data-test=stale]")).to_have_count(0)
    assert served.plant.got == []  # refused, not queued


def test_connects_again_by_itself(page: Page, served: Any) -> None:
    served.stop()
    expect(page.locator("[data-test=link]")).to_contain_text("Link lost", timeout=3000)
    expect(page.locator("[data-test=stale]")).to_contain_text("NO DATA", timeout=4500)
    served.start()
    expect(page.locator("[data-test=stale]")).to_have_count(0, timeout=10_000)
    expect(page.locator("[data-test=link]")).to_contain_text("Link up")


def test_prompts_are_answered_by_number_and_by_yes(page: Page, served: Any) -> None:
    served.plant.prompts = (
        PromptView("leach/sample", "leach/sample", "Weigh the wet cake", "operator", "number", "kg", served.plant.now),
        PromptView("dry/valve", "dry/valve", "Is the discharge valve closed?", "operator", "confirm", "", served.plant.now),
    )
    question = page.locator("[data-prompt='leach/sample']")
    question.get_by_role("textbox").fill("much")
    expect(question.get_by_role("button", name="Answer")).to_have_attribute("aria-disabled", "true")
    question.get_by_role("textbox").fill("412.5")
    question.get_by_role("button", name="Answer").click()
    expect(question).to_have_count(0)
    page.locator("[data-prompt='dry/valve']").get_by_role("button", name="Yes").click()
    expect(page.locator(".prompt")).to_have_count(0)
    assert [(one.prompt, one.value) for one in served.plant.got if isinstance(one, Answer)] == [
        ("leach/sample", 412.5),
        ("dry/valve", True),
    ]


def test_start_form_refuses_what_is_out_of_range(page: Page, served: Any) -> None:
    served.plant.state, served.plant.has_batch = State.IDLE, False
    expect(page.locator("[data-test=batch-state]")).to_have_text("IDLE")
    verb(page, "START").click()
    form = page.get_by_role("dialog", name="Start a batch")
    charge = form.locator("[data-parameter=charge]")
    charge.fill("901")
    expect(form).to_contain_text("outside 50 to 900 kg")
    expect(charge).to_have_attribute("aria-invalid", "true")
    go = form.get_by_role("button", name="START")
    expect(go).to_have_attribute("aria-disabled", "true")
    charge.press("Enter")
    assert served.plant.got == []
    charge.fill("450")
    form.get_by_label("Black-mass lot").fill("L-77")
    page.locator("[data-test=user]").fill("Ada")
    go.click()
    expect(page.locator("[data-test=echo]")).to_contain_text("accepted")
    expect(form).to_have_count(0)
    parameters = {"charge": "450 kg", "leach_temperature": "70 degC", "ph_end": "11 pH"}
    assert served.plant.got == [Start(who="Ada", recipe="nmc", parameters=parameters, lot="L-77")]


def test_the_highest_alarm_is_acknowledged_from_the_banner(page: Page, served: Any) -> None:
    banner = page.locator("[data-test=top-alarm]")
    expect(banner).to_contain_text("TAH-201")
    banner.get_by_role("button", name="Acknowledge TAH-201").click()
    expect(banner).to_have_text("No unacknowledged alarm")
    page.get_by_role("link", name="Alarms").click()
    expect(page.locator("[data-alarm=TAH-201]")).to_contain_text("lower the peroxide rate")
    assert served.plant.got == [Acknowledge(who="operator", alarm="TAH-201")]


def test_a_unit_opens_with_the_keyboard_and_shows_its_loops(page: Page, served: Any) -> None:
    page.locator("[data-unit='T-201']").focus()
    page.keyboard.press("Enter")
    unit = page.get_by_role("dialog", name="T-201")
    expect(unit).to_contain_text("TIC-201")
    expect(unit.get_by_role("button", name="Set TIC-201 SP")).to_have_attribute("title", "SP is set by hand in AUTO only; TIC-201 is in REMOTE")
    page.keyboard.press("Escape")
    expect(unit).to_have_count(0)


@pytest.mark.parametrize(
    ("panel", "opened"),
    [
        ("[role=dialog]", lambda page: page.locator("[data-unit='T-201']").press("Enter")),
        ("[role=alertdialog] input", lambda page: verb(page, "STOP").click()),
    ],
    ids=["unit", "question"],
)
def test_a_panel_has_the_keyboard_as_soon_as_it_is_there(page: Page, panel: str, opened: Callable[[Page], None]) -> None:
    """Escape, pressed at once, is for the panel and not for what is behind it."""
    page.evaluate(
        """(panel) => new MutationObserver(() => {
          const found = document.querySelector(panel);
          if (found) window.focused ??= document.activeElement === found ? "the panel" : "what is behind it";
        }).observe(document.body, { childList: true, subtree: true })""",
        panel,
    )
    opened(page)
    assert page.wait_for_function("() => window.focused").json_value() == "the panel"


def test_the_trend_draws_history_and_every_new_frame(page: Page, served: Any) -> None:
    page.get_by_role("link", name="Trends").click()
    expect(page.locator(".plot canvas")).to_be_visible()
    expect(page.locator("[data-trace='TT-201']")).to_be_visible()
    expect(page.locator(".plot .note")).to_have_count(0)
    page.get_by_label("Add a point").select_option("TIC-201.SP")
    expect(page.locator("[data-trace='TIC-201.SP']")).to_contain_text("70")
    page.get_by_role("button", name="Batch", exact=True).click()
    expect(page.locator(".plot .note")).to_have_count(0)


def test_the_device_list_says_what_has_gone_wrong_by_kind(page: Page, served: Any) -> None:
    page.evaluate("location.hash = 'devices'")
    expect(page.locator("[data-device=leach] .errors")).to_have_text("3 timeout, 1 lost")
    expect(page.locator("[data-device=reactor] .errors")).to_have_text("—")
    expect(page.locator("[data-device=reactor] [data-test=texts]")).to_have_text("serial R-17 · version 2.4 · its clock is 3600.2 s behind")
    expect(page.locator("[data-device=leach] [data-test=texts]")).to_have_count(0)


# what a finger would miss, or what is cut off
SMALL = """[...document.querySelectorAll('button, .tabs a, select')]
    .map(one => [one.textContent, one.getBoundingClientRect()])
    .filter(([, box]) => box.height < 44 || box.width < 44 || box.right > innerWidth)
    .map(([text, box]) => `${text} ${box.width}x${box.height}`)"""
TABS = ["overview", "batch", "trends", "alarms", "devices"]


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_fits_the_screen_and_every_button_takes_a_finger(page: Page, served: Any, width: int, height: int) -> None:
    shots = os.environ.get("BLACKMASS_SCREENSHOTS")  # a folder to look at, for people
    page.set_viewport_size({"width": width, "height": height})
    for tab in TABS:
        page.evaluate(f"location.hash = '{tab}'")
        expect(page.locator(f"main.at-{tab}")).to_be_visible()
        expect(page.locator(".plot .note")).to_have_count(0)
        size = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert size == [width, height], f"{tab} needs scrolling"
        small = page.evaluate(SMALL)
        assert small == [], f"{tab}: too small for a finger, or outside"
        if shots:
            page.screenshot(path=f"{shots}/{tab}-{width}.png")


def test_types_of_the_page_hold() -> None:
    web = Path(vendor.__file__).parent
    compiler = web / "node_modules" / "typescript" / "bin" / "tsc"
    node = shutil.which("node") or ""
    if not node or not compiler.is_file():
        why = f"the type checker is not installed; run {vendor.COMMAND} --dev (needs Node.js; Debian: apt install nodejs npm)"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)
    done = subprocess.run([node, str(compiler), "--project", str(web / "tsconfig.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

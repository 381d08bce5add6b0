"""The report of many views: a bounded number in full, all of them in the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fake_workspace import DOUBTFUL_EVERY, make_fake_workspace
from recorded_executor import RecordedExecutor

from refdepth.pipeline.report import write_report
from refdepth.pipeline.report.advice import advise
from refdepth.pipeline.report.charts import course, histogram
from refdepth.pipeline.report.facts import ViewFacts
from refdepth.pipeline.report.many import IN_FULL, WORST, shown_in_full
from refdepth.pipeline.report.overview import draw_overview
from refdepth.pipeline.results import Results
from refdepth.pipeline.workspace import Workspace

VIEWS = 150


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_fake_workspace(tmp_path_factory.mktemp("many"), VIEWS)


@pytest.fixture(scope="module")
def drawn(many: Workspace) -> tuple[str, list[str]]:
    """The page, and the views that were drawn for it."""
    executor = RecordedExecutor()
    page = write_report(many, executor).read_text()
    return page, [name for _, name in executor.done]


def fact(*, share: float | None = None, flags: tuple[str, ...] = (), error: float = 0) -> ViewFacts:
    record = {} if share is None else {"accepted_share": share}
    return ViewFacts(fit={"flags": flags, "residual_quantiles": {"0.5": error}}, record=record)


def test_so_many_views_are_drawn_and_no_more(drawn: tuple[str, list[str]]) -> None:
    page, names = drawn
    assert len(names) == len(set(names)) == IN_FULL < VIEWS
    assert page.count('<details class="view">') == IN_FULL
    assert page.count("<img ") == 7 * IN_FULL


def test_the_table_has_a_row_for_every_view_and_links_to_those_in_full(
    drawn: tuple[str, list[str]],
) -> None:
    page, names = drawn
    rows = re.findall(r"<tr><td>(\d+)<td>(.*?)<td>", page)
    assert [int(number) for number, _ in rows] == list(range(1, VIEWS + 1))
    links = {re.sub("<.*?>", "", name): name for _, name in rows if "<a " in name}
    assert set(links) == set(names)
    targets = [re.search(r'href="#(.*?)"', link)[1] for link in links.values()]  # type: ignore[index]
    assert all(f'<div class="inside" id="{target}">' in page for target in targets)
    assert len(re.findall('<details class="block">', page)) == 2


def test_views_that_stand_out_are_among_those_in_full(drawn: tuple[str, list[str]]) -> None:
    page, names = drawn
    flagged = [f"IMG_{n:05d}.jpg" for n in range(DOUBTFUL_EVERY - 1, VIEWS, DOUBTFUL_EVERY)]
    assert set(flagged) <= set(names[:WORST])
    assert f"The {WORST} that stand out most" in page
    assert f"Of {VIEWS} views" in page


def test_the_page_grows_by_a_line_a_view(drawn: tuple[str, list[str]]) -> None:
    page, _ = drawn
    assert max(map(len, re.findall(r"<tr><td>\d+<td>.*\n", page))) < 250
    assert len(page[page.index("Views in full") :]) < 40_000 * IN_FULL, "pictures are small here"


def test_of_many_cameras_the_map_has_a_dot_each(
    many: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("refdepth.pipeline.report.overview._MAX_CAMERAS", VIEWS - 1)
    scene, doubtful = Results(many).scene, ["IMG_00003.jpg"]
    overview = draw_overview(scene, scene.points.xyz, scene.points.rgb, doubtful=doubtful)
    assert overview is not None
    assert overview.cameras == ()
    assert (overview.dots.count("M"), overview.doubtful_dots.count("M")) == (VIEWS - 1, 1)


def test_few_views_are_all_in_full_without_a_table(tmp_path: Path) -> None:
    page = write_report(make_fake_workspace(tmp_path, 3)).read_text()
    assert page.count('<details class="view">') == 3
    assert 'class="block"' not in page
    assert "stand out" not in page


def test_flags_count_before_acceptance_and_that_before_the_priors_error() -> None:
    facts = {f"plain {n}": fact(share=0.9) for n in range(IN_FULL)}
    facts |= {
        "unjudged": fact(error=0.4),
        "poor": fact(share=0.2, error=0.1),
        "poorer": fact(share=0.2, error=0.3),
        "flagged": fact(share=0.95, flags=("few_points",)),
    }
    worst, others = shown_in_full(facts)
    assert worst[:3] == ("flagged", "poorer", "poor")
    assert len(worst) + len(others) == IN_FULL
    assert not set(worst) & set(others)
    assert {"unjudged"} <= set(others), "the last of the others is in an even sample"


def test_distributions_count_every_view() -> None:
    chart = histogram([10, 10, 90, None, float("nan")], x_label="%", low=0, high=100, bins=10)
    assert chart is not None
    heights = [float(top) for top in re.findall(r"V([\d.]+)H", chart)]
    floor = float(re.findall(r"V([\d.]+)Z", chart)[0])
    assert (floor - heights[0]) == pytest.approx(2 * (floor - heights[1]), abs=0.2)
    assert histogram([None], x_label="%") is None
    points = course([50.0, None, 70.0], [False, False, True], y_label="%")
    assert points is not None
    assert (points.count("small inlier"), points.count("small outlier")) == (1, 1)
    assert course([None], [False], y_label="%") is None


def test_what_is_said_of_many_photos_is_said_once() -> None:
    warnings = [f"{n}.jpg: the mask is of another size" for n in range(1000)]
    several = [f"{n}.jpg: {n} pixels were black" for n in range(1000)]
    advice = advise({"prepare": {"warnings": ["no: one", *warnings, *several]}}, {}, {})
    assert [item.what for item in advice[:3]] == [
        "prepare: no: one",
        "prepare: the mask is of another size",
        "prepare: 0.jpg: 0 pixels were black",
    ]
    assert advice[1].names == tuple(f"{n}.jpg" for n in range(1000))
    assert len(advice) == 41
    assert advice[-1].what == "prepare: 962 more of these; all are in prepare/manifest.json."

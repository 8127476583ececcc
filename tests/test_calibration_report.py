"""The report of a calibration: what its verdict says of what was solved, and a page that stands alone."""

import math
import re
from html.parser import HTMLParser

import msgspec
import numpy as np
import pytest

from calibration.bump import bump_of
from calibration.guide import patches_of
from calibration.report import coverage_of, page, stage_of
from calibration.report_plots import WITHIN_95, ellipse_m, off_m, round_factor
from calibration.session import Matches, View
from calibration.solve import Options, solve
from calibration.solved import (
    PoseSigma,
    Residuals,
    Samples,
    Solved,
    SolvedLens,
    SolvedRig,
    SolvedSurface,
    SolvedTile,
    SolvedView,
    save_solved,
)
from calibration.verdict import Coverage, verdict_of
from calibration.virtual_stage import photographed, virtual_stage
from ledvolume.cli import main
from ledvolume.lens import Lens
from ledvolume.pose import Pose
from ledvolume.stage import Surface, facing, surface_points

WALL = Surface("wall", facing(0.0, (0.0, 5.0, 2.0)), (6.0, 3.0), (600, 300))
CEILING = Surface("ceiling", Pose((0.0, 1.0, 0.0, 0.0), (0.0, 3.0, 4.0)), (6.0, 2.0), (600, 200))  # seen from below
ROUND = ((1.0, 0.0, 0.0), (0.0, 4.0, 0.0), (0.0, 0.0, 9.0))  # mm²: sigmas of 1, 2 and 3 mm


def solved_surface(surface=WALL, sigma_mm=0.5, worst_mm=0.9, moved=(2.0, 6.0), tiles=None) -> SolvedSurface:
    led = np.array([[1.0, 1.0]])
    samples = Samples(led, surface_points(surface, *led.T), np.eye(3)[None] * sigma_mm**2 / 3, np.array([sigma_mm]))
    tiles = tiles or (SolvedTile(f"{surface.name}-0-0", 900, 9, 40.0, sigma_mm),)
    return SolvedSurface(surface, sigma_mm, worst_mm, 0.2, 0.8, moved, samples, tiles)


def solved_view(name="view-01", eye=(0.0, 0.0, 1.6), held_out=False, rms_px=0.2, rejected=0, surfaces=(WALL,), matches=300):
    residuals = tuple(
        Residuals(s.name, np.array([[300.0, 150.0]]), np.array([[0.1, 0.2]]), np.array([[0.4, 0.8]]), np.array([False]))
        for s in surfaces
    )
    return SolvedView(name, "A", "0", Pose(position_m=eye), ROUND, (0.01, 0.01, 0.01), held_out, matches, rejected,
                      rms_px, rms_px, 3 * rms_px, 0.5, residuals, 0.3, 0.01)  # fmt: skip


def solved(surfaces=None, views=None, **instead) -> Solved:
    eyes = [(x, y, z) for x in (-2.0, 0.0, 2.0) for y in (-1.0, 1.0) for z in (1.2, 2.0)]
    views = views or tuple(solved_view(f"view-{i:02d}", eye) for i, eye in enumerate(eyes)) + (
        solved_view("held", held_out=True),
    )
    lens = SolvedLens("0", Lens(35.0, (24.0, 16.0), entrance_pupil_m=0.08), None, None, 0.01, (0.02, 0.03), 0.5, 0.1)
    rig = SolvedRig(
        "A", Pose(position_m=(1.0, 2.0, 3.0)), Pose(), (lens,), PoseSigma((0.5, 0.5, 0.5), (0.01, 0.01, 0.01)), None, 0.4, 0.02
    )
    facts = dict(
        ledvolume_solved=1, show="Stage <2>", gauge="the tracker", solved=("wall: panels",), held=("distortion",),
        surfaces=surfaces or (solved_surface(),), rigs=(rig,), views=views, matches=4000, rejected=12, rms_px=0.2, rms_mm=0.8,
        sigma_scale=1.1, unknowns=120, iterations=9, seconds=1.5,
    )  # fmt: skip
    return Solved(**(facts | instead))


def well_seen(surface=WALL, times=6.0, parallax_deg=30.0) -> Coverage:
    [patches] = [p for p in patches_of(stage_of(solved((solved_surface(surface),)))) if p.surface == surface]
    shape = patches.middles_m.shape[:2]
    return Coverage(np.full(shape, times), np.full(shape, parallax_deg), patches.middles_m)


def test_a_good_calibration_is_good_to_what_holds_for_95_of_100_leds():
    """A sigma of 0.5 mm, as the root of the trace of three equal variances: sqrt(7.815 / 3) · 0.5 mm = 0.807 mm."""
    verdict = verdict_of(solved(), {"wall": well_seen()})
    assert verdict.is_good and verdict.words == "good to 0.8 mm" and not verdict.more
    assert verdict.good_to_mm == pytest.approx(math.sqrt(7.815 / 3) * 0.5, rel=1e-3)


def test_a_surface_that_is_seen_from_too_few_places_is_named_with_the_side_to_add():
    """All eyes right of the ceiling's middle; it was seen from one place, and three are wanted."""
    surfaces = (solved_surface(sigma_mm=0.7), solved_surface(CEILING, sigma_mm=0.74))
    coverage = {"wall": well_seen(), "ceiling": well_seen(CEILING, times=1.0)}
    verdict = verdict_of(solved(surfaces), coverage, eyes_m=[(1.0, 0.0, 1.6), (2.0, 0.0, 1.6)])
    assert verdict.words == "good to 1.2 mm; ceiling is seen from too few places: add two views from camera left"


def test_a_surface_that_nobody_has_seen_and_one_without_parallax_are_told_apart():
    unseen = verdict_of(solved(), {"wall": well_seen(times=0.0, parallax_deg=0.0)})
    assert unseen.words == "not complete: wall was not seen: take views of it" and not unseen.is_good
    flat = verdict_of(solved(), {"wall": well_seen(parallax_deg=4.0)})
    assert "wall is seen under 4° only: add two views" in flat.words


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (dict(sigma_scale=5.0), "fit 5.0 times worse than they were measured"),
        (dict(rejected=1000), "20% of what was found in the pictures does not fit"),
        (
            dict(views=(*(solved_view(f"v{i}", (i, 0, 1)) for i in range(8)), solved_view("h", held_out=True, rms_px=0.9))),
            "held out",
        ),
    ],
    ids=["model", "rejected", "held out"],
)
def test_what_no_sigma_knows_of_is_not_to_be_trusted(facts, told):
    verdict = verdict_of(solved(**facts), {"wall": well_seen()})
    assert not verdict.is_good and verdict.words.startswith("not to be trusted") and told in verdict.words


@pytest.mark.parametrize(
    ("surface", "told"),
    [
        (solved_surface(sigma_mm=3.0), "usable, good to 4.8 mm"),
        (solved_surface(sigma_mm=30.0), "known to 48 mm only"),
        (solved_surface(worst_mm=9.0), "the worst part of wall is known to 15 mm only"),
        (solved_surface(moved=(200.0, 800.0)), "wall is up to 800 mm from where the show has it"),
        (
            solved_surface(tiles=(SolvedTile("wall-0-0", 9, 9, 40.0, 0.5), SolvedTile("wall-1-0", 0, 0, 0.0, 0.5))),
            "tile wall-1-0 of wall was not seen",
        ),
    ],
    ids=["usable", "useless", "worst", "moved", "tile"],
)
def test_what_is_weak_is_said(surface, told):
    verdict = verdict_of(solved((surface,)), {"wall": well_seen()})
    assert told in " ".join((verdict.words, *verdict.more))
    assert verdict.is_good == (told != "known to 48 mm only")


def test_few_views_and_nothing_held_out_is_said():
    verdict = verdict_of(solved(views=tuple(solved_view(f"v{i}", (i, 0, 1)) for i in range(4))), {"wall": well_seen()})
    assert "4 views were solved" in " ".join((verdict.words, *verdict.more)) and "no view was held out" in " ".join(verdict.more)


def test_a_residual_lies_where_the_led_is_and_points_along_the_wall():
    """A wall that is looked at along +Y: columns go along +x, rows down. 0.4 mm along columns, 0.8 mm along rows."""
    [residuals] = solved_view().residuals
    at, off = off_m(WALL, residuals)
    assert at[0] == pytest.approx((0.0, 5.0, 2.0), abs=1e-9)
    assert off[0] == pytest.approx((0.0004, 0.0, -0.0008), abs=1e-12)


def test_an_ellipse_holds_95_of_100():
    """Sigmas of 1 and 3 mm along x and z: the ring reaches 2.448 of each; and a turned one keeps its axes."""
    ring = ellipse_m(ROUND, 0, 2)
    assert np.abs(ring).max(0) == pytest.approx((WITHIN_95 * 1e-3, WITHIN_95 * 3e-3), rel=2e-3)
    points = np.random.default_rng(0).multivariate_normal((0, 0), [[5e-6, 4e-6], [4e-6, 5e-6]], 20000)
    ring = ellipse_m([[5.0, 4.0, 0.0], [4.0, 5.0, 0.0], [0.0, 0.0, 1.0]], 0, 1)
    long_axis = ring[np.linalg.norm(ring, axis=1).argmax()]
    assert abs(long_axis[0] - long_axis[1]) < 0.05 * abs(long_axis[0])  # along x = y
    turned = points @ np.linalg.inv(np.linalg.cholesky([[5e-6, 4e-6], [4e-6, 5e-6]])).T
    assert (np.linalg.norm(turned, axis=1) < WITHIN_95).mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(("wanted", "typical", "factor"), [(0.35, 0.0008, 200), (0.35, 0.1, 2), (0.3, 5.0, 1), (0.3, 0.0, 1)])
def test_what_is_small_is_drawn_larger_by_a_round_factor(wanted, typical, factor):
    assert round_factor(wanted, typical) == factor


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "data", "action", "srcset")]


def test_the_page_stands_alone_and_escapes_what_files_say():
    views = [View("view-00", (1920, 1080), (), thrown_away={"too near to <the border>": 41})]
    text = page(solved(), views)
    found = Tags(text)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    assert len(found.addresses) == 3 and all(a.startswith("data:image/png;base64,iVBOR") for a in found.addresses)
    assert "Stage &lt;2&gt;" in text and "too near to &lt;the border&gt;" in text and "<2>" not in text
    assert not re.search(r"https?://|url\(", text)
    # what is told of numbers: 95 % are 1.96 sigmas
    assert "35.000 mm ± 0.020 mm" in text and "± 0.98 0.98 0.98 mm" in text and "held out" in text


def test_coverage_counts_places_of_views_that_were_solved():
    """Matches all over the wall from two places, and once more from the first; a fourth view was held out."""
    columns, rows = np.meshgrid(np.linspace(5, 595, 24), np.linspace(5, 295, 12))
    led = np.stack([columns.ravel(), rows.ravel()], -1)
    everywhere = (Matches("wall", led, led, np.ones(len(led))),)
    eyes = {"a": (-2.0, 0.0, 1.6), "b": (2.0, 0.0, 1.6), "c": (-1.99, 0.0, 1.6), "d": (0.0, 0.0, 1.6)}
    result = solved(views=tuple(solved_view(name, eye, held_out=name == "d") for name, eye in eyes.items()))
    seen = coverage_of(result, [View(name, (1920, 1080), everywhere) for name in eyes])["wall"]
    assert seen.times.shape == (6, 12) and (seen.times == 2).all()
    # in the middle: 5 m before the wall, 2 m to each side: 2 atan(2 / 5) = 43.6°; a little less as the patch is not in the middle
    assert seen.parallax_deg[2:4, 5:7].mean() == pytest.approx(43.6, abs=1.0)


def test_the_command_writes_the_page_and_its_status_is_the_verdict(tmp_path, capsys):
    save_solved(tmp_path / "solved.json", solved())
    assert main(["calibrate", "report", str(tmp_path)]) == 1  # its residuals say nothing of what was seen but one LED a view
    assert "not complete: 99% of wall was not seen" in capsys.readouterr().out  # of 72 patches 71
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert main(["calibrate", "report", str(tmp_path / "none")]) == 2
    assert "solved.json: file: expected a readable solved.json" in capsys.readouterr().err


def test_what_is_told_of_a_real_solve_holds_and_a_ceiling_that_moved_since_is_named():
    """A virtual stage of 4 tiles: nine of ten LEDs at least are nearer to the truth than the verdict says, for every surface;
    the same stage photographed again has not moved, and then its ceiling by 10 mm."""
    stage = virtual_stage(4, 14, seed=3)
    views = [msgspec.structs.replace(v, is_held_out=i in (4, 9)) for i, v in enumerate(photographed(stage, 3, matches=400))]
    result = solve(views, stage.nominal, Options(shape="panels"), "virtual.toml")
    verdict = verdict_of(result, coverage_of(result, views))
    assert verdict.is_good and verdict.words.startswith("good to ")
    for found, truth in zip(result.surfaces, stage.surfaces):
        off_mm = 1000 * np.linalg.norm(found.samples.position_m - surface_points(truth, *found.samples.led_px.T), axis=1)
        assert (off_mm < verdict.good_to_mm).mean() > 0.9
    assert page(result, views).count("data:image/png;base64,") == 3

    again = photographed(stage, 77, matches=1500)
    assert not any(bump_of(result, view).has_moved for view in again)
    shift = Pose(position_m=(0.009, 0.004, 0.0))
    surfaces = tuple(
        msgspec.structs.replace(s, stage_from_surface=shift @ s.stage_from_surface) if s.name == "ceiling" else s
        for s in stage.surfaces
    )
    later = photographed(msgspec.structs.replace(stage, surfaces=surfaces), 78, matches=1500)
    seen = [
        bump_of(result, view) for view in later if {"main", "ceiling"} <= {m.surface for m in view.matches if len(m.led_px) > 200}
    ]
    assert len(seen) > 4
    for bump in seen:
        [moved] = bump.moved
        assert moved.name == "ceiling" and moved.mm == pytest.approx(math.hypot(9, 4), abs=2.0)

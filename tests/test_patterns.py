"""Patterns that the wall shows while it is photographed."""

import numpy as np
import pytest

from ledvolume.errors import ConfigError
from ledvolume.patterns import bits, check, dot_bits, dots_pitch, draw, gray_bit, series
from ledvolume.stage import Surface, WallTile, cut, facing

WALL = Surface("wall", facing(0.0, (0.0, 3.0, 1.0)), (3.0, 2.0), (96, 60))


def shown(name: str, surface: Surface = WALL, tiles: tuple[int, int] = (1, 1)) -> np.ndarray:
    """The whole surface, (H, W) bool, put together from its tiles."""
    width, height = surface.resolution_px
    picture = np.full((height, width), np.nan)
    for tile in cut(surface, *tiles):
        (left, top), (w, h) = tile.offset_px, tile.resolution_px
        drawn = draw(tile, name)
        assert drawn.dtype == np.float32 and drawn.shape == (h, w, 3) and (drawn == drawn[..., :1]).all()
        picture[top : top + h, left : left + w] = drawn[..., 0]
    return picture


def test_the_gray_code_of_eight_columns():
    # 0 to 7 are 000 001 011 010 110 111 101 100
    wanted = {0: "00001111", 1: "00111100", 2: "01100110"}
    for k, lit in wanted.items():
        assert gray_bit(np.arange(8), 3, k).tolist() == [c == "1" for c in lit]
        assert gray_bit(np.arange(8), 3, k, is_inverse=True).tolist() == [c == "0" for c in lit]


@pytest.mark.parametrize(("size", "count"), [(1, 0), (2, 1), (768, 10), (1024, 10), (1025, 11)])
def test_so_many_bits_number_a_surface(size, count):
    assert bits(size) == count


def test_every_led_pixel_has_its_own_code_and_neighbours_differ_in_one_bit():
    planes = np.stack([shown(name) for name in series(WALL) if name.startswith("gray") and not name.endswith("inverse")])
    assert len(planes) == 7 + 6  # 96 columns, 60 rows
    codes = np.tensordot(2 ** np.arange(len(planes)), planes, 1)
    assert len(np.unique(codes)) == 96 * 60
    assert (np.abs(np.diff(planes, axis=1)).sum(0) == 1).all() and (np.abs(np.diff(planes, axis=2)).sum(0) == 1).all()


def test_an_inverse_is_the_negative_and_a_bit_too_fine_is_black_in_both():
    assert (shown("gray/x/3") + shown("gray/x/3/inverse") == 1).all()
    assert not shown("gray/y/6").any() and not shown("gray/y/6/inverse").any()  # 60 rows have bits 0 to 5


@pytest.mark.parametrize("name", [*series(WALL), "dots", "dots/12"])
def test_a_picture_does_not_depend_on_how_the_surface_is_cut(name):
    np.testing.assert_array_equal(shown(name), shown(name, tiles=(4, 3)))


def test_one_surface_is_lit_and_the_others_are_not():
    assert shown("surface/wall").all() and not shown("surface/ceiling").any()


def test_dots_are_symmetric_about_the_middles_that_their_numbers_say():
    # 96 × 60 LED pixels at 8: 12 × 7 dots, the last 4 rows are a rest without any
    large, lit = dot_bits(WALL, 8), shown("dots")
    assert dots_pitch(WALL) == 8 and large.shape == (7, 12) and not lit[56:].any()
    for row, column in np.ndindex(large.shape):
        cell = lit[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8]
        assert cell.sum() == (16 if large[row, column] else 4)
        assert (cell == cell[::-1]).all() and (cell == cell[:, ::-1]).all() and (cell == cell.T).all()


def test_codes_of_surfaces_have_nothing_in_common():
    """Two surfaces, two resolutions: about half of the bits agree, as of coins; 4.9 σ of 84 × 12 coins are 8 %."""
    wide = Surface("wall", WALL.stage_from_surface, (3.0, 2.0), (672, 96))
    others = [
        Surface("ceiling", WALL.stage_from_surface, (3.0, 2.0), (672, 96)),
        Surface("wall", WALL.stage_from_surface, (3.0, 2.0), (673, 97)),
    ]
    for other in others:
        agree = np.mean(dot_bits(wide, 8) == dot_bits(other, 8))
        assert abs(agree - 0.5) < 0.08


def test_a_large_surface_has_its_dots_farther_apart():
    surface = Surface("wall", WALL.stage_from_surface, (18.0, 6.0), (6336, 2112))
    assert dots_pitch(surface) == 64  # 6336 / 128 = 49.5
    assert shown("dots", Surface("w", WALL.stage_from_surface, (1.0, 1.0), (128, 64))).sum() > 0


def test_identify_marks_the_first_pixel_and_frames_the_tile():
    tile = WallTile("wall-1-0", WALL, (48, 0), (48, 60))
    picture = draw(tile, "identify")[..., 0]
    assert picture[0].all() and picture[-1].all() and picture[:, 0].all() and picture[:, -1].all()
    assert picture[:4, :4].all() and not picture[1:5, -5:-1].any()
    assert 0.02 < picture[10:-10, 10:-10].mean() < 0.5  # something is written


@pytest.mark.parametrize(
    "name", ["", "grey/x/1", "gray/z/1", "gray/x/-1", "gray/x/1/inverted", "dots/7", "dots/6", "surface/", "White"]
)
def test_a_name_that_is_not_one_says_which_are(name):
    with pytest.raises(ConfigError, match="white, black, identify"):
        check(name)

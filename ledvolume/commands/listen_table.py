"""What `ledvolume listen` shows: a table of cameras, and under it what is wrong with each source. rich draws it."""

import math

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ledvolume.camera import CameraSample, LensReading
from ledvolume.pose import pan_tilt_roll_of
from ledvolume.source_clock import SourceClock
from ledvolume.source_health import CameraHealth, SourceHealth

MOST_SENDERS_SHOWN = 4
STYLES = {"refused": "red", "flagged": "yellow", "ignored": "dim"}


def degrees(sample: CameraSample) -> tuple[float, float, float]:
    """Pan, tilt, roll: + left, up, clockwise from behind."""
    return tuple(map(math.degrees, pan_tilt_roll_of(sample.world_from_tracker.wxyz)))


def screen(listened: list, now_ns: int, known: frozenset[str], silence: dict[str, list[str]]) -> Group:
    """Everything. listened: (source, SourceHealth) pairs. known: the show's cameras, empty without a show. silence: uri →
    what to check where nothing comes."""
    cameras = [(health, camera) for _, health in listened for camera in health.cameras.values()]
    parts = [_cameras_table(cameras)] if cameras else []
    for health, camera in cameras:
        words = health.warnings(camera, now_ns)
        if known and camera.camera_id not in known and "*" not in known:
            words.append(
                f'is none of the show\'s ({", ".join(sorted(known))}): cameras = {{ "{camera.camera_id}" = … }} renames it'
            )
        parts += [Text(f"{camera.camera_id}: {text}", "yellow") for text in words]
    for source, health in listened:
        parts.append(_source_line(source, health))
        parts += [Text(f"  {text}", "red") for text in silence.get(health.uri, ())]
        if troubles := health.troubles():
            parts.append(_troubles_table(troubles))
    return Group(*parts)


def _cameras_table(cameras: list[tuple[SourceHealth, CameraHealth]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("camera", no_wrap=True)
    for header in ("x y z m", "pan tilt roll °", "Hz ± ms", "age ms"):
        table.add_column(header, no_wrap=True, justify="right")
    for header in ("lens", "clock", "samples"):
        table.add_column(header)
    for health, camera in cameras:
        sample = camera.newest
        x, y, z = sample.world_from_tracker.position_m
        pan, tilt, roll = degrees(sample)
        missing = f", {camera.missing} missing" if camera.missing else ""
        table.add_row(
            Text(camera.camera_id, "bold"),
            f"{x:+z.3f} {y:+z.3f} {z:+z.3f}",
            f"{pan:+z.2f} {tilt:+z.2f} {roll:+z.2f}",
            rate_words(camera),
            "" if camera.age_ms is None else f"{camera.age_ms:.1f}",
            Text(lens_words(sample.lens)),
            Text(clock_words(camera, health.clock_of(camera.camera_id))),
            Text(f"{camera.samples}{missing}", "yellow" if missing else ""),
        )
    return table


def _troubles_table(troubles: list[tuple[str, str, int, str, str]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for column in ("what", "count", "newest"):
        table.add_column(column, justify="right" if column == "count" else "left", no_wrap=column != "newest", overflow="fold")
    for what, kind, times, newest, advice in troubles:
        words = Text(newest)
        if advice:
            words.append(("\n" if newest else "") + f"check: {advice}" if what == "refused" else f"\n{advice}", "bold")
        table.add_row(Text(f"  {what} {kind}", STYLES[what]), str(times), words)
    return table


def _source_line(source, health: SourceHealth) -> Text:
    line = Text(f"{health.uri}: {health.datagrams} datagrams")
    senders = [sender for sender, _ in source.senders.most_common(MOST_SENDERS_SHOWN)]
    if senders:
        more = len(source.senders) - len(senders)
        line.append(f" from {', '.join(senders)}" + (f" and {more} more" if more else ""))
    if source.interfaces:
        line.append(f" on {', '.join(source.interfaces)}")
    if source.joined:
        line.append(f" (joined on {', '.join(source.joined)})", "dim")
    if health.uri and source.dropped:
        line.append(f" {source.dropped} dropped by the kernel: this machine is too busy, or it is a flood", "red")
    if source.unstamped and "udp" in health.uri.partition(":")[0]:
        line.append(f" {source.unstamped} without the kernel's stamp", "yellow")
    if health.unlisted:
        line.append(f" {health.unlisted} samples of more cameras than can be shown", "yellow")
    return line


def camera_line(health: SourceHealth, camera: CameraHealth) -> str:
    """One camera in one line, for logs."""
    sample = camera.newest
    (x, y, z), (pan, tilt, roll) = sample.world_from_tracker.position_m, degrees(sample)
    words = [
        f"{camera.camera_id} x {x:+z.3f} y {y:+z.3f} z {z:+z.3f} m",
        f"pan {pan:+z.2f} tilt {tilt:+z.2f} roll {roll:+z.2f}",
        f"{rate_words(camera)} ms".replace(" ± ", " Hz ± "),
        "" if camera.age_ms is None else f"age {camera.age_ms:.1f} ms",
        lens_words(sample.lens),
        clock_words(camera, health.clock_of(camera.camera_id)),
        f"{camera.missing} missing" if camera.missing else "",
        f"{refused} refused" if (refused := health.decoder.rejects.total()) else "",
    ]
    return "  ".join(filter(None, words))


def rate_words(camera: CameraHealth) -> str:
    """Such as 59.9 ± 0.31: Hz and ms."""
    if camera.rate_hz is None or camera.jitter_ms is None:
        return "-- ± --"
    return f"{camera.rate_hz:.1f} ± {camera.jitter_ms:.2f}"


def lens_words(lens: LensReading) -> str:
    """What is reported of the lens."""
    words = [
        (lens.focal_length_mm, "{:.1f} mm"),
        (lens.focus_distance_m, "{:.2f} m"),
        (lens.f_stop, "f/{:.1f}"),
        (lens.zoom_encoder, "zoom {:.4f}"),
        (lens.focus_encoder, "focus {:.4f}"),
        (lens.iris_encoder, "iris {:.4f}"),
    ]
    return " ".join(form.format(value) for value, form in words if value is not None)


def clock_words(camera: CameraHealth, clock: SourceClock | None) -> str:
    """By what clock its samples are captured, and how far that is from ours."""
    if clock is None:
        return "house" if camera.is_stamped else "on arrival"
    if clock.kind != "source":
        return f"{clock.kind} {clock.offset_ns / 1e6:+.1f} ms"
    drift = f" {clock.drift_ppm:+.0f} ppm" if clock.drift_ppm else ""
    return f"own {_offset_words(clock.offset_ns)}{drift}"


def _offset_words(offset_ns: int) -> str:
    if abs(offset_ns) < 1_000e9:
        return f"{offset_ns / 1e9:+.3f} s"
    return f"{offset_ns / 3600e9:+.2f} h" if abs(offset_ns) < 100 * 3600e9 else f"{offset_ns / 86_400e9:+.0f} days"

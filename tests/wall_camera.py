"""A camera before a wall, for tests: receives a wall's tiles as receivers do, and streams what it sees as MPEG-TS over TCP.

    python wall_camera.py PORT [stream://HOST:PORT TILE=X,Y …]

The wall is seen straight on, four picture pixels an LED pixel, in a dark room; without a wall the picture's brightness counts.
A process of its own, as FFmpeg's sockets hold Python's lock while they wait.
"""

import sys
import time
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np

from ledvolume.outputs.receive import TileReceiver

FPS, WIDTH, HEIGHT, SCALE = 25, 480, 320, 4
DARK, BRIGHT = 12, 204
LONGEST_S = 120


def main() -> None:
    port, *wall = sys.argv[1:]
    # suppressed: whoever watched has gone
    with suppress(av.FFmpegError, OSError), av.open(f"tcp://127.0.0.1:{port}?listen=1", "w", format="mpegts") as video:
        stream = video.add_stream("mpeg2video", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 1, 8_000_000
        film(video, stream, wall)


def film(video, stream, wall: list[str]) -> None:
    places = {name: tuple(map(int, at.split(","))) for name, _, at in (word.partition("=") for word in wall[1:])}
    receiver = TileReceiver(wall[0], places) if wall else None
    picture = np.full((HEIGHT, WIDTH, 3), DARK, np.uint8)
    begin_s = time.monotonic()
    for n in range(LONGEST_S * FPS):
        for tile in receiver.receive(0.0) if receiver else ():
            x, y = places[tile.header.tile]
            light = DARK + tile.pixels.astype(np.float32) * ((BRIGHT - DARK) / 255)
            large = np.repeat(np.repeat(light.astype(np.uint8), SCALE, 0), SCALE, 1)
            picture[y : y + large.shape[0], x : x + large.shape[1]] = large
        if not receiver:
            picture[:] = 60 + n % 120
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = n, Fraction(1, FPS)
        for packet in stream.encode(frame):
            video.mux(packet)
        time.sleep(max(begin_s + (n + 1) / FPS - time.monotonic(), 0))


if __name__ == "__main__":
    main()

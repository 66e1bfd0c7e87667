"""Run inside Blender: `blender -b -P render_clip.py -- OUT [--every 15] [--samples 3]`.

The sample's drive: OUT/rgb_####.png, OUT/ids_####.png (254 = unknown thing) and OUT/motion.json for the sound.
Frames that exist are kept.
"""

import argparse
import json
import os
import random
import sys
from math import atan, degrees, pi, sin

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from street import render, unknown  # noqa: E402
from street.plan import draw_plan  # noqa: E402
from street.street import StreetBuilder  # noqa: E402
from street.weather import Weather  # noqa: E402

SEED, FPS = 77, 15
COW, CHAIR, END = 34.0, 62.0, 56.8
# Frames of the drive before time 0 of what moves in the street, and where the car is at time 0.
LEAD, AT_ZERO = 17, 16.0
CRUISE, SLOW, SHIFT = 8.0, 3.0, 2.0


def smooth(x, a, b):
    """0 below a, 1 above b, a smooth step between."""
    x = min(1.0, max(0.0, (x - a) / (b - a)))
    return x * x * (3 - 2 * x)


def speed(s):
    """The driver brakes before each thing and speeds up behind it."""
    v = CRUISE
    for at in (COW, CHAIR):
        v -= (CRUISE - SLOW) * smooth(s, at - 15, at - 9) * (1 - smooth(s, at - 2, at + 7))
    return v


def offset(s, lane):
    """Offset from the centre line: the car keeps its lane and steers around each thing."""
    return -lane + SHIFT * sum(smooth(s, at - 12, at - 3) * (1 - smooth(s, at + 3, at + 11)) for at in (COW, CHAIR))


def drive():
    """Positions and speeds, one per frame."""
    s, track, steps = AT_ZERO - LEAD * CRUISE / FPS, [], 20
    while s < END:
        track.append((s, speed(s)))
        for _ in range(steps):
            s += speed(s) / (FPS * steps)
    return track


def build(track):
    scene = render.reset()
    plan = draw_plan(SEED, half_width=4.4, parking=(False, True), frontage=("suburb", "shops"), verge=(0.0, 0.0), walk=(2.4, 3.2),
                     gardens=(True, False), paved="slabs", asphalt=(0.44, 0.44, 0.445), pavement=(0.62, 0.61, 0.59), kerb=(0.70, 0.69, 0.67),
                     edge="none", crossings=[], bend=5.0, leafy=1.0, wear=0.3)
    maker = StreetBuilder(plan)
    street = maker.build(traffic=False)
    lane = plan.lane

    def meet(at):
        """Time at which the camera passes s = at."""
        return next(k for k, (s, _) in enumerate(track) if s >= at) / FPS - LEAD / FPS

    # Oncoming cars are timed to pass while the camera is in its own lane.
    for at, v, kind, colour in ((20.0, -8.0, "hatch", (0.48, 0.06, 0.07)), (47.0, -7.5, "saloon", (0.55, 0.57, 0.59))):
        maker.driver(at - v * meet(at), 1.2, v, kind, colour)
    for s, side, v in ((26, 1, -1.3), (44, -1, -1.2), (52, 1, 1.1), (63, -1, 1.3), (80, 1, -1.2)):
        maker.walker(s, side * (plan.half_width + 1.3), v)
    unknown.cow(maker.mats).object("cow", street.course.frame(COW, -2.15, 0.025, -1.15))
    unknown.armchair(maker.mats).object("armchair", street.course.frame(CHAIR, -2.05, 0.025, 0.38))
    return scene, street


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--every", type=int, default=1, help="render every n-th frame only (preview)")
    parser.add_argument("--samples", type=int, default=3)
    args = parser.parse_args(sys.argv[sys.argv.index("--") + 1:])
    out = os.path.abspath(args.out)
    os.makedirs(out, exist_ok=True)
    track = drive()
    with open(os.path.join(out, "motion.json"), "w", encoding="ascii") as file:
        json.dump({"fps": FPS, "position": [p for p, _ in track], "speed": [v for _, v in track]}, file)
    scene, street = build(track)
    render.light(scene, Weather(random.Random(3), azimuth=38, elevation=37, sun=3.6, softness=1.2, ambient=0.5, cover=0.45,
                                       zenith=(0.52, 0.68, 0.90), cloud=(0.98, 0.98, 0.98), glare=1.1, exposure=1.25))
    cam = render.camera(scene, 60)
    render.settings(scene, args.samples)
    render.outputs(scene, out)
    lane = street.plan.lane
    for k, (s, v) in enumerate(track):
        done = all(os.path.exists(os.path.join(out, f"{p}_{k:04d}.png")) for p in ("rgb", "ids"))
        if k % args.every or done:
            continue
        t = (k - LEAD) / FPS
        street.update(t)
        ahead = 0.8 * atan((offset(s + 0.5, lane) - offset(s - 0.5, lane)) / 1.0)
        bob = 0.012 * sin(2 * pi * 1.35 * t) + 0.005 * sin(2 * pi * 3.1 * t + 1)
        pitch = -1.6 + 0.16 * sin(2 * pi * 1.35 * t + 0.8) + 0.07 * sin(2 * pi * 4.3 * t)
        render.aim(cam, street.course.frame(s, offset(s, lane)), 1.3 + bob, pitch, degrees(ahead), 0.15 * sin(2 * pi * 0.9 * t))
        scene.cycles.seed = (k - LEAD) % 1000
        render.shoot(scene, out, k)
    print(f"{len(track)} frames, {len(track) / FPS:.1f} s", flush=True)


main()

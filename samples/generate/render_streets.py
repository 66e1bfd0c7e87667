"""Run inside Blender: `blender -b -P render_streets.py -- OUT --streets 60 --per-street 3`.

Random roads without any unknown thing: OUT/rgb_####.png and OUT/ids_####.png. Frames that exist are kept. Of eight roads
three are motorways; weather and time of day take turns.
"""

import argparse
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from street import render  # noqa: E402
from street.motorway import MotorwayBuilder  # noqa: E402
from street.plan import draw_motorway, draw_plan  # noqa: E402
from street.street import StreetBuilder  # noqa: E402
from street.weather import Weather  # noqa: E402

OWN_SPEED = 6.0
WEATHER = ["day", "rain", "day", "night", "day", "dusk", "day"]
# Lamps are few and bright, so their light is noisy at few samples.
NIGHT_SAMPLES = 16
LAMPS = 8


def build(seed, weather):
    """The road of a seed: what moves on it, and the offset of the own lane's middle."""
    if seed % 8 in (1, 4, 6):
        plan = draw_motorway(seed)
        builder = MotorwayBuilder(plan, weather)
        return builder.build(own_speed=OWN_SPEED), -plan.lane_offset(builder.own_lane)
    rng = random.Random(seed * 17 + 1)
    plan = draw_plan(seed, crowd=rng.choice([0, 3, 8]), heavy=rng.choice([0.0, 0.15]))
    return StreetBuilder(plan, weather).build(own_speed=OWN_SPEED), -plan.lane


def one_road(seed, out, first, count, samples):
    rng = random.Random(seed * 31 + 5)
    scene = render.reset()
    kind = WEATHER[seed % len(WEATHER)]
    street, lane = build(seed, kind)
    weather = Weather(rng, kind)
    night = kind == "night"
    render.light(scene, weather)
    cam = render.camera(scene, rng.uniform(50, 68))
    if night:
        render.headlights(scene, cam)
        for at in sorted(street.lamps, key=lambda at: abs(at.translation.y - 25))[:LAMPS]:
            render.lamp(scene, at, 2500.0, (1.0, 0.78, 0.5), 140)
    render.settings(scene, max(samples, NIGHT_SAMPLES) if night else samples)
    render.outputs(scene, out, haze=weather.haze(), glow=night)
    height = rng.uniform(1.2, 1.6) if rng.random() < 0.8 else rng.uniform(1.8, 2.8)
    for k in range(count):
        t = k * rng.uniform(2.0, 3.5)
        street.update(t)
        d = lane + rng.uniform(-0.3, 0.6)
        yaw = rng.gauss(0, 2.0) if rng.random() < 0.85 else rng.uniform(-14, 14)
        render.aim(cam, street.course.frame(OWN_SPEED * t, d), height, rng.uniform(-4.5, 3.0), yaw, rng.gauss(0, 0.6))
        scene.cycles.seed = first + k
        render.shoot(scene, out, first + k)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out")
    parser.add_argument("--streets", type=int, default=60)
    parser.add_argument("--per-street", type=int, default=3)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=1000)
    args = parser.parse_args(sys.argv[sys.argv.index("--") + 1:])
    os.makedirs(args.out, exist_ok=True)
    for k in range(args.streets):
        numbers = range(k * args.per_street, (k + 1) * args.per_street)
        if all(os.path.exists(os.path.join(args.out, f"{p}_{n:04d}.png")) for n in numbers for p in ("rgb", "ids")):
            continue
        begin = time.time()
        one_road(args.first_seed + k, os.path.abspath(args.out), numbers[0], args.per_street, args.samples)
        print(f"road {k + 1}/{args.streets}: {time.time() - begin:.1f} s", flush=True)


main()

"""Run inside Blender: `blender -b -P render_streets.py -- OUT --streets 60 --per-street 3`.

Random streets without any unknown thing: OUT/rgb_####.png and OUT/ids_####.png. Frames that exist are kept.
"""

import argparse
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from street import render  # noqa: E402
from street.plan import draw_plan  # noqa: E402
from street.street import StreetBuilder  # noqa: E402

OWN_SPEED = 6.0


def one_street(seed, out, first, count, samples):
    rng = random.Random(seed * 31 + 5)
    scene = render.reset()
    plan = draw_plan(seed)
    street = StreetBuilder(plan).build(own_speed=OWN_SPEED)
    render.light(scene, render.Weather(rng))
    cam = render.camera(scene, rng.uniform(50, 68))
    render.settings(scene, samples)
    render.outputs(scene, out)
    height = rng.uniform(1.2, 1.6)
    for k in range(count):
        t = k * rng.uniform(2.0, 3.5)
        street.update(t)
        d = -plan.lane + rng.uniform(-0.3, 0.9)
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
        one_street(args.first_seed + k, os.path.abspath(args.out), numbers[0], args.per_street, args.samples)
        print(f"street {k + 1}/{args.streets}: {time.time() - begin:.1f} s", flush=True)


main()

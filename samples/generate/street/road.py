"""The road's course and its surface: carriageway, paint, kerbs, pavements and what lies behind them."""

from math import atan2, cos, pi, sin

from mathutils import Matrix, Vector

from .classes import PAVEMENT, ROAD
from .mesh import MeshBuilder

STEP = 2.0
KERB = 0.12


class Course:
    """A gently winding centre line x(y). Positions along it are s (metres along y), offsets d grow to the right."""

    def __init__(self, rng, bend):
        self.waves = [(bend * rng.uniform(0.4, 1.0), rng.uniform(130, 220), rng.uniform(0, 2 * pi)),
                      (bend * 0.25 * rng.uniform(0.0, 1.0), rng.uniform(60, 90), rng.uniform(0, 2 * pi))]

    def centre(self, s):
        return sum(a * sin(2 * pi * s / length + p) for a, length, p in self.waves)

    def heading(self, s):
        """Angle of the road to the y axis, positive to the right."""
        return atan2(sum(a * 2 * pi / length * cos(2 * pi * s / length + p) for a, length, p in self.waves), 1.0)

    def point(self, s, d, z=0.0):
        h = self.heading(s)
        return Vector((self.centre(s) + d * cos(h), s - d * sin(h), z))

    def frame(self, s, d, z=0.0, turn=0.0):
        """Placement with y along the road, turned clockwise by `turn` radians."""
        return Matrix.Translation(self.point(s, d, z)) @ Matrix.Rotation(-self.heading(s) - turn, 4, "Z")

    def facing(self, s, d, side, z=0.0):
        """Placement with y pointing away from the road on `side` (-1 left, 1 right)."""
        return self.frame(s, d, z, side * pi / 2)


def strip(b, course, s0, s1, profile, material):
    """Surface swept along the road. `profile` is a list of (d, z) from left to right; UV is (d, s)."""
    n = max(1, round((s1 - s0) / STEP))
    marks = [s0 + (s1 - s0) * k / n for k in range(n + 1)]
    across = [0.0]
    for (d0, z0), (d1, z1) in zip(profile, profile[1:]):
        across.append(across[-1] + abs(d1 - d0) + abs(z1 - z0))
    left = profile[0][0]
    b.grid([[course.point(s, d, z) for d, z in profile] for s in marks], material, smooth=False,
           uv=lambda i, j, _: (left + across[j], marks[i]))


def rectangle(b, course, s0, s1, d0, d1, material, z=0.004):
    strip(b, course, s0, s1, [(d0, z), (d1, z)], material)


def surface(plan, mats, rng, course):
    """All ground of a street. `plan` is a street.Plan."""
    b = MeshBuilder()
    s0, s1, hw = plan.start, plan.end, plan.half_width
    strip(b, course, s0, s1, [(-hw, 0.0), (-hw * 0.5, 0.03), (0, 0.04), (hw * 0.5, 0.03), (hw, 0.0)], mats.tarmac(plan.asphalt, plan.lane))
    gutter = mats.tarmac(tuple(c * 0.82 for c in plan.asphalt))
    for side in (-1, 1):
        rectangle(b, course, s0, s1, *sorted((side * hw, side * (hw - 0.25))), gutter, 0.006)
    kerb = mats.slabs(plan.kerb, 0.15, 0.9)
    if plan.paved == "slabs":
        walk = mats.slabs(plan.pavement, 0.6, rng.choice([0.45, 0.6, 0.75]))
    else:
        walk = mats.tarmac(plan.pavement, class_id=PAVEMENT)
    lawn = mats.grass(rng.choice([(0.30, 0.38, 0.15), (0.35, 0.40, 0.18), (0.26, 0.34, 0.14)]))
    yard = mats.slabs((0.50, 0.48, 0.45), 0.9, 0.9)
    for side, walk_width, verge in ((-1, plan.walk[0], plan.verge[0]), (1, plan.walk[1], plan.verge[1])):
        def laid(profile, material):
            strip(b, course, s0, s1, sorted((side * d, z) for d, z in profile) if profile[0][0] != profile[1][0] else
                  [(side * d, z) for d, z in (profile if side > 0 else profile[::-1])], material)
        k = hw + 0.15
        laid([(hw, 0.0), (hw + 0.02, KERB)], kerb)
        laid([(hw + 0.02, KERB), (k, KERB + 0.003)], kerb)
        if verge:
            laid([(k, KERB + 0.01), (k + verge / 2, KERB + 0.05), (k + verge, KERB + 0.01)], lawn)
        laid([(k + verge, KERB), (k + verge + walk_width, KERB + 0.05)], walk)
        back = k + verge + walk_width
        laid([(back, KERB + 0.04), (back + 6, KERB + 0.06)], lawn if plan.gardens[(side + 1) // 2] else yard)
        laid([(back + 6, KERB + 0.06), (back + 70, KERB + 0.1)], lawn)
    _paint(b, plan, mats, rng, course)
    return b


def _paint(b, plan, mats, rng, course):
    hw, wear = plan.half_width, plan.wear
    white = mats.marking((0.86, 0.86, 0.84), plan.asphalt, wear)
    yellow = mats.marking((0.74, 0.62, 0.20), plan.asphalt, wear)
    s, (dash, gap) = plan.start, rng.choice([(2.0, 4.0), (4.0, 2.0), (3.0, 6.0)])
    while s < plan.end:
        rectangle(b, course, s, s + dash, -0.06, 0.06, white, 0.046)
        s += dash + gap
    for side in (-1, 1):
        if plan.edge == "white":
            d = side * (hw - 0.35)
            rectangle(b, course, plan.start, plan.end, d - 0.06, d + 0.06, white, 0.014)
        elif plan.edge == "yellow":
            for off in (0.32, 0.52):
                d = side * (hw - off)
                rectangle(b, course, plan.start, plan.end, d - 0.04, d + 0.04, yellow, 0.014)
        elif plan.parking[(side + 1) // 2]:
            d, s = side * (hw - 2.1), plan.start
            while s < plan.end:
                rectangle(b, course, s, s + 1.0, d - 0.05, d + 0.05, white, 0.03)
                s += 2.2
    for at in plan.crossings:
        d = -hw + 0.4
        while d < hw - 0.6:
            rectangle(b, course, at, at + 2.6, d, d + 0.5, white, 0.048)
            d += 1.0
        for line in (at - 2.0, at + 4.4):
            rectangle(b, course, line, line + 0.2, -hw + 0.3, hw - 0.3, white, 0.047)
    iron = mats.plain(ROAD, (0.22, 0.21, 0.20), 0.5, mottle=0.4)
    for _ in range(int((plan.end - plan.start) / 14)):
        s, d = rng.uniform(plan.start, plan.end), rng.uniform(-hw * 0.7, hw * 0.7)
        centre = course.point(s, d, 0.047)
        b.face([centre + Vector((0.32 * cos(2 * pi * k / 14), 0.32 * sin(2 * pi * k / 14), 0)) for k in range(14)], iron)
    patch = mats.tarmac(tuple(c * 0.72 for c in plan.asphalt))
    for _ in range(int((plan.end - plan.start) / 25)):
        s, d = rng.uniform(plan.start, plan.end), rng.uniform(-hw * 0.7, hw * 0.4)
        rectangle(b, course, s, s + rng.uniform(1, 9), d, d + rng.uniform(0.5, 1.4), patch, 0.045)

"""Trees, hedges and shrubs: trunks of tapered branches, crowns of many small leaf cards around clumps."""

from math import cos, pi, sin

from mathutils import Matrix, Vector

from .classes import TREE
from .mesh import MeshBuilder

GREENS = [(0.30, 0.38, 0.16), (0.24, 0.34, 0.15), (0.38, 0.42, 0.18), (0.22, 0.29, 0.14), (0.44, 0.40, 0.20), (0.27, 0.36, 0.20)]
BARKS = [(0.27, 0.23, 0.19), (0.34, 0.31, 0.27), (0.20, 0.17, 0.15)]


def direction(rng):
    """Random unit vector."""
    z, a = rng.uniform(-1, 1), rng.uniform(0, 2 * pi)
    r = (1 - z * z) ** 0.5
    return Vector((r * cos(a), r * sin(a), z))


def leaf(b, at, size, rng, material):
    """One leaf-like card: a bent rhombus of random attitude."""
    u = direction(rng)
    v = u.cross(direction(rng))
    if v.length < 1e-3:
        return
    v.normalize()
    n = u.cross(v) * (0.25 * size)
    b.face([at - u * size, at - v * size * 0.55 + n, at + u * size], material, uv=[(0, 0)] * 3)
    b.face([at + u * size, at + v * size * 0.55 + n, at - u * size], material, uv=[(0, 0)] * 3)


def clump(b, centre, radius, count, size, rng, material, squash=0.8):
    """Leaves in the outer part of a ball."""
    for _ in range(count):
        d = direction(rng) * radius * rng.uniform(0.55, 1.08)
        leaf(b, centre + Vector((d.x, d.y, d.z * squash)), size * rng.uniform(0.6, 1.3), rng, material)


def branches(b, start, heading, length, radius, level, rng, bark, tips):
    """Recursive branching; `tips` collects where foliage may sit."""
    bend = (heading + direction(rng) * 0.22).normalized()
    middle = start + heading * length * 0.55
    end = middle + bend * length * 0.45
    sides = 7 if level >= 3 else 4
    b.tube(start, middle, radius, radius * 0.82, bark, sides, caps=False)
    b.tube(middle, end, radius * 0.82, radius * 0.62, bark, sides, caps=False)
    if level <= 2:
        tips.append(end)
    if level == 0:
        return
    for _ in range(rng.choice([2, 3, 3]) if level > 1 else 2):
        out = (bend + direction(rng) * 0.8 + Vector((0, 0, 0.15))).normalized()
        branches(b, end, out, length * rng.uniform(0.62, 0.82), radius * 0.6, level - 1, rng, bark, tips)


def tree(mats, rng, height=8.0, leafy=1.0):
    """A tree about `height` metres high; `leafy` 0 is bare as in winter."""
    b, tips = MeshBuilder(), []
    bark = mats.plain(TREE, rng.choice(BARKS), mottle=0.4, scale=8)
    green = mats.leaves(rng.choice(GREENS))
    trunk = height * rng.uniform(0.24, 0.32)
    b.tube((0, 0, -0.1), (0, 0, trunk), height * 0.026, height * 0.019, bark, 8, caps=False)
    bare = leafy <= 0
    for _ in range(4 if bare else 3):
        out = (Vector((0, 0, 1)) + direction(rng) * 0.65).normalized()
        branches(b, Vector((0, 0, trunk)), out, height * 0.24, height * 0.013, 4 if bare else 3, rng, bark, tips)
    if bare:
        return b
    radius = height * 0.135
    for tip in rng.sample(tips, min(len(tips), 34)):
        b.blob(tip, (radius * 0.6, radius * 0.6, radius * 0.5), green, 4, 6, jitter=lambda: rng.uniform(0.75, 1.2))
        clump(b, tip, radius, int(95 * leafy), height * 0.016, rng, green)
    return b


def conifer(mats, rng, height=7.0):
    b = MeshBuilder()
    bark, green = mats.plain(TREE, BARKS[0]), mats.leaves((0.17, 0.25, 0.15))
    b.tube((0, 0, 0), (0, 0, height * 0.9), 0.14, 0.03, bark, 6, caps=False)
    for k in range(9):
        z = height * (0.12 + 0.86 * k / 9)
        r = (height - z) * 0.24
        b.blob((0, 0, z), (r * 0.8, r * 0.8, r * 0.55), green, 4, 8, jitter=lambda: rng.uniform(0.8, 1.15))
        clump(b, Vector((0, 0, z)), r, 150, 0.11, rng, green, 0.5)
    return b


def shrub(mats, rng, size=0.8):
    b, green = MeshBuilder(), mats.leaves(rng.choice(GREENS))
    for _ in range(4):
        at = Vector((rng.uniform(-0.5, 0.5) * size, rng.uniform(-0.5, 0.5) * size, rng.uniform(0.35, 0.7) * size))
        r = size * rng.uniform(0.4, 0.6)
        b.blob(at, (r * 0.8, r * 0.8, r * 0.8), green, 4, 7, jitter=lambda: rng.uniform(0.8, 1.2))
        clump(b, at, r, 110, 0.07, rng, green, 1.0)
    return b


def hedge(mats, rng, length=3.0, height=1.3, depth=0.7):
    """A straight piece of clipped hedge; local x along it."""
    b, green = MeshBuilder(), mats.leaves(rng.choice(GREENS[:4]))
    b.box((-length / 2, -depth * 0.42, 0), (length / 2, depth * 0.42, height * 0.95), green)
    for _ in range(int(260 * length)):
        x = rng.uniform(-length / 2, length / 2)
        if rng.random() < 0.65:
            at = Vector((x, rng.choice([-1, 1]) * depth * rng.uniform(0.42, 0.5), rng.uniform(0.03, height)))
        else:
            at = Vector((x, rng.uniform(-0.45, 0.45) * depth, height * rng.uniform(0.95, 1.03)))
        leaf(b, at, rng.uniform(0.045, 0.085), rng, green)
    return b


def turned(rng, scale=(0.85, 1.2)):
    """Random turn about z and size, so that instances of one tree look different."""
    s = rng.uniform(*scale)
    return Matrix.Rotation(rng.uniform(0, 2 * pi), 4, "Z") @ Matrix.Diagonal((s, s, s * rng.uniform(0.92, 1.1), 1))

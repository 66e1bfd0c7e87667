"""What a street is like before anything is built: widths, surfaces, kinds of frontage. All drawn from the seed."""

import random
from dataclasses import dataclass


@dataclass
class Plan:
    """Widths in metres; pairs are (left, right). Traffic keeps left."""

    seed: int
    start: float
    end: float
    half_width: float
    parking: tuple
    lane: float
    walk: tuple
    verge: tuple
    gardens: tuple
    frontage: tuple
    paved: str
    asphalt: tuple
    pavement: tuple
    kerb: tuple
    wear: float
    edge: str
    crossings: list
    bend: float
    leafy: float
    # Further people right before the camera and far away, and the share of lorries and buses.
    crowd: int = 0
    heavy: float = 0.0

    def edge_of_walk(self, side):
        """Offset of the back edge of the pavement on a side (-1 left, 1 right), as a positive number."""
        k = (side + 1) // 2
        return self.half_width + 0.15 + self.verge[k] + self.walk[k]


def grey(rng, low, high, tint=0.012):
    v = rng.uniform(low, high)
    return (v + rng.uniform(-tint, tint), v, v + rng.uniform(-tint, tint))


def draw_plan(seed, start=-25.0, end=170.0, **fixed):
    """Plan for a seed; keyword arguments replace what would be drawn."""
    rng = random.Random(seed)
    parking = (rng.random() < 0.4, rng.random() < 0.55)
    half = rng.uniform(3.2, 4.2) + 0.9 * sum(parking)
    frontage = tuple(rng.choices(["terrace", "shops", "suburb", "flats", "park"], [4, 4, 3, 2, 1.5])[0] for _ in range(2))
    verge = tuple(rng.uniform(1.2, 2.2) if f in ("suburb", "park", "flats") and rng.random() < 0.45 else 0.0 for f in frontage)
    asphalt = grey(rng, 0.34, 0.50)
    plan = dict(
        seed=seed, start=start, end=end, half_width=half, parking=parking, lane=0.0,
        walk=tuple(rng.uniform(1.7, 3.4) + (1.0 if f == "shops" else 0) for f in frontage), verge=verge,
        gardens=tuple(f in ("suburb", "park") or rng.random() < 0.3 for f in frontage), frontage=frontage,
        paved=rng.choice(["slabs", "slabs", "tarmac"]), asphalt=asphalt,
        pavement=grey(rng, max(0.46, asphalt[1] + 0.08), 0.68, 0.02), kerb=grey(rng, 0.56, 0.72, 0.02), wear=rng.uniform(0.1, 0.9),
        edge="none" if any(parking) else rng.choice(["white", "yellow", "yellow", "none"]),
        crossings=[rng.uniform(25, 110)] if rng.random() < 0.3 else [], bend=rng.choice([0.0, 2.0, 5.0, 8.0]),
        leafy=rng.choice([0.0, 0.6, 1.0, 1.0, 1.0]))
    plan.update(fixed)
    left_edge = plan["half_width"] - (2.1 if plan["parking"][0] else 0.25)
    plan["lane"] = left_edge / 2
    return Plan(**plan)


@dataclass
class MotorwayPlan:
    """Widths in metres, offsets from the middle of the central reservation. Traffic keeps left."""

    seed: int
    start: float
    end: float
    lanes: int
    lane_width: float
    shoulder: float
    reservation: float
    asphalt: tuple
    wear: float
    bend: float
    leafy: float
    barrier: str
    rails: tuple
    noise_wall: tuple
    lamps: bool
    bridge: float | None
    gantry: float | None
    density: float

    @property
    def inner(self):
        """Offset of the inner edge of a carriageway, as a positive number."""
        return self.reservation / 2

    @property
    def outer(self):
        """Offset of the outer edge of a carriageway, shoulder included."""
        return self.inner + 0.6 + self.lanes * self.lane_width + self.shoulder

    def lane_offset(self, lane):
        """Offset of the middle of a lane, counted from the inner one."""
        return self.inner + 0.6 + (lane + 0.5) * self.lane_width


def draw_motorway(seed, start=-25.0, end=260.0):
    """Motorway plan for a seed."""
    rng = random.Random(seed * 13 + 3)
    return MotorwayPlan(
        seed=seed, start=start, end=end, lanes=rng.choice([2, 2, 3, 4]), lane_width=rng.uniform(3.4, 3.75),
        shoulder=rng.choice([0.8, 2.6, 3.2]), reservation=rng.choice([1.6, 3.0, 4.5, 9.0]), asphalt=grey(rng, 0.34, 0.62),
        wear=rng.uniform(0.05, 0.7), bend=rng.choice([0.0, 6.0, 14.0]), leafy=rng.choice([0.0, 0.7, 1.0, 1.0]),
        barrier=rng.choice(["rail", "rail", "concrete", "none"]), rails=tuple(rng.random() < 0.65 for _ in range(2)),
        noise_wall=tuple(rng.random() < 0.25 for _ in range(2)), lamps=rng.random() < 0.4,
        bridge=rng.uniform(50, 180) if rng.random() < 0.3 else None, gantry=rng.uniform(30, 140) if rng.random() < 0.45 else None,
        density=rng.uniform(0.15, 0.8))

"""Weather and time of day."""

from math import pi, radians, sin

from .materials import linear

KINDS = ["day", "dusk", "rain", "night"]


class Weather:
    """Sun direction, sky colours and exposure, drawn from `rng` or fixed by keyword."""

    def __init__(self, rng, kind="day", **fixed):
        overcast = rng.random() < 0.35
        self.kind = kind
        self.azimuth = rng.uniform(0, 360)
        self.elevation = rng.uniform(16, 55)
        self.sun = rng.uniform(0.0, 0.6) if overcast else rng.uniform(2.0, 4.5)
        self.softness = 20.0 if overcast else rng.uniform(0.6, 3.0)
        self.cover = rng.uniform(0.75, 1.0) if overcast else rng.uniform(0.0, 0.7)
        self.ambient = rng.uniform(0.55, 0.95) if overcast else rng.uniform(0.35, 0.7)
        self.zenith = rng.choice([(0.52, 0.68, 0.90), (0.62, 0.76, 0.93), (0.72, 0.82, 0.94)])
        self.horizon = (0.93, 0.95, 0.97)
        self.cloud = rng.choice([(0.97, 0.97, 0.97), (0.90, 0.91, 0.93), (0.82, 0.84, 0.87)] if overcast else [(0.98, 0.98, 0.98)])
        self.glare = rng.uniform(0.9, 1.9)
        self.exposure = rng.uniform(0.75, 1.6)
        self.drift = rng.uniform(0, 100)
        self.visibility = None
        if kind != "day":
            getattr(self, "_" + kind)(rng)
        for key, value in fixed.items():
            setattr(self, key, value)

    def _dusk(self, rng):
        self.elevation, self.sun = rng.uniform(3, 12), rng.uniform(0.6, 3.0)
        self.zenith = rng.choice([(0.22, 0.30, 0.48), (0.34, 0.40, 0.56)])
        self.horizon = rng.choice([(0.90, 0.62, 0.42), (0.80, 0.70, 0.66)])
        self.glare, self.exposure = rng.uniform(0.5, 1.0), rng.uniform(0.3, 0.8)

    def _rain(self, rng):
        self.sun, self.softness, self.cover = rng.uniform(0.0, 0.15), 20.0, 1.0
        grey = rng.uniform(0.62, 0.84)
        self.zenith = self.cloud = self.horizon = (grey, grey * 1.01, grey * 1.03)
        self.glare, self.exposure = rng.uniform(0.7, 1.1), rng.uniform(0.45, 1.0)
        self.visibility = rng.uniform(60, 300)

    def _night(self, rng):
        self.sun, self.softness, self.cover = 0.02, 3.0, rng.uniform(0, 1)
        self.zenith, self.horizon, self.cloud = (0.05, 0.06, 0.10), (0.16, 0.14, 0.14), (0.12, 0.11, 0.12)
        self.glare, self.exposure = rng.uniform(0.3, 1.0), rng.uniform(0.015, 0.06)

    def gain(self):
        """Factor that brings sunlit ground to the wanted brightness."""
        ground = self.sun * sin(radians(self.elevation)) / pi + self.ambient
        return self.exposure / ground

    def haze(self):
        """What `render.outputs` takes for haze."""
        if self.visibility is None:
            return None
        r, g, b, a = linear(self.cloud)
        return self.visibility, (r * self.glare, g * self.glare, b * self.glare, a)

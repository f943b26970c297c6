"""Two networks of data centres, rebuilt from the positions of their cities.

Names and number of nodes as in the networks Gaia (11) and Amazon North America (22)
that Marfoq et al. compare designs on (NeurIPS 2020, arXiv 2010.12229), all joined to
all. Distances are great circles between positions rounded to 0.01 degree, so they
differ a little from the published ones. Virginia, California and Oregon are the
middles of these states, as there. San Jose is the city in California; in the published
file it lies in Costa Rica, which lengthens every published Amazon design.
"""

from collections.abc import Mapping

from strategies.topologies.underlay import Position

GAIA: Mapping[str, Position] = {
    "Virginia": (37.43, -78.66),
    "Sao Paulo": (-23.55, -46.63),
    "Dublin": (53.35, -6.26),
    "Frankfurt": (50.11, 8.68),
    "Mumbai": (19.08, 72.88),
    "Singapore": (1.35, 103.82),
    "Sydney": (-33.87, 151.21),
    "Seoul": (37.57, 126.98),
    "Tokyo": (35.68, 139.69),
    "Oregon": (43.98, -120.74),
    "California": (36.70, -118.76),
}

AMAZON: Mapping[str, Position] = {
    "Ashburn": (39.04, -77.49),
    "San Jose": (37.34, -121.89),
    "Miami": (25.77, -80.19),
    "Jacksonville": (30.33, -81.66),
    "Atlanta": (33.75, -84.39),
    "Saint-Louis": (38.63, -90.20),
    "Chicago": (41.88, -87.63),
    "Dallas": (32.78, -96.80),
    "Denver": (39.74, -104.98),
    "Phoenix": (33.45, -112.07),
    "Los Angeles": (34.05, -118.24),
    "Palo Alto": (37.44, -122.14),
    "Hayward": (37.67, -122.08),
    "Seattle": (47.61, -122.33),
    "Minneapolis": (44.98, -93.27),
    "South Bend": (41.68, -86.25),
    "Toronto": (43.65, -79.38),
    "Montreal": (45.50, -73.57),
    "Boston": (42.36, -71.06),
    "New York": (40.71, -74.01),
    "Newark": (40.74, -74.17),
    "Philadelphia": (39.95, -75.17),
}

NETWORKS: Mapping[str, Mapping[str, Position]] = {"gaia": GAIA, "amazon": AMAZON}

"""The command line of measurements: `endofed benchmark …`."""

from experiments.commands.lazy import Entry, lazy_app

_HELP = {
    "attention": "Time and memory of SAM's attention, as published and as built here.",
    "emd": "Time, memory and error of the Earth Mover's Distance beside other "
    "libraries.",
    "folding": "Memory of the server in one round, beside Flower's own FedAvg.",
    "learning": "Train networks on the same simulated frames and test them on other "
    "patients.",
    "networks": "Parameters, products, time and memory of every network beside the "
    "U-Net.",
    "profile": "Show where a network's time goes, by its parts and by kind of "
    "operator.",
}

benchmark_app = lazy_app(
    "Measure side by side, in one run.",
    {
        name: Entry(f"experiments.commands.benchmarks.{name}", f"{name}_command", text)
        for name, text in _HELP.items()
    },
)

"""The command line: `endofed …`."""

from experiments.commands.lazy import Entry, lazy_app

TRAIN, USE, DEPLOY, MEASURE = "Train", "Use a model", "Deploy", "Look and measure"


def _entry(panel: str, module: str, attribute: str, text: str) -> Entry:
    return Entry(f"experiments.commands.{module}", attribute, text, panel)


COMMANDS = {
    "quickstart": _entry(
        TRAIN,
        "simulate",
        "quickstart_command",
        "Train a federation, finetune its model on a new domain, show what came out.",
    ),
    "simulate": _entry(
        TRAIN,
        "simulate",
        "simulate_command",
        "Train a federation of simulated or real hospitals on this machine or cluster.",
    ),
    "settings": _entry(
        TRAIN,
        "environment",
        "settings_command",
        "List every setting of a run with its default.",
    ),
    "environment": _entry(
        TRAIN,
        "environment",
        "environment_command",
        'Print what `flwr run .` needs: eval "$(endofed environment)".',
    ),
    "finetune": _entry(
        USE,
        "finetune",
        "finetune_command",
        "Adapt a model to a few labelled frames: methods, shots and seeds compared.",
    ),
    "adapt": _entry(
        USE,
        "adapt",
        "adapt_command",
        "Adapt a SAM to frames without labels, with labels from simulation.",
    ),
    "evaluate": _entry(
        USE,
        "evaluate",
        "evaluate_command",
        "Measure saved models on labelled frames: all metrics, intervals, comparisons.",
    ),
    "predict": _entry(
        USE,
        "predict",
        "predict_command",
        "Find devices in images, DICOM files, videos or a stream.",
    ),
    "export": _entry(
        USE,
        "export",
        "export_command",
        "Write a model as ONNX, torch.export, PEFT adapter, official SAM or card.",
    ),
    "models": _entry(
        USE,
        "models",
        "models_app",
        "The model registry: names and aliases for finished models.",
    ),
    "data": _entry(
        MEASURE, "data", "data_app", "Look at the data of a site before it trains."
    ),
    "report": _entry(
        MEASURE,
        "report",
        "report_command",
        "Write one self-contained HTML page about a run.",
    ),
    "study": _entry(
        MEASURE,
        "study",
        "study_command",
        "Compare methods: tune, train, measure and tabulate; goes on where it stopped.",
    ),
    "topology": _entry(
        MEASURE,
        "topology",
        "topology_command",
        "Show a topology over a network, and the cycle time of all designs.",
    ),
    "benchmark": _entry(
        MEASURE, "benchmark", "benchmark_app", "Measure side by side, in one run."
    ),
    "provision": _entry(
        DEPLOY,
        "provision",
        "provision_app",
        "Keys, certificates and a kit for every hospital: endofed provision FILE.",
    ),
    "site": _entry(
        DEPLOY,
        "site",
        "site_app",
        "A hospital's part in a federation: check, key, approval, dry run, start.",
    ),
    "federation": _entry(
        DEPLOY,
        "federation",
        "federation_app",
        "The server of a provisioned federation: start it, register sites, run.",
    ),
}

app = lazy_app(
    "Federated training of a segmentation foundation model for X-ray fluoroscopy.",
    COMMANDS,
)


def main() -> None:
    """Run the command line."""
    app()

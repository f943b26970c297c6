"""`endofed export`: a model in other people's formats, with its card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from clients.annotations.annotation import LabelMap
from clients.data.archive import LAYOUTS
from clients.data.catalogue import FolderSpec
from clients.data.errors import DataError
from experiments.commands.errors import user_errors
from experiments.exporting.adapter import ADAPTER_FOLDER, export_adapter
from experiments.exporting.card import model_card, write_card
from experiments.exporting.frames import (
    ExportFrames,
    folder_frames,
    simulated_frames,
)
from experiments.exporting.gains import measure, summary
from experiments.exporting.official import export_official
from experiments.exporting.onnx_export import digest_of, export_onnx
from experiments.exporting.quantise import PRECISIONS, quantise
from experiments.exporting.staging import ExportError, staged
from experiments.exporting.torch_export import export_torch
from experiments.model_source import ModelSource, open_model
from models.classes import CLASS_NAMES
from server.checkpoints import LIMITS, installed_versions
from server.journal import write_json
from strategies.settings import SettingsError

FORMATS = ("onnx", "torch-export", "adapter", "official", "card")
REPORT_FILE = "export.json"
LOADING = {
    "onnx": "`onnxruntime.InferenceSession(file)`; frames prepared as its metadata say",
    "pt2": "`torch.export.load(file).module()(images)`",
    "official": "`segment_anything.sam_model_registry[...](checkpoint=file)`",
    "adapter": "`experiments/exporting/adapter.py` and `export.json` tell the base",
}


def export_command(
    model: Annotated[
        str,
        typer.Argument(
            help="A .safetensors file, an official SAM file (.pth), models:/NAME@ALIAS "
            "or random; for --to adapter the folder of a run."
        ),
    ],
    to: Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")],
    output: Annotated[Path, typer.Option(help="Folder; made if missing.")],
    precision: Annotated[
        str, typer.Option(help=f"Of ONNX: one of {', '.join(PRECISIONS)}.")
    ] = "float32",
    calibration_data: Annotated[
        Path | None,
        typer.Option(help="A site's folder, in place of simulated frames."),
    ] = None,
    classes: Annotated[
        str, typer.Option(help="What that folder annotates, as catheter,guidewire.")
    ] = ",".join(CLASS_NAMES),
    layout: Annotated[str, typer.Option(help="Of it: auto, pairs or dicom.")] = "auto",
    key: Annotated[Path | None, typer.Option(help="Key file of the site.")] = None,
    base: Annotated[
        Path | None, typer.Option(help="Official SAM file that a LoRA run began with.")
    ] = None,
    name: Annotated[str, typer.Option(help="Network of a .pth file or random.")] = "",
    image_size: Annotated[int, typer.Option(help="Of those two, px.")] = 0,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of a timed pass.")] = 2,
) -> None:
    """Write a model as ONNX, torch.export, PEFT adapter, official SAM or card."""
    console = Console()
    with user_errors(private=calibration_data is not None):
        _check(to, precision)
        if to == "adapter":
            found = _write_adapter(Path(model), output, base)
        else:
            source = open_model(model, name=name, image_size=image_size, seed=seed)
            if source.labels and to != "card":
                raise ExportError(
                    "This model classifies whole frames; only its card can be "
                    "exported (--to card)."
                )
            if precision == "float32":
                frames = None
            elif calibration_data is None:
                frames = simulated_frames(source)
            else:
                spec = _folder_spec(calibration_data, layout, classes)
                frames = folder_frames(source, spec, key)
            found = _write_model(source, to, output, frames, precision, threads)
        _tell(console, output, found)


def _write_adapter(run: Path, output: Path, base: Path | None) -> dict[str, Any]:
    with staged(output) as folder:
        checkpoint = "" if base is None else str(base)
        found = export_adapter(run, folder, checkpoint=checkpoint)
        loading = {ADAPTER_FOLDER: LOADING["adapter"]}
        _report(folder, {"format": "adapter", **found, "loading": loading})
    return found


def _write_model(
    source: ModelSource,
    to: str,
    output: Path,
    frames: ExportFrames | None,
    precision: str,
    threads: int,
) -> dict[str, Any]:
    """Write every file of an export; with frames also a smaller graph."""
    with staged(output) as folder:
        found, loading = _export(source, to, folder)
        if frames is not None:
            graph, small = folder / "model.onnx", folder / f"model.{precision}.onnx"
            how = quantise(source, graph, small, precision, frames)
            loading[small.name] = LOADING["onnx"]
            files = {"float32": graph, precision: small}
            found |= _gains(source, files, frames, how, threads)
        write_card(folder, model_card(source), loading)
        _report(folder, {"format": to, "digest": digest_of(source), **found})
    return found


def _check(to: str, precision: str) -> None:
    if to not in FORMATS:
        raise SettingsError(f"--to must be one of {', '.join(FORMATS)}, got '{to}'.")
    if precision not in PRECISIONS:
        raise SettingsError(
            f"--precision must be one of {', '.join(PRECISIONS)}, got '{precision}'."
        )
    if precision != "float32" and to != "onnx":
        raise ExportError(f"--precision {precision} is for --to onnx, got --to {to}.")


def _folder_spec(folder: Path, layout: str, classes: str) -> FolderSpec:
    names = tuple(name.strip() for name in classes.split(","))
    if not set(names) <= set(CLASS_NAMES) or len(set(names)) < len(names):
        raise SettingsError(
            f"--classes wants different ones of {', '.join(CLASS_NAMES)} with commas "
            "between."
        )
    if layout not in LAYOUTS:
        raise SettingsError(f"--layout must be one of {', '.join(LAYOUTS)}.")
    if not folder.is_dir():
        raise DataError("The folder that you named does not exist.")
    return FolderSpec(folder=folder, layout=layout, labels=LabelMap(classes=names))


def _export(
    source: ModelSource, to: str, folder: Path
) -> tuple[dict[str, Any], dict[str, str]]:
    """Write one format; return what to report and how its files are loaded."""
    if to == "onnx":
        found = export_onnx(source, folder / "model.onnx")
        return found, {"model.onnx": LOADING["onnx"]}
    if to == "torch-export":
        found = export_torch(source, folder / "model.pt2")
        return found, {"model.pt2": LOADING["pt2"]}
    if to == "official":
        file = f"{source.recipe.name}.pth"
        return export_official(source, folder / file), {file: LOADING["official"]}
    return {}, {}


def _gains(
    source: ModelSource,
    files: dict[str, Path],
    frames: ExportFrames,
    how: str,
    threads: int,
) -> dict[str, Any]:
    measured = measure(source, files, frames.validation, threads=threads)
    return {
        "quantisation": how,
        "frames": {
            "origin": frames.origin,
            "calibration": len(frames.calibration),
            "validation": len(frames.validation),
        },
        "threads": threads,
        "measured": [one.to_json() for one in measured],
        "summary": summary(measured),
    }


def _report(folder: Path, content: Mapping[str, Any]) -> None:
    versions = {**installed_versions(), **_more_versions()}
    whole = {**content, "limits": LIMITS, "versions": versions}
    write_json(folder / REPORT_FILE, whole)


def _more_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("onnx", "onnxruntime", "peft")}


def _tell(console: Console, output: Path, found: Mapping[str, Any]) -> None:
    if "differences" in found:
        worst = max(found["differences"].values())
        console.print(
            f"Checked on {len(found['differences'])} inputs: the largest difference is "
            f"{worst:.1e} of the largest logit, or of 1.",
            soft_wrap=True,
        )
    for sentence in found.get("summary", ()):
        console.print(sentence, soft_wrap=True, highlight=False)
    names = ", ".join(sorted(path.name for path in output.iterdir()))
    console.print(f"{output} has: {names}", soft_wrap=True, highlight=False)

"""Pictures of frames with labels and predictions that lie in the run folder."""

import base64
import io
from pathlib import Path

from markupsafe import Markup

from experiments.report.markup import EMPTY, Section, figure, joined, paragraph, tag
from experiments.report.plain_text import as_mapping
from experiments.report.run import Run

FOLDERS = ("overlays", "gallery", "worst")
WORDS = ("overlay", "worst")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
MAX_PICTURES = 12
MAX_SIDE = 1600  # px of a picture on the page
MAX_PIXELS = 60_000_000  # of a file; a larger one is left out
LEAST_WIDTH = 680  # px on the page: on a phone a picture is moved and not shrunk
QUALITY = 88  # of WebP: outlines of one pixel stay sharp


def gallery_section(run: Run) -> Section | None:
    """Show the overlays of a run; None without any."""
    paths = _find(run.folder)
    pictures, broken = [], 0
    for path in paths:
        if len(pictures) == MAX_PICTURES:
            break
        picture = _picture(path, len(pictures) + 1)
        broken += not picture
        pictures += [picture] if picture else []
    if not paths:
        return None
    left = len(paths) - len(pictures) - broken
    notes = [f"{left} more lie in the run folder."] if left else []
    notes += [f"{broken} could not be read and are left out."] if broken else []
    body = joined(
        [_whose(run), *pictures, *(paragraph(note, "note") for note in notes)]
    )
    return Section("gallery", "Overlays", body)


def _whose(run: Run) -> Markup:
    """Say whether the page shows patients, as far as the run folder tells."""
    told = [as_mapping(study.get("data")).get("simulated") for study in run.fewshot]
    if False in told:
        text = "These pictures show frames of a site: this page must not leave it."
        return paragraph(text, "warning")
    if told and all(told):
        return paragraph("The frames are simulated.", "note")
    text = "If these are frames of a site, this page must not leave it."
    return paragraph(text, "note")


def _find(folder: Path) -> list[Path]:
    """Return overlays of the run and of its studies in a stable order; no links."""
    return [
        path
        for figures in (folder / "figures", *sorted(folder.glob("*/figures")))
        for path in sorted(figures.rglob("*"))
        if not path.name.startswith(".")  # being written
        and path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not path.is_symlink()
        and (
            any(word in path.stem.lower() for word in WORDS)
            or any(one.name in FOLDERS for one in path.relative_to(figures).parents)
        )
    ]


def _picture(path: Path, index: int) -> Markup:
    """Put a picture into the page, drawn anew: what else the file says stays behind."""
    from PIL import Image, UnidentifiedImageError  # slow to import

    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return EMPTY
            image = opened.convert("RGB")
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return EMPTY
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    code = base64.b64encode(stream.getvalue()).decode("ascii")
    # Names of files may be names of patients: only those that we give are told.
    name = "few-shot study" if path.stem == "fewshot_overlay" else f"picture {index}"
    picture = Markup(
        '<img alt="{}" width="{}" height="{}" style="min-width:{}px" '
        'src="data:image/webp;base64,{}">'
    ).format(
        f"Overlay, {name}",
        image.width,
        image.height,
        min(image.width, LEAST_WIDTH),
        Markup(code),
    )
    caption = f"Overlay, {name}: frame, label, predictions"
    box = tag(
        "div",
        picture,
        class_="picture",
        role="region",
        tabindex="0",
        aria_label=caption,
    )
    return figure(box, caption)

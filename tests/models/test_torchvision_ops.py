import subprocess
import sys

from models.torchvision_ops import (
    compiled_operators_load,
    make_torchvision_importable,
)


def test_segment_anything_can_be_imported_first_thing() -> None:
    code = (
        "from models.torchvision_ops import make_torchvision_importable as make;"
        "make(); make(); import segment_anything, torchvision"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_schemas_are_declared_only_where_the_compiled_half_is_missing() -> None:
    code = (
        "import models.torchvision_ops as ops;"
        "before = ops.compiled_operators_load();"
        "ops.make_torchvision_importable();"
        "assert bool(ops._declared) != before, before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_the_answer_does_not_change_once_the_schemas_are_declared() -> None:
    before = compiled_operators_load()
    make_torchvision_importable()
    assert compiled_operators_load() == before

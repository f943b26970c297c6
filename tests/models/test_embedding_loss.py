import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, softmax

from models.embedding_loss import embedding_loss, prototypes

DIM = 8


def random_features(batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, DIM, 4, 4, generator=generator)


def left_half(batch: int) -> Tensor:
    masks = torch.zeros(batch, 16, 16, dtype=torch.uint8)
    masks[:, :, :8] = 1
    return masks


def two_cells(device: list[float], rest: list[float]) -> Tensor:
    """Return embeddings (dim, 1, 2) of a device on the left and the rest beside it."""
    return torch.tensor([device, rest]).T[:, None, :]


def test_a_prototype_is_the_mean_embedding_of_the_devices_cells() -> None:
    features = torch.arange(8.0).view(1, 2, 2, 2)  # channels 0 1 2 3 and 4 5 6 7
    masks = torch.zeros(1, 4, 4)
    masks[0, 0, 0] = masks[0, 3, 3] = 1  # the first cell and the last
    found = prototypes(features, masks)
    assert found.foreground.tolist() == [[1.5, 5.5]]
    assert found.background.tolist() == [[1.5, 5.5]]
    masks[0, 3, 3] = 0
    found = prototypes(features, masks)
    assert found.foreground.tolist() == [[0, 4]]
    assert found.background.tolist() == [[2, 6]]
    assert found.has_foreground.tolist() == found.has_background.tolist() == [True]


@pytest.mark.parametrize("size", [16, 30])
def test_defect_2_one_pixel_of_a_thin_wire_marks_its_cell(size: int) -> None:
    features = random_features(1, seed=0)
    for row in range(size):
        masks = torch.zeros(1, size, size)
        masks[0, row, size - 1] = 1
        cell = features[0, :, row * 4 // size, 3]
        found = prototypes(features, masks)
        assert bool(found.has_foreground)
        if size % 4 == 0:  # else a pixel may lie in two cells
            torch.testing.assert_close(found.foreground[0], cell)


def test_an_empty_mask_has_no_device_and_a_full_one_no_rest() -> None:
    masks = torch.stack([torch.zeros(16, 16), torch.ones(16, 16)])
    found = prototypes(random_features(2, seed=0), masks)
    assert found.has_foreground.tolist() == [False, True]
    assert found.has_background.tolist() == [True, False]
    assert not bool(found.foreground[0].any())
    assert not bool(found.background[1].any())


def test_cells_behind_the_collimator_belong_to_nothing() -> None:
    features = random_features(1, seed=0)
    valid = torch.zeros(1, 16, 16, dtype=torch.bool)
    valid[:, :, 4:12] = True
    found = prototypes(features, left_half(1), valid)
    torch.testing.assert_close(found.foreground[0], features[0, :, :, 1].mean(1))
    torch.testing.assert_close(found.background[0], features[0, :, :, 2].mean(1))


def test_infonce_of_two_images_by_hand() -> None:
    student = torch.stack(
        [two_cells([1.0, 0.0], [9.0, 9.0]), two_cells([0.0, 2.0], [9.0, 9.0])]
    )
    teacher = torch.stack(
        [two_cells([3.0, 4.0], [0.0, 1.0]), two_cells([0.0, 5.0], [-1.0, 0.0])]
    )
    masks = torch.tensor([[[1, 0]], [[1, 0]]])
    found = embedding_loss(student, teacher, masks, kind="infonce", temperature=0.5)
    # Image 1: own device 0.6, own rest 0, the other's device 0. Image 2: 1, 0, 0.8.
    first = -math.log(math.exp(1.2) / (math.exp(1.2) + math.exp(0) + math.exp(0)))
    second = -math.log(math.exp(2) / (math.exp(2) + math.exp(0) + math.exp(1.6)))
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)
    found = embedding_loss(student, teacher, masks, kind="positive", temperature=0.5)
    assert found.item() == pytest.approx((0.4 + 0.0) / 2 / 0.5, rel=1e-5)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_defects_1_and_3_infonce_equals_its_formula_image_by_image(batch: int) -> None:
    student, teacher = random_features(batch, seed=1), random_features(batch, seed=2)
    found = embedding_loss(
        student, teacher, left_half(batch), kind="infonce", temperature=0.3
    )
    own, wanted = student[..., :2].mean((2, 3)), teacher[..., :2].mean((2, 3))
    rest = teacher[..., 2:].mean((2, 3))
    losses = []
    for index in range(batch):
        anchor = own[index]
        positive = torch.exp(cosine_similarity(anchor, wanted[index], dim=0) / 0.3)
        others = [rest[index], *(w for k, w in enumerate(wanted) if k != index)]
        negative = sum(
            torch.exp(cosine_similarity(anchor, one, dim=0) / 0.3) for one in others
        )
        losses.append(-torch.log(positive / (positive + negative)))
    torch.testing.assert_close(found, torch.stack(losses).mean())
    assert found > 0.01  # also of one image: nothing is divided by its own sum


def test_defect_1_the_scale_of_an_image_and_of_its_neighbours_does_not_matter() -> None:
    # Normalised over the batch, one image would change with the other's length.
    student, teacher = random_features(2, seed=1), random_features(2, seed=2)
    scale = torch.tensor([1.0, 50.0]).view(2, 1, 1, 1)
    losses = [
        embedding_loss(
            factor * student, teacher, left_half(2), kind="infonce", temperature=0.3
        )
        for factor in (torch.ones(1), scale)
    ]
    torch.testing.assert_close(losses[0], losses[1])


def released_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """What the paper's code computes of prototypes (batch, dim), row 1 of the facts."""
    own = student / student.norm(dim=0, keepdim=True)
    wanted = teacher / teacher.norm(dim=0, keepdim=True)
    shares = softmax(own @ wanted.T / temperature, dim=1).diagonal()
    return -torch.log((shares / shares.sum()).sum())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_defect_1_the_released_loss_is_zero_whatever_the_features(batch: int) -> None:
    student, teacher = random_features(batch, seed=1), random_features(batch, seed=2)
    student.requires_grad_(True)
    released = released_loss(student.mean((2, 3)), teacher.mean((2, 3)), 0.3)
    (slope,) = torch.autograd.grad(released, student)
    assert released.item() == pytest.approx(0, abs=1e-6)
    assert slope.abs().max() < 1e-6
    ours = embedding_loss(
        student, teacher, left_half(batch), kind="zero", temperature=0.3
    )
    ours.backward()
    assert ours.item() == 0
    assert student.grad is not None
    assert not bool(student.grad.any())


@pytest.mark.parametrize("kind", ["infonce", "positive"])
def test_the_working_losses_pull_the_student_to_the_teacher(kind: str) -> None:
    student, teacher = random_features(2, seed=1), random_features(2, seed=2)
    student.requires_grad_(True)
    masks = left_half(2)

    def likeness() -> float:
        first, second = prototypes(student, masks), prototypes(teacher, masks)
        return cosine_similarity(first.foreground, second.foreground).min().item()

    before = likeness()
    optimiser = torch.optim.Adam([student], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        embedding_loss(student, teacher, masks, kind=kind, temperature=0.3).backward()
        optimiser.step()
    assert before < 0.5
    assert likeness() > 0.7


def test_both_networks_get_gradients() -> None:
    student, teacher = random_features(2, seed=1), random_features(2, seed=2)
    student.requires_grad_(True)
    teacher.requires_grad_(True)
    embedding_loss(
        student, teacher, left_half(2), kind="infonce", temperature=0.3
    ).backward()
    assert student.grad is not None
    assert teacher.grad is not None
    assert bool(student.grad.any())
    assert bool(teacher.grad.any())


@pytest.mark.parametrize("kind", ["infonce", "positive"])
def test_defect_7_images_without_pseudo_label_are_left_out(kind: str) -> None:
    student, teacher = random_features(3, seed=1), random_features(3, seed=2)
    masks = left_half(3)
    masks[1] = 0
    kept = torch.tensor([0, 2])
    torch.testing.assert_close(
        embedding_loss(student, teacher, masks, kind=kind, temperature=0.3),
        embedding_loss(
            student[kept], teacher[kept], masks[kept], kind=kind, temperature=0.3
        ),
    )


@pytest.mark.parametrize("value", [0, 1])
def test_without_device_or_without_rest_a_lone_image_teaches_nothing(
    value: int,
) -> None:
    student, teacher = random_features(1, seed=1), random_features(1, seed=2)
    student.requires_grad_(True)
    masks = torch.full((1, 16, 16), value)
    loss = embedding_loss(student, teacher, masks, kind="infonce", temperature=0.3)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert student.grad.tolist() == torch.zeros_like(student).tolist()


def test_what_does_not_fit_is_refused() -> None:
    features, masks = random_features(2, seed=1), left_half(2)
    with pytest.raises(ValueError, match="one of infonce, positive, zero, got 'nce'"):
        embedding_loss(features, features, masks, kind="nce", temperature=0.3)
    with pytest.raises(ValueError, match=r"must be > 0, got 0\."):
        embedding_loss(features, features, masks, kind="infonce", temperature=0.0)
    with pytest.raises(ValueError, match="one batch and width"):
        embedding_loss(
            features, features[:, :4], masks, kind="infonce", temperature=0.3
        )
    with pytest.raises(ValueError, match="masks \\(batch, height, width\\)"):
        prototypes(features, masks[:1])
    with pytest.raises(ValueError, match="valid of their shape"):
        prototypes(features, masks, masks[:1].bool())

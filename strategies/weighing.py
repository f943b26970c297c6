"""What a teacher counts: from features to scores to weights.

Raw scores are FedEFM's (arXiv 2501.16992, eqs. 3 to 5): the Earth Mover's Distance
between what student and teacher make of the same frames. They hardly tell teachers
apart, as every teacher is the student plus a few steps. Common scores are ours: a
frame's tokens against prototype tokens of the teacher's site, both through one
encoder, so that they say whose kind of frame it is. Knows nothing of Flower.

FedEFM defect 9: the published score has the scale of the masses and may be negative.
Here masses sum to one, a negative score counts nothing, and every weight is reported,
so that one sees whether it carries information at all.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from strategies.fedefm_settings import FedEFMSettings
from strategies.transport import emd_similarity, pool_to_nodes

NO_SPREAD = 1e-6
"""A deviation of scores that is rounding of a float32 cosine, not information."""


class Scores(NamedTuple):
    """How well teachers suit the frames of a batch, one row a teacher."""

    teachers: tuple[str, ...]
    score: Tensor  # (teachers, batch): what weights are made of
    gap: Tensor  # (teachers, batch): error bound of `emd`, see strategies/transport.py
    emd: Tensor  # (teachers, batch) in [-1, 1]: the similarity before standardisation

    def of(self, names: Sequence[str]) -> "Scores":
        """Return the rows of some teachers, in the order of the names."""
        rows = [self.teachers.index(name) for name in names]
        return Scores(tuple(names), self.score[rows], self.gap[rows], self.emd[rows])


def raw_scores(
    student_features: Tensor,
    teacher_features: Mapping[str, Tensor],
    settings: FedEFMSettings,
) -> Scores:
    """Score every teacher on the student's own mini-batch, eq. (3).

    Args:
        student_features: U, (batch, dim, height, width), of the batch xi_i.
        teacher_features: V of each teacher on the same batch, the same shape.
        settings: Grid, marginals, centring, gradient and solver.

    Returns:
        The similarity of every teacher and frame, in [-1, 1]; no rows without
        teachers. It carries gradients as `emd_gradient` says.

    Raises:
        ValueError: If shapes disagree, a feature is not finite or the grid is finer
            than the map.
    """
    if not teacher_features:
        return _nobody(student_features)
    students = pool_to_nodes(student_features, settings.grid_size)
    # One call a teacher: the bits of a score then do not depend on who else is there.
    found = [
        emd_similarity(
            students,
            pool_to_nodes(features, settings.grid_size),
            marginals=settings.marginals,
            centred=settings.centred,
            gradient=settings.emd_gradient,
            solver=settings.solver,
        )
        for features in teacher_features.values()
    ]
    emd = torch.stack([one.score for one in found])
    gap = torch.stack([one.transport.gap for one in found])
    return Scores(tuple(teacher_features), emd, gap, emd)


def common_scores(
    frame_tokens: Tensor, prototypes: Mapping[str, Tensor], settings: FedEFMSettings
) -> Scores:
    """Score every teacher by how much a frame looks like those of its site.

    The similarity of the frame's tokens to a site's prototypes, both centred, is
    double-centred over teachers and frames (some frames resemble everything, some
    sites do) and divided by its standard deviation. With `weight_per` "batch" the
    batch counts as one frame: its mean similarity is taken first.

    Degenerate cases: one frame is centred over the teachers alone, as there is nothing
    else to compare it with; one teacher, or similarities that do not differ, score 0.

    Args:
        frame_tokens: (batch, n, dim), of the frames through the common encoder.
        prototypes: (k, dim) of each teacher's site through the same encoder; k may
            differ.
        settings: Marginals, solver and whether a batch counts as one frame.

    Returns:
        Scores of mean 0 and deviation 1 over the matrix, or 0; without gradients.

    Raises:
        ValueError: If a token is not finite, dimensions disagree or a teacher has no
            prototype.
    """
    if not prototypes:
        return _nobody(frame_tokens)
    known = {name: one.to(frame_tokens) for name, one in prototypes.items()}
    return _compared(frame_tokens.detach(), known, settings, centred=True)


def standardised_scores(
    frame_tokens: Tensor, prototypes: Mapping[str, Tensor], settings: FedEFMSettings
) -> Scores:
    """Score every teacher by how much a frame looks like those of its site.

    Differs from `common_scores` in what is taken as usual. There each set of tokens is
    centred on itself, which loses how sites differ as a whole (polarity, noise), and
    the scores are centred over the frames of the batch, which are few. Here every
    channel is standardised by mean and deviation over the prototypes of all sites, each
    site counting alike, and scores are centred over the teachers alone, so that a frame
    is judged the same whoever shares its batch.

    Args:
        frame_tokens: (batch, n, dim), of the frames through the common encoder.
        prototypes: (k, dim) of each teacher's site through the same encoder; k may
            differ.
        settings: Marginals, solver and whether a batch counts as one frame.

    Returns:
        Scores of mean 0 over the teachers and deviation 1 over the matrix, or 0;
        without gradients. A channel in which no prototypes differ counts nothing.

    Raises:
        ValueError: As `common_scores`.
    """
    if not prototypes:
        return _nobody(frame_tokens)
    known = {name: one.to(frame_tokens) for name, one in prototypes.items()}
    centre = torch.stack([one.mean(0) for one in known.values()]).mean(0)
    spread = torch.stack(
        [(one - centre).square().mean(0) for one in known.values()]
    ).mean(0)
    scale = torch.where(spread > 0, spread.rsqrt(), torch.zeros_like(spread))
    return _compared(
        (frame_tokens.detach() - centre) * scale,
        {name: (one - centre) * scale for name, one in known.items()},
        settings,
        centred=False,
    )


def _compared(
    frame_tokens: Tensor,
    prototypes: Mapping[str, Tensor],
    settings: FedEFMSettings,
    *,
    centred: bool,
) -> Scores:
    """Compare tokens with those of all sites and standardise what is found.

    With `centred` every set is centred on itself, and scores over the frames, too.
    """
    found = [
        emd_similarity(
            frame_tokens,
            tokens.expand(len(frame_tokens), -1, -1),
            marginals=settings.marginals,
            centred=centred,
            solver=settings.solver,
        )
        for tokens in prototypes.values()
    ]
    emd = torch.stack([one.score for one in found])
    gap = torch.stack([one.transport.gap for one in found])
    compared = emd.mean(1, keepdim=True) if settings.weight_per == "batch" else emd
    score = _standardised(compared, over_frames=centred).to(emd.dtype).expand_as(emd)
    return Scores(tuple(prototypes), score, gap, emd)


def complete(scores: Scores, teachers: Sequence[str]) -> Scores:
    """Give teachers that could not be scored the mean of those that could.

    Args:
        scores: Of some of the teachers.
        teachers: All of them.

    Returns:
        A row for each teacher in that order. A new row is the mean over the known
        ones, frame by frame, or 0 when nobody is known.
    """
    batch = scores.score.shape[1]
    known = {name: scores.teachers.index(name) for name in scores.teachers}

    def fill(values: Tensor) -> Tensor:
        mean = values.mean(0) if known else values.new_zeros(batch)
        rows = [values[known[name]] if name in known else mean for name in teachers]
        return torch.stack(rows) if rows else values.new_zeros(0, batch)

    return Scores(
        tuple(teachers), fill(scores.score), fill(scores.gap), fill(scores.emd)
    )


def edge_weights(
    scores: Tensor, settings: FedEFMSettings, generator: torch.Generator
) -> Tensor:
    """Turn scores into what each teacher counts on each frame.

    Args:
        scores: (teachers, batch).
        settings: With `weight_per` "batch" all frames of a teacher share the weight
            of its mean score. `edge_weight`: "emd" is the score, 0 where negative (a
            teacher that points the other way teaches nothing); "softmax" is that over
            the teachers at `weight_temperature`, and "oracle" the same of scores that
            are what only labels can tell; "one" and "random" (uniform on 0 to
            1) are the controls that show what the score adds.
        generator: CPU source of the random weights.

    Returns:
        Weights (teachers, batch), >= 0; those of "softmax" sum to 1 over teachers.
        Where all teachers' common scores of a frame are equal, the scores tell
        nothing, and with "emd" every teacher counts 1.
    """
    teachers, batch = scores.shape
    if teachers == 0 or settings.edge_weight == "one":
        return torch.ones_like(scores)
    per_batch = settings.weight_per == "batch"
    if settings.edge_weight == "random":
        columns = 1 if per_batch else batch
        drawn = torch.rand(teachers, columns, generator=generator)
        return drawn.to(scores).expand(teachers, batch)
    if per_batch:
        # Row by row, so that a mean does not depend on how many teachers there are.
        means = torch.stack([row.mean() for row in scores])
        scores = means[:, None].expand(teachers, batch)
    if settings.edge_weight in ("softmax", "oracle"):
        return (scores / settings.weight_temperature).softmax(0)
    weights = scores.clamp_min(0.0)
    if settings.needs_prototypes:
        # Standardised scores of a tie are 0, which must not silence everyone.
        tied = scores.amax(0) == scores.amin(0)
        weights = torch.where(tied, torch.ones_like(weights), weights)
    return weights


def _standardised(similarity: Tensor, *, over_frames: bool) -> Tensor:
    """Centre (teachers, frames) and divide by the deviation, in float64."""
    centred = similarity.double()
    centred = centred - centred.mean(0)
    if over_frames and similarity.shape[1] > 1:
        centred = centred - centred.mean(1, keepdim=True)
    deviation = centred.square().mean().sqrt()
    if not bool(deviation > NO_SPREAD):
        return torch.zeros_like(centred)
    return centred / deviation


def _nobody(like: Tensor) -> Scores:
    empty = like.new_zeros(0, len(like))
    return Scores((), empty, empty, empty)

"""Attention with relative positions in blocks that stay in a processor's cache.

Only some rows of the attention matrix exist at a time; the backward pass computes them
again from the logarithm of their sum [Dao et al., "FlashAttention", NeurIPS 2022,
algorithms 1 and 4]. The bias of a query is a sum of one number for the key's row and
one for its column, so it is added to the block where it lies, and its gradient is a
sum over the block.

Registered as operators of PyTorch, so that `torch.compile` takes the loop as one step.
They have a gradient, but no gradient of the gradient.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

# A thread's share of a block; a core's second-level cache has 1 to 2 MiB.
BLOCK_BYTES = 2**20


@torch.library.custom_op("endofed::attend_in_blocks", mutates_args=())
def attend_in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    by_row: Tensor,
    by_column: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Compute softmax(scale q·k + by_row[row of k] + by_column[column of k]) v.

    Args:
        query: (heads, tokens, dim), any number of heads of any number of images;
            tokens are those of a grid, row by row.
        key: Likewise.
        value: Likewise.
        by_row: (heads, tokens, height), logits of a query for the rows of the grid.
        by_column: (heads, tokens, width), for its columns; height x width = tokens.
        scale: Of the products.

    Returns:
        The attended values (heads, tokens, dim), and the logarithms of the sums of
        every query's exponentials (heads, tokens, 1), which have no gradient.
    """
    attended = value.new_empty(value.shape)
    log_sums = query.new_empty(*query.shape[:2], 1)
    for heads, rows in _blocks(by_row, by_column):
        block = _logits(
            query[heads, rows],
            key[heads],
            by_row[heads, rows],
            by_column[heads, rows],
            scale,
        )
        largest = block.amax(-1, keepdim=True)
        sums = block.sub_(largest).exp_().sum(-1, keepdim=True)
        attended[heads, rows] = torch.bmm(block, value[heads]).div_(sums)
        log_sums[heads, rows] = sums.log_().add_(largest)
    return attended, log_sums


@attend_in_blocks.register_fake
def _(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    by_row: Tensor,
    by_column: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    return value.new_empty(value.shape), query.new_empty(*query.shape[:2], 1)


@torch.library.custom_op("endofed::attend_in_blocks_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    by_row: Tensor,
    by_column: Tensor,
    attended: Tensor,
    log_sums: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of query, key, value, by_row and by_column."""
    for_query, for_row, for_column = map(_empty, (query, by_row, by_column))
    for_key, for_value = _empty(key).zero_(), _empty(value).zero_()
    minus_mean = (attended * gradient).sum(-1, keepdim=True).neg_()
    grid = by_row.shape[-1], by_column.shape[-1]
    for heads, rows in _blocks(by_row, by_column):
        here, some_queries = gradient[heads, rows], query[heads, rows]
        weights = _logits(
            some_queries,
            key[heads],
            by_row[heads, rows] - log_sums[heads, rows],
            by_column[heads, rows],
            scale,
        ).exp_()
        for_value[heads].baddbmm_(weights.mT, here)
        for_logits = torch.baddbmm(minus_mean[heads, rows], here, value[heads].mT).mul_(
            weights
        )
        for_query[heads, rows] = torch.bmm(for_logits, key[heads])
        for_key[heads].baddbmm_(for_logits.mT, some_queries, alpha=scale)
        on_grid = for_logits.unflatten(2, grid)
        for_row[heads, rows] = on_grid.sum(3)
        for_column[heads, rows] = on_grid.sum(2)
    return for_query.mul_(scale), for_key, for_value, for_row, for_column


@_backward.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    by_row: Tensor,
    by_column: Tensor,
    attended: Tensor,
    log_sums: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return (
        _empty(query),
        _empty(key),
        _empty(value),
        _empty(by_row),
        _empty(by_column),
    )


class _Kept(torch.autograd.function.FunctionCtx):
    """What autograd carries from forward to backward, for the type checker."""

    scale: float
    saved_tensors: tuple[Tensor, ...]


def _remember(
    ctx: _Kept,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor, float],
    output: tuple[Tensor, Tensor],
) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.scale = scale


def _differentiate(
    ctx: _Kept, gradient: Tensor, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    return (*_backward(gradient, *ctx.saved_tensors, ctx.scale), None)


attend_in_blocks.register_autograd(_differentiate, setup_context=_remember)


def _logits(
    query: Tensor, key: Tensor, by_row: Tensor, by_column: Tensor, scale: float
) -> Tensor:
    """Return the logits of some queries for all keys, (heads, queries, tokens)."""
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(2)
    return bias.baddbmm_(query, key.mT, alpha=scale)


def _blocks(by_row: Tensor, by_column: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield heads and queries: several whole heads, or some queries of one head."""
    heads, tokens = by_row.shape[:2]
    budget = BLOCK_BYTES * torch.get_num_threads()
    rows = max(1, budget // (tokens * by_row.element_size()))
    together = max(1, rows // tokens)
    for head in range(0, heads, together):
        for row in range(0, tokens, rows):
            yield slice(head, head + together), slice(row, row + rows)


def _empty(like: Tensor) -> Tensor:
    """Return room for a tensor's gradient, contiguous."""
    return like.new_empty(like.shape)

"""Contrast of items with graded positives, in blocks, without materialising the [batch, n_items] matrix."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from mmprep.models.layers.da_mrs.item_relations import GROUP, similar_items
from mmprep.models.layers.da_mrs.row_parallel import map_row_chunks, rows_per_block

BLOCK_COSINES = 2**18
"""Number of cosines per view that a CPU core holds at once, 1 MiB."""

Mode = Literal["both", "sp", "mp"]


@dataclass(frozen=True)
class Grades:
    """Grades of similarity between items, and the form of the contrast.

    Attributes:
        multi: number of items similar by several views (MP).
        single: number of further items similar by one view (SP).
        temperature: tau; at least 0.05, so that exponentials do not overflow f32.
        mode: `both` contrasts MP with all, and SP with all but MP; `mp` and `sp` have MP, or MP and SP, as positives of
            a single contrast with all.
        exclude_self: whether an item is excluded from its own contrast; else it is in its own MP.
    """

    multi: int = 10
    single: int = 10
    temperature: float = 0.2
    mode: Mode = "both"
    exclude_self: bool = False


class _GradedContrast(torch.autograd.Function):
    """Computes gradients together with the value, so that cosines for selection and loss are computed only once."""

    @staticmethod
    def forward(ctx: Any, views: Tensor, rows: Tensor, others: Tensor | None, grades: Grades) -> Tensor:  # noqa: ANN401
        views, n = views.detach(), views.shape[1]
        # Products of wide and narrow matrices are several times faster if the long side is contiguous.
        columns = pad(views.transpose(1, 2), (0, -n % GROUP)).contiguous()

        def of(part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return contrast_rows(views[:, part], columns, part, n, others, grades)

        chunks = map_row_chunks(of, rows)
        values, by_rows, by_columns = zip(*chunks, strict=True)
        by_views = sum(by_columns[1:], by_columns[0])[:, :n].index_add_(1, rows, torch.cat(by_rows, dim=1))
        count = len(views) * len(rows)
        ctx.save_for_backward(by_views.div_(count))
        return torch.stack(values).sum() / count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # noqa: ANN401
        (by_views,) = ctx.saved_tensors
        return gradient * by_views, None, None, None


def contrast_rows(
    anchors: Tensor, columns: Tensor, rows: Tensor, n: int, others: Tensor | None, grades: Grades
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the anchors' losses, and its gradients by anchors [views, rows, d] and by columns [views, width, d].

    Args:
        anchors: L2-normalised views of the contrasted items, [views, rows, d].
        columns: views of all items, [views, d, width].
        rows: columns of the anchors.
        n: number of columns that are items.
        others: as in `contrast`.
        grades: grades of similarity, and the form of the contrast.
    """
    n_views, d, width = columns.shape
    value, by_rows, by_columns = columns.new_zeros(()), [], columns.new_zeros(n_views, width, d)
    step = rows_per_block(width, BLOCK_COSINES, columns.device)
    memory = columns.new_empty(2, n_views * min(step, len(rows)) * width)
    for index, block in zip(torch.split(rows, step), torch.split(anchors, step, dim=1), strict=True):
        shape = n_views, len(index), width
        cosines, space = (part[: prod(shape)].view(shape) for part in memory)
        torch.bmm(block, columns, out=cosines)
        cosines[:, :, n:] = -torch.inf
        if grades.exclude_self:
            cosines[:, range(len(index)), index] = -torch.inf
        loss, slopes = contrast(cosines, others, grades, space)
        value += loss
        # Slopes scale the narrow factors of the products, not the wide matrix of cosines.
        by_rows.append(slopes * (cosines @ columns.transpose(1, 2)))
        by_columns.baddbmm_(cosines.transpose(1, 2), slopes * block)
    return value, torch.cat(by_rows, dim=1), by_columns


def contrast(
    cosines: Tensor, others: Tensor | None, grades: Grades, space: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sum of the losses of rows of cosines [views, rows, width], and slopes [views, rows, 1].

    The cosines are overwritten; times the slopes they are the gradient by the cosines.

    Args:
        cosines: -inf for columns that are no items.
        others: [width] 1 for the columns that count besides MP and SP, else 0; None for all.
        grades: grades of similarity, and the form of the contrast.
        space: scratch memory in the shape of the cosines.
    """
    likeness = cosines.exp_()
    multi, single = similar_items(likeness, grades.multi, grades.single, space)
    powers = raised(likeness, 1 / grades.temperature, space)
    of_multi, of_single = powers.gather(2, multi), powers.gather(2, single)
    powers.scatter_(2, multi, 0)
    if others is not None:
        powers.mul_(others).scatter_(2, single, of_single)
    # Summed, not computed as whole - top, which cancels if MP has nearly all of the whole.
    rest, top, middle = (each.sum(dim=2, keepdim=True) for each in (powers, of_multi, of_single))
    whole = rest + top
    if grades.mode == "both":
        loss = (whole / top).log() + (rest / middle).log()
        slope = 1 / whole + 1 / rest
        slopes = 1 / whole - 1 / top, slope - 1 / middle
    else:
        positive = top if grades.mode == "mp" else top + middle
        loss, slope = (whole / positive).log(), 1 / whole
        slopes = slope - 1 / positive, slope if grades.mode == "mp" else slope - 1 / positive
    powers.scatter_(2, multi, of_multi * slopes[0] / slope).scatter_(2, single, of_single * slopes[1] / slope)
    return loss.sum(), slope / grades.temperature


def raised(values: Tensor, power: float, space: Tensor | None = None) -> Tensor:
    """Raise values to a power in place; to an integer power by multiplications, which is several times faster.

    Args:
        values: non-negative, of any shape.
        power: the exponent; at least 1 if it is an integer.
        space: scratch memory in the shape of the values.
    """
    if not power.is_integer():
        return values.pow_(power)
    first = values.clone() if space is None else space.copy_(values)
    for bit in f"{int(power):b}"[1:]:
        values.square_()
        if bit == "1":
            values.mul_(first)
    return values


def graded_contrast(views: Sequence[Tensor], rows: Tensor, grades: Grades, *, within: bool) -> Tensor:
    """Graded contrastive loss of items, the mean over items and views.

    Source: docs/papers/da_mrs.md#item-alignment.

    For phi = exp(cos / tau) it is -ln(sum_MP / D1) - ln(sum_SP / D2), where D1 is the sum over all items that count,
    and D2 the same without MP. Similar items are selected from the views at each call, without gradient.

    Args:
        views: [n_items, d] for each view.
        rows: distinct items to contrast, [batch].
        grades: grades of similarity, and the form of the contrast.
        within: whether besides MP and SP only the contrasted items count (the paper); else all do (the authors' code).
    """
    unit = torch.stack([normalize(view, dim=1) for view in views])
    others = None
    if within:
        width = unit.shape[1] + -unit.shape[1] % GROUP
        others = unit.new_zeros(width).index_fill_(0, rows, 1)
    value: Tensor = _GradedContrast.apply(unit, rows, others, grades)
    return value

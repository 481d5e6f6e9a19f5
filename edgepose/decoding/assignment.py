"""The assignment problem: each row its own column, at the least total cost."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def assign(cost: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Column of each row in an assignment of least total cost, by shortest augmenting paths.

    The method is that of Crouse, "On implementing 2D rectangular assignment algorithms" (IEEE TAES 2016), O(n^3).
    Where several assignments cost the same, it decides as SciPy's ``linear_sum_assignment`` does.

    Parameters
    ----------
    cost
        [R, C], R <= C, finite.
    """
    rows, columns = cost.shape
    row_price, column_price = np.zeros(rows), np.zeros(columns)
    column_of, row_of = np.full(rows, -1, np.intp), np.full(columns, -1, np.intp)
    for start in range(rows):
        distance = np.full(columns, np.inf)
        came_from = np.full(columns, -1, np.intp)
        # Columns not reached yet, the last first: costs that are all equal then give the identity.
        waiting = np.arange(columns)[::-1].copy()
        reached: list[int] = []
        row, least = start, 0.0
        while True:
            reduced = least + cost[row, waiting] - row_price[row] - column_price[waiting]
            nearer = reduced < distance[waiting]
            distance[waiting[nearer]] = reduced[nearer]
            came_from[waiting[nearer]] = row
            least = float(distance[waiting].min())
            nearest = np.flatnonzero(distance[waiting] == least)
            free = nearest[row_of[waiting[nearest]] < 0]
            place = free[-1] if len(free) else nearest[0]
            column = int(waiting[place])
            reached.append(column)
            waiting[place] = waiting[-1]
            waiting = waiting[:-1]
            if row_of[column] < 0:
                break
            row = int(row_of[column])
        row_price[start] += least
        for seen in reached[:-1]:
            row_price[row_of[seen]] += least - distance[seen]
        column_price[reached] -= least - distance[reached]
        while True:
            row = int(came_from[column])
            row_of[column] = row
            column_of[row], column = column, int(column_of[row])
            if row == start:
                break
    return column_of

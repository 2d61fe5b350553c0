"""Plans before anything is prepared, for one machine or for several beside each other."""

import os
from collections.abc import Sequence

from sftprep.model.hardware import parse_hardware
from sftprep.model.later import Count
from sftprep.model.plan import Plan, launched, make_plan, with_later
from sftprep.model.sample import sample_rows
from sftprep.recipe.sections import Recipe


def outlook(recipe: Recipe, machines: Sequence[str], count: Count | None = None) -> list[Plan]:
    """One plan for each machine, from the data as it stands; nothing is written.

    Args:
        machines: as `model.hardware` in a recipe.
        count: gives the work of the benchmarks.
    Raises:
        ModelError: the model's layout is unknown. RecipeError: a machine is not understood.
    """
    rows = sample_rows(recipe.data, None)
    work = count(recipe) if count is not None else ()
    plans = []
    for name in machines:
        hardware = launched(parse_hardware(name), os.environ)
        plan = make_plan(recipe, None, hardware)
        plans.append(with_later(plan, recipe, hardware, work, rows) if count else plan)
    return plans

"""Rules on the generators of a recipe and on who asks them."""

from __future__ import annotations

from collections.abc import Iterator

from rlforge.recipe.findings import Case, Finding, Rule
from rlforge.registry import suggest
from rlforge.rewards.router import named_generator


def judges_name_generators_that_exist(case: Case) -> Iterator[Finding]:
    """Else the run would end when everything else has started."""
    others = [name for name in case.recipe.generators if name != "policy"]
    for key, scorer in case.scorers():
        name = named_generator(scorer)
        if name and name not in others:
            yield Finding(
                severity="error",
                key=f"{key}.generator",
                message=f"no generator is called '{name}'. {suggest(name, others)}Known: {', '.join(others) or 'none'}",
                hint=f"generators: {{policy: …, {name}: {{type: vllm}}}}",
            )


def generators_are_asked(case: Case) -> Iterator[Finding]:
    """A name with a slip in it, in an override for instance, makes one more generator instead of changing one."""
    asked = ["policy", *(name for _, scorer in case.scorers() if (name := named_generator(scorer)))]
    for name in case.recipe.generators:
        if name not in asked:
            yield Finding(
                severity="warning",
                key=f"generators.{name}",
                message=f"it is started, with a model of its own in memory, and nothing asks it. {suggest(name, asked)}"
                f"Asked: {', '.join(asked)}",
                hint=f"leave it out, or name it in a judge: {{type: judge, generator: {name}}}",
            )


GENERATOR_RULES: tuple[Rule, ...] = (judges_name_generators_that_exist, generators_are_asked)

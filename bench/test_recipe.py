"""Each stage is structurally what it claims to be, exactly."""


def test_recipe(case, gate):
    """The built pipeline has the dtypes, processors, fused and quantised modules and layout of its stage."""
    run = case.start()

    verdict = gate.facts(case.key, "recipe", expected=case.spec.expected_structure(), observed=run.structure)

    gate.check(verdict)


def test_full_recipe(recipe, meta_worker, gate):
    """The published architecture has the same facts at every stage, on a machine without a GPU too."""
    observed = meta_worker.call("describe", pipeline=recipe.pipeline, size=recipe.size, stage=recipe.stage)

    verdict = gate.facts(recipe.key, "recipe", expected=recipe.expected_structure(), observed=observed)

    gate.check(verdict)

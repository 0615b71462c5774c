"""Each stage has exactly the structure that is expected of it."""


def test_recipe(case, gate):
    """The built pipeline has the dtypes, processors, fused and quantised modules, layout and weights of its stage."""
    run = case.start()

    expected = case.spec.expected_structure()
    verdict = gate.facts(case.key, "recipe", expected=expected, observed=run.structure, exact=True)

    gate.check(verdict)


def test_full_recipe(recipe, meta_worker, gate):
    """The full-size architecture has the expected structure at each stage; checked without weights or a GPU."""
    observed = meta_worker.call("describe", pipeline=recipe.pipeline, size=recipe.size, stage=recipe.stage)

    expected = recipe.expected_structure()
    verdict = gate.facts(recipe.key, "recipe", expected=expected, observed=observed, exact=True)

    gate.check(verdict)

"""Each stage still fits into the device's memory."""


def test_fit(case, gate):
    """A case that fitted in its baseline still fits; a case that ran out of memory there still does, or fits now."""
    if gate.is_live:
        gate.cannot_judge(case.key, "fit", "live comparison", "nobody knows which arm would run out of memory")

    verdict = case.fit()

    if verdict is None:
        gate.cannot_judge(
            case.key,
            "fit",
            "no baseline",
            f"no baseline and no published figure says whether {case.key} fits into memory",
        )
    gate.check(verdict)

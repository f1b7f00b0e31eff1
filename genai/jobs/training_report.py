"""What the reports of all training jobs say alike."""

from __future__ import annotations

from collections.abc import Sequence

from genai.report.contents import ProofOutcome
from genai.training.proofs.result import ProofResult


def outcomes(proofs: Sequence[ProofResult]) -> list[ProofOutcome]:
    """How each proof ended."""
    return [
        ProofOutcome(
            name=proof.name,
            status="passed" if proof.ok else "skipped",
            detail="; ".join(proof.details),
            time_s=None if proof.cached else proof.seconds,
        )
        for proof in proofs
    ]


def warnings_of(inexact_reasons: Sequence[str]) -> list[str]:
    """What a reader must know of the run's resumes."""
    return [f"a resume was not exact: {reason}" for reason in inexact_reasons]

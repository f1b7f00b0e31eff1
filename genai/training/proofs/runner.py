"""Carries out proofs before step 1, within a budget of time, and remembers what held."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import genai
from genai.errors import GateError, Problem
from genai.log import get_logger, progress
from genai.storage.atomic import write_json
from genai.training.proofs.result import ProofResult, refuted

BUDGET_S = 60.0
"""Seconds for all proofs together; one that would begin later is left out, with a warning."""

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Proof:
    """A proof to carry out."""

    name: str
    """As `ProofResult.name`."""
    prove: Callable[[], ProofResult]
    """Raises GateError when it is refuted."""
    remember: bool = True
    """False where what it looks at changes between two runs of the same job, such as the disk."""


def proof_key(*fingerprints: str) -> str:
    """What remembered proofs are found by: hashes of config, model and data, and the versions that compute.

    Args:
        fingerprints: of everything that a proof looks at.
    """
    versions = [f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "tokenizers")]
    return hashlib.sha256("\n".join([genai.__version__, *versions, *fingerprints]).encode()).hexdigest()


def run_proofs(
    proofs: Sequence[Proof], *, key: str, cache_dir: Path, budget_s: float = BUDGET_S
) -> tuple[ProofResult, ...]:
    """Carry out what did not hold before under the same key.

    Args:
        proofs: in the order in which they run: quick ones first.
        key: from `proof_key`.
        cache_dir: where `proofs/<key>.json` is kept.
        budget_s: seconds for all of them.

    Returns:
        One result a proof, in order.

    Raises:
        GateError: with the problems of every proof that was refuted.
    """
    path = cache_dir / "proofs" / f"{key}.json"
    known = _read(path)
    deadline = time.monotonic() + budget_s
    results: list[ProofResult] = []
    problems: list[Problem] = []
    with progress("proofs before step 1", len(proofs)) as task:
        for done, proof in enumerate(proofs):
            task.update(done, proof=proof.name)
            try:
                results.append(_carry_out(proof, known, deadline))
            except GateError as error:
                _log.error("proof %s: refuted", proof.name)
                problems.extend(error.problems)
        task.update(len(proofs))
    _write(path, proofs, known, results)
    if problems:
        raise refuted(problems)
    return tuple(results)


def _carry_out(proof: Proof, known: Mapping[str, ProofResult], deadline: float) -> ProofResult:
    if proof.remember and proof.name in known:
        _log.info("proof %s: held before (%s)", proof.name, "; ".join(known[proof.name].details[:1]))
        return replace(known[proof.name], cached=True)
    if time.monotonic() > deadline:
        _log.warning("proof %s: left out, the time for proofs is used up", proof.name)
        return ProofResult(name=proof.name, ok=False, details=("left out: the time for proofs was used up",))
    result = proof.prove()
    write = _log.info if result.ok else _log.warning
    for line in result.details:
        write("proof %s: %s (%.1f s)", proof.name, line, result.seconds)
    return result


def _read(path: Path) -> dict[str, ProofResult]:
    """What held before; a file that cannot be read is as good as none, for the proofs can be repeated."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: ProofResult.from_json(result) for name, result in values.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be used (%s): proofs are repeated", path, error)
        return {}


def _write(
    path: Path, proofs: Sequence[Proof], known: Mapping[str, ProofResult], results: Sequence[ProofResult]
) -> None:
    lasting = {proof.name for proof in proofs if proof.remember}
    held = {result.name: result for result in results if result.ok and not result.cached and result.name in lasting}
    if held:
        write_json(path, {name: result.to_json() for name, result in {**known, **held}.items()})

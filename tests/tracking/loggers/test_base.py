import pytest

from genai.errors import UsageError
from genai.tracking.loggers import LOGGERS, flatten


def test_a_config_is_flattened_as_it_was_written() -> None:
    config = {
        "model": {"name": "hf_causal_lm", "pretrained": True},
        "optimizer": {"lr": 5e-4, "betas": [0.9, 0.95]},
        "key": "env:TOKEN",
        "lr": "${variables.lr}",
        "empty": {},
        "none": None,
    }
    assert flatten(config) == {
        "model.name": "hf_causal_lm",
        "model.pretrained": "True",
        "optimizer.lr": "0.0005",
        "optimizer.betas.0": "0.9",
        "optimizer.betas.1": "0.95",
        "key": "env:TOKEN",
        "lr": "${variables.lr}",
        "empty": "{}",
        "none": "None",
    }


def test_the_built_in_loggers_and_a_misspelt_one() -> None:
    assert {"tensorboard", "mlflow", "wandb"} <= set(LOGGERS.names())
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        LOGGERS.get("tensorbord")

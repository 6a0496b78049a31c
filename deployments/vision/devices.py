"""Where torch networks run and with which precision, from the settings. Knows nothing of Ray."""

import torch

from configs.settings import Settings
from storage.errors import ConfigurationError


def torch_device(settings: Settings) -> torch.device:
    """``auto`` is the first GPU where there is one.

    Raises:
        ConfigurationError: a GPU is asked for and there is none.
    """
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigurationError(f"SAFEGUARD_DEVICE={settings.device}, but torch finds no CUDA device here")
    return torch.device(settings.device)


def torch_dtype(settings: Settings) -> torch.dtype:
    """``auto`` is float16 on a GPU and float32 on a CPU."""
    if settings.dtype == "auto":
        return torch.float16 if torch_device(settings).type == "cuda" else torch.float32
    chosen: torch.dtype = getattr(torch, settings.dtype)
    return chosen

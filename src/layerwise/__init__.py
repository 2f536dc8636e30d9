"""Layerwise: the deep-learning landscape as one package on PyTorch. Names are loaded when first used; importing this
imports no torch.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from layerwise.api.infer import evaluate as evaluate
    from layerwise.api.infer import generate as generate
    from layerwise.api.infer import predict as predict
    from layerwise.api.models import create_model as create_model
    from layerwise.api.models import from_pretrained as from_pretrained
    from layerwise.api.models import list_models as list_models
    from layerwise.api.models import save_pretrained as save_pretrained
    from layerwise.api.models import train as train
    from layerwise.api.train import Run as Run
    from layerwise.api.train import load_run as load_run

_PUBLIC = {
    "Run": "layerwise.api.train",
    "create_model": "layerwise.api.models",
    "evaluate": "layerwise.api.infer",
    "from_pretrained": "layerwise.api.models",
    "generate": "layerwise.api.infer",
    "list_models": "layerwise.api.models",
    "load_run": "layerwise.api.train",
    "predict": "layerwise.api.infer",
    "save_pretrained": "layerwise.api.models",
    "train": "layerwise.api.models",
}
__all__ = ["__version__", *_PUBLIC]  # pyright: ignore[reportUnsupportedDunderAll]


class _Package(ModuleType):
    """Loads public names when first used, and keeps `layerwise.train` the function when the folder `layerwise.train`
    is imported.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'layerwise' has no attribute {name!r}")
        return getattr(importlib.import_module(_PUBLIC[name]), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):  # a sub-package of a public function's name
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Package

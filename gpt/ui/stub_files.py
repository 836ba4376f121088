"""What spares Gradio's import half of its time."""

from __future__ import annotations

import importlib.machinery
from collections.abc import Sequence
from types import ModuleType


class WithoutStubFiles:
    """Spares Gradio, while it is imported, a comparison of its 81 components with their .pyi files: half of the time.

    The comparison serves those who write components; without it, all else is the same.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the one module that does it, and take its work away once it is loaded."""
        if name != "gradio.component_meta":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_without(module: ModuleType) -> None:
                load(module)
                vars(module)["create_or_modify_pyi"] = lambda *_: None

            spec.loader.exec_module = load_without  # type: ignore[method-assign]
        return spec

"""To and from other forms: ONNX, and the checkpoints of the paper's authors."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "onnx_export": ["export_onnx"],
        "onnx_network": ["OnnxNetwork"],
        "seglab": ["convert_seglab_checkpoint"],
    },
)

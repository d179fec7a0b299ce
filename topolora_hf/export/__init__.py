"""To and from other forms: ONNX, and the checkpoints of the paper's authors."""

"""ONNX files: one room per step, from the bytes on the disk to a `Model`."""

"""Keras files of every version and container."""

"""A model folder: config.json, safetensors files, and the hub that they come from."""

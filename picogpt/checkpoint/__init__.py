"""A model folder: config.json, safetensors files, how it writes; and the hub that it comes from."""

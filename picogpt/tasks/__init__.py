"""The tasks of "Build GPT-2": their files, features, a head, fine-tuning and metrics."""
